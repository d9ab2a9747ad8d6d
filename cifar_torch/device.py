"""Where to compute, in which precision, and with which settings of the process."""

import ctypes
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from cifar_torch.errors import ReasonedError, UserError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISION_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; auto takes CUDA, else the CPU. Raises UserError."""
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    kind, colon, index = name.partition(":")
    if kind not in available:
        raise UserError(f"unknown device {name!r}; there are: {', '.join(DEVICES)}.")
    if not available[kind]:
        raise UserError(
            f"this machine, or this build of PyTorch ({torch.__version__}), has no {kind} device; "
            "use --device cpu, or auto."
        )
    if colon and not (
        index.isdigit() and kind == "cuda" and int(index) < torch.cuda.device_count()
    ):
        raise UserError(f"there is no device {name!r} on this machine.")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype to multiply in, and why, in words. Weights and sums stay float32 in any case,
    but for the gradients that several processes add up. Raises UserError."""
    for dtype, known in PRECISION_NAMES.items():
        if name == known:
            slow = dtype == torch.bfloat16 != choose_precision("auto", device)[0]
            return dtype, "as asked, though it is slow here" if slow else "as asked"
    if name != "auto":
        raise UserError(f"unknown precision {name!r}; there are: auto, fp32, bf16.")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "this GPU has it"
        return torch.float32, "this GPU has no bf16"
    if device.type == "cpu":
        if _cpu_capabilities().get("amx_bf16"):
            return torch.bfloat16, "this processor has AMX"
        return torch.float32, "this processor has no AMX"
    return torch.float32, "bf16 is not tried on this device"


def prepare_cpu() -> None:
    """Settings of the process that make training on a CPU faster. Call it before the first work on
    large tensors: PyTorch's threads take over how their maker treats denormals when they are made.

    The momenta of dead units end as denormals, which cost a step several times as much.
    """
    keep_memory()
    torch.set_flush_denormal(True)


def keep_memory() -> bool:
    """Let the C library keep what a step frees, instead of taking zeroed pages from the kernel at
    every step: a quarter faster at batch 256. False where it cannot, as elsewhere than on Linux."""
    if sys.platform != "linux":
        return False
    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if not mallopt:
        return False
    # An older glibc takes no more than 32 MiB. If it takes neither, the other two would do harm.
    if not (mallopt(m_mmap_threshold, 1 << 30) or mallopt(m_mmap_threshold, 1 << 25)):
        return False
    return bool(mallopt(m_top_pad, 1 << 28) and mallopt(m_trim_threshold, (1 << 31) - 1))


@contextmanager
def out_of_memory_told() -> Iterator[None]:
    """Raises UserError in place of PyTorch's errors where memory does not suffice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not known and "can't allocate memory" not in str(error):  # the CPU's has no class
            raise
        raise ReasonedError(
            "memory", "there is not enough memory; a smaller --batch-size needs less of it."
        ) from error


def describe_hardware(device: torch.device, processes: int = 1) -> str:
    """The machine in a few words, for model cards and benchmarks."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        threads = torch.get_num_threads()
        name = (
            f"{_cpu_capabilities().get('cpu_name', 'CPU')}, {threads} thread{'s' * (threads > 1)}"
        )
    else:
        name = device.type.upper()
    return name if processes == 1 else f"{name}, {processes} processes"


def _cpu_capabilities() -> Mapping[str, Any]:
    """What the processor can do and its name, where this PyTorch can tell."""
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
