"""A checkpoint folder: weights, config and metrics, written so that no reader sees half of one."""

import csv
import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

import cifar_torch
from cifar_torch.errors import UserError
from cifar_torch.files import (
    copy_into,
    entries,
    folder_identity,
    places,
    put_back,
    recover_folder,
    replaced_folder,
    require_text,
)
from cifar_torch.model import LAST, SETTINGS, CifarNet

WEIGHTS, CONFIG, METRICS, HISTORY, CARD = (
    "model.safetensors",
    "config.json",
    "metrics.json",
    "history.csv",
    "README.md",
)
FIGURES = {
    "curves.png": "accuracy and loss by epoch",
    "confusion.png": "which class is taken for which",
    "reliability.png": "confidence against the share that is right",
}
STATE = "training_state.safetensors"  # what a resumed run needs; gone once the run has ended
OURS = {WEIGHTS, CONFIG, METRICS, HISTORY, CARD, STATE, *FIGURES}


@dataclass
class Checkpoint:
    """What a checkpoint folder holds. `config` gets the network's own settings at its top level,
    where huggingface_hub looks for them."""

    model: CifarNet
    config: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    folder: Path | None = None

    def __post_init__(self) -> None:
        self.config = self.config | self.model.settings()

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.config["class_names"])

    @property
    def title(self) -> str:
        return (
            self.folder.resolve().name
            if self.folder
            else self.config.get("recipe", {}).get("name", "")
        )

    @property
    def mirror(self) -> bool:
        """Whether the answers for a picture and its mirror image are averaged."""
        return bool(self.config.get("mirror", False))

    @property
    def temperature(self) -> float:
        """By which logits are divided, fitted on held-out images; 1 where there were none."""
        return float(self.config.get("temperature", 1.0))

    @property
    def none_below(self) -> float | None:
        """The familiarity below which the answer is «none of these»; None: it never is."""
        return self.config.get("none_below")

    def give_weights_to(self, model: CifarNet, class_names: Sequence[str]) -> None:
        """Copy the weights into another network; all but the last layer's, unless it has the same
        classes in the same order."""
        weights = self.model.state_dict()
        if tuple(class_names) != self.class_names:
            weights = {k: v for k, v in weights.items() if not k.startswith(f"layers.{LAST}.")}
        model.load_state_dict(model.state_dict() | weights)


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a checkpoint folder; the model is in eval mode on the CPU. Never unpickles.

    Raises UserError: no such folder, a file missing, damaged or not of this network.
    """
    folder = Path(folder)
    while True:
        before = folder_identity(folder)
        try:
            checkpoint = _read(folder)
        except UserError:
            if folder_identity(folder) == before and (before or not put_back(folder)):
                raise
        else:
            if folder_identity(folder) == before:
                return checkpoint
        # The folder was replaced while it was read: read the new one.


def _read(folder: Path) -> Checkpoint:
    if not folder.is_dir():
        raise UserError(f"there is no checkpoint folder {folder}; train.py makes one.")
    config = _read_json(folder / CONFIG)
    try:
        with torch.device("meta"):  # no memory and no random numbers for weights that are read
            model = CifarNet(**{name: config[name] for name in SETTINGS if name in config})
        config.setdefault("class_names", [f"class {i}" for i in range(model.num_classes)])
        _check(config, model)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder / CONFIG} does not describe a CifarNet: {error}.") from error
    try:
        # Copied: what load_file gives is the file itself, which somebody may write over.
        weights = {name: w.clone() for name, w in load_file(folder / WEIGHTS).items()}
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {WEIGHTS}; it is not a whole checkpoint.") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder / WEIGHTS} is damaged: {error}.") from error
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{folder / WEIGHTS} holds another network: {reason}") from error
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise UserError(f"{folder / WEIGHTS} holds weights that are no numbers.")
    history = _read_history(folder / HISTORY)
    return Checkpoint(model.eval(), config, read_metrics(folder), history, folder)


def _check(config: dict[str, Any], model: CifarNet) -> None:
    """Raises ValueError, TypeError: something in the config cannot be worked with."""
    names, none_below = config["class_names"], config.get("none_below")
    if lacking := {"mean", "std"} - config.keys():
        raise ValueError(f"it lacks {' and '.join(sorted(lacking))}")
    for key in ("data", "recipe", "versions"):
        if not isinstance(config.get(key, {}), dict):
            raise ValueError(f"{key} is not an object")
    if not isinstance(config.get("notes", ""), str):
        raise ValueError("notes is not a text")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("class_names is not a list of names")
    if not len(names) == len(set(names)) == model.num_classes:
        raise ValueError("class_names are not num_classes different names")
    if model.num_classes < 2:
        raise ValueError("it has fewer than 2 classes")
    if not 1e-3 < config.get("temperature", 1.0) < 1e3:
        raise ValueError("temperature is not a number between 0.001 and 1000")
    if none_below is not None and not -1e9 < none_below < 1e9:
        raise ValueError("none_below is not a number between -1e9 and 1e9")
    if not all(map(math.isfinite, [*model.mean, *model.std])) or min(model.std) <= 0:
        raise ValueError("mean and std are not numbers, or std is not above 0")


def read_metrics(folder: Path) -> dict[str, Any]:
    """The figures of a checkpoint folder alone, without its weights. Raises UserError."""
    return _read_json(folder / METRICS) if (folder / METRICS).exists() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} has no {path.name}; it is not a checkpoint.") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged: {error}.") from error


def _read_history(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    except (ValueError, TypeError, csv.Error, OSError) as error:
        raise UserError(f"{path} is damaged: {error}.") from error


def save_checkpoint(
    checkpoint: Checkpoint,
    folder: str | Path,
    extras: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write a checkpoint folder in one step. `extras` writes more files (figures, card) into it.
    What people have put beside them stays."""
    with replaced_folder(Path(folder)) as new:
        checkpoint.model.save_pretrained(new, config=checkpoint.config)
        (new / WEIGHTS).chmod(0o644)  # safetensors lets only the owner read
        (new / CARD).unlink(missing_ok=True)  # the mixin's empty card; ours comes below
        write_json(new / METRICS, checkpoint.metrics)
        if checkpoint.history:
            with (new / HISTORY).open("w", newline="") as file:
                writer = csv.DictWriter(file, list(checkpoint.history[0]))
                writer.writeheader()
                writer.writerows(checkpoint.history)
        extras(new)
        for path in Path(folder).glob("*"):
            if path.name not in OURS:
                copy_into(new, path)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def check_destination(out: Path, going_on: bool = False, resume: bool = False) -> None:
    """Raises UserError where the checkpoint `out` cannot be written, or would replace anything but
    the unfinished run that is going on; with `resume` there must be one."""
    require_text(out)
    recover_folder(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; choose a new folder with --out.")
    free = not out.exists() or not any(out.iterdir())
    if (out / STATE).exists():
        if not going_on:
            raise UserError(
                f"{out} holds an unfinished run; --resume goes on with it, or choose another --out."
            )
    elif resume and not out.exists():
        raise UserError(f"{out} holds no unfinished run to resume.")
    elif not free:
        more = f" --start-from {out} trains its weights on." if resume else ""
        raise UserError(
            f"{out} holds a finished run or other files; choose a new folder with --out.{more}"
        )
    if Path.cwd().is_relative_to(out.resolve()):  # a folder is replaced when it is written
        raise UserError(
            f"{out} is the folder that you are in; go to another one, or choose another --out."
        )
    if os.path.ismount(out):
        raise UserError(f"{out} is a mount point; choose a new folder in it with --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out.parent}: {error.strerror}.") from error
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"cannot write to {out.parent}: permission denied.")


def versions() -> dict[str, str]:
    return {
        "cifar_torch": cifar_torch.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def list_checkpoints(folder: str | Path = "checkpoints") -> list[Path]:
    """The checkpoint folders in `folder`: best first, the rest by name."""
    found = [
        path
        for path in entries(Path(folder))
        if any((place / WEIGHTS).exists() for place in places(path))
    ]
    return sorted(found, key=lambda path: (path.name != "best", path.name))
