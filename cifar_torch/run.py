"""The state of a training run: all that changes while it trains, saved and loaded as one."""

import json
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cifar_torch.checkpoint import CONFIG, STATE
from cifar_torch.data import CIFAR10_CLASSES
from cifar_torch.errors import ReasonedError, UserError
from cifar_torch.files import put_back
from cifar_torch.model import CifarNet
from cifar_torch.recipes import Recipe
from cifar_torch.step import FlatNet, make_optimizer

AVERAGE_EVERY = 8  # steps: the moving average then costs an eighth of the time, and is as good
WARM = 80  # steps in which it moves at every one: a short run has few
NAMES_FOR_PEOPLE = {
    "name": "recipe",
    "started_from": "--start-from",
    "class_names": "set of classes",
    "from_folder": "--image-folder",
    "train_images": "number of training images",
    "images": "set of training images",
    "test_images": "set of test images",
}


class Run:
    """Everything that changes while training, and so everything that is saved to go on later."""

    def __init__(self, model: CifarNet, recipe: Recipe):
        self.weights = FlatNet(model)
        self.optimizer = make_optimizer(self.weights, recipe)
        self.average = FlatNet(deepcopy(model)) if recipe.averaging else None
        self.step = 0  # optimizer steps done, over all epochs
        self.seconds = 0.0  # spent in the steps of the epoch under way
        self.sums = self.weights.vectors[0].new_zeros(2)  # the epoch's loss and right answers
        self.history: list[dict[str, float]] = []

    @property
    def result(self) -> CifarNet:
        """The network that is validated and kept: the moving average where the recipe has one."""
        return (self.average or self.weights).network

    def tensors(self) -> dict[str, Tensor]:
        """All of the tensors by name; themselves, not copies."""
        parts = {"sums": self.sums}
        for name, vector in zip(("kernels", "biases"), self.weights.vectors, strict=True):
            parts[name] = vector
            parts[f"momentum.{name}"] = self.optimizer.state[vector]["momentum_buffer"]
        if self.average:
            parts |= zip(("average.kernels", "average.biases"), self.average.vectors, strict=True)
        return parts

    @property
    def position(self) -> dict[str, Any]:
        """Where the run is, but for its tensors; to be set too."""
        return {"step": self.step, "seconds": self.seconds, "history": self.history}

    @position.setter
    def position(self, value: dict[str, Any]) -> None:
        self.step, self.seconds, self.history = (value[k] for k in ("step", "seconds", "history"))

    def save(self, out: Path, settings: dict[str, Any]) -> None:
        """Write the state into a checkpoint folder; a run with the same `settings` can go on."""
        meta = {"run": json.dumps(self.position), "settings": json.dumps(settings)}
        tensors = {name: t.cpu().contiguous() for name, t in self.tensors().items()}
        save_file(tensors, out / STATE, meta)

    def load(self, out: Path, settings: dict[str, Any]) -> None:
        """Take over the state in a checkpoint folder. Raises UserError: there is none, it is
        damaged, or of a run with other settings (reason "other_run")."""
        path = out / STATE
        if not path.exists():
            raise UserError(f"{out} holds no unfinished run to resume.")
        try:
            with safe_open(path, "pt") as file:
                meta = file.metadata()
                # Of what was not noted yet when it was begun, it had what this one has.
                before = settings | {"started_from": None} | _settings(meta)
                if found := difference(before, settings):
                    name, then, now = found
                    raise ReasonedError(
                        "other_run",
                        f"{out} was begun with another {name} ({then}, now {now}); resume it with "
                        "the same, or choose another --out.",
                    )
                for name, tensor in self.tensors().items():
                    tensor.copy_(file.get_tensor(name))
                self.position = json.loads(meta["run"])
        except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ReasonedError(
                "damaged_run",
                f"{path} is damaged and cannot be resumed ({error}); choose another --out.",
            ) from error

    def update_average(self, decay: float) -> None:
        """Move the average, every AVERAGE_EVERY steps; early on it forgets faster."""
        every = AVERAGE_EVERY if self.step > WARM else 1
        if self.average and self.step % every == 0:
            keep = min(decay**every, self.step / (self.step + 9 * every))
            torch._foreach_lerp_(self.average.vectors, self.weights.vectors, 1 - keep)


@dataclass(frozen=True)
class Begun:
    """What an unfinished run was begun with."""

    recipe: Recipe
    seed: int
    precision: str
    from_folder: bool
    origin: str


def begun_with(out: Path) -> Begun | None:
    """What the unfinished run in a checkpoint folder was begun with; None: there is no such run, or
    none that can be read."""
    put_back(out)  # whose writer was killed
    try:
        with safe_open(out / STATE, "pt") as file:
            settings = _settings(file.metadata())
        seed, precision, classes = (settings[k] for k in ("seed", "precision", "class_names"))
        from_folder = settings.get("from_folder", tuple(classes) != CIFAR10_CLASSES)
        origin = json.loads((out / CONFIG).read_text("utf-8"))["data"]["origin"]
        return Begun(Recipe(**settings["recipe"]), seed, precision, from_folder, origin)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, UserError):
        return None


def _settings(meta: dict[str, str]) -> dict[str, Any]:
    """A run that was begun before there was some knob had it at its default."""
    settings = json.loads(meta["settings"])
    return settings | {"recipe": asdict(Recipe()) | settings["recipe"]}


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first of the settings that differs, and what it is in both."""
    for name in {**other, **one}:
        a, b = one.get(name), other.get(name)
        if a != b:
            if isinstance(a, dict) and isinstance(b, dict):
                return difference(a, b)
            return NAMES_FOR_PEOPLE.get(name, name), a, b
    return None
