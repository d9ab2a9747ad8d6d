"""The processes of one training run: one, or as many as torchrun started."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from cifar_torch.device import choose_device
from cifar_torch.errors import UserError

T = TypeVar("T")
PATIENCE = timedelta(hours=12)  # while one process trains the teachers, the others wait


@dataclass(frozen=True)
class Processes:
    """This process among `count`, with its device. The first one (rank 0) prints and writes."""

    device: torch.device
    rank: int = 0
    count: int = 1
    restarted: bool = False  # by torchrun, after one of them had died
    waiting_group: Any = None  # the group in which they wait for what one of them does alone

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, values: Tensor) -> Tensor:
        """This process's part of a global batch: every `count`-th row."""
        return values[self.rank :: self.count] if self.count > 1 else values

    def sum(self, values: Tensor) -> Tensor:
        """`values` summed over the processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process; all of them must ask at the same time."""
        if self.count == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, in all of them; so with what it raises."""
        if self.count == 1:
            return make()
        outcome: list[Any] = [*_attempt(make)] if self.first else [None, None]
        dist.broadcast_object_list(outcome, 0, self.waiting_group)
        made, failure = outcome
        if failure:
            raise failure
        return made

    def gather(self, value: T) -> list[T]:
        """Every process's `value`, in all of them, the first one's first."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, self.waiting_group)
        return values

    def one_a_machine_first(self, load: Callable[[], T]) -> T:
        """What `load` gives, called in one process of each machine before the others: it may
        download or decode what the others then find. What it raises there is raised in all."""
        if self.count == 1:
            return load()
        one = os.environ.get("LOCAL_RANK") == "0"
        loaded, failure = _attempt(load) if one else (None, None)
        for raised in self.gather(failure):  # the others wait here
            if raised:
                raise raised
        return load() if loaded is None else loaded


def _attempt(make: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What `make` gives, or what it raises."""
    try:
        return make(), None
    except Exception as error:
        return None, error


@contextmanager
def join_processes(device: str = "auto") -> Iterator[Processes]:
    """Meet the other processes that torchrun started, if it did. Raises UserError."""
    chosen = choose_device(device)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if count == 1:
        if chosen.type == "cuda" and chosen.index is not None:
            torch.cuda.set_device(chosen)  # streams and graphs belong to the current device
        yield Processes(chosen, restarted=restarts > 0)
        return
    if chosen.type == "mps":
        raise UserError("several processes need --device cpu or cuda.")
    if chosen.type == "cuda":
        number, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= gpus:
            raise UserError(
                f"this machine has fewer GPUs ({gpus}) than processes were started on it; start "
                f"--nproc-per-node={gpus}, or train with --device cpu."
            )
        chosen = torch.device("cuda", number)
        torch.cuda.set_device(chosen)
    # torchrun's store keeps the addresses of processes that died: each attempt has its own keys.
    store, rank, _ = next(dist.rendezvous("env://"))
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        store=dist.PrefixStore(f"attempt {restarts}", store),
        rank=rank,
        world_size=count,
    )
    try:
        waiting_group = dist.new_group(backend="gloo", timeout=PATIENCE)
        yield Processes(chosen, rank, count, restarts > 0, waiting_group)
    finally:
        dist.destroy_process_group()
