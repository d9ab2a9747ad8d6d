"""An image of any kind -> class, confidence, or «none of these»."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cifar_torch.checkpoint import (
    CONFIG,
    WEIGHTS,
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    read_metrics,
)
from cifar_torch.device import choose_precision
from cifar_torch.errors import UserError
from cifar_torch.evaluation import Views, log_probabilities, predict_logits
from cifar_torch.files import folder_identity
from cifar_torch.images import ImageSource, look_at


@dataclass(frozen=True)
class Answer:
    """What the classifier says of one picture.

    `class_name` is None for «none of these». `confidences` has every class, the likeliest first,
    as calibrated probabilities; `views` is what the network saw, (V, 32, 32, 3) uint8, first the
    whole picture.
    """

    class_name: str | None
    confidences: dict[str, float]
    views: np.ndarray = field(repr=False)

    @property
    def confidence(self) -> float:
        """Of the likeliest class, be it given as the answer or not."""
        return next(iter(self.confidences.values()))

    @property
    def pixels(self) -> np.ndarray:
        """The whole picture as the network saw it, (32, 32, 3) uint8."""
        view: np.ndarray = self.views[0]
        return view


class Classifier:
    """A checkpoint with its preprocessing and calibration. Safe to use from several threads.

    It computes in `precision` (auto, fp32 or bf16) on the CPU: in bf16, where the processor has it,
    several views of a picture take half the time, and confidences differ by some thousandths.
    """

    def __init__(self, checkpoint: Checkpoint, precision: str = "auto"):
        self.checkpoint = checkpoint
        self.class_names = checkpoint.class_names
        self.model = checkpoint.model.eval().to(memory_format=torch.channels_last)
        dtype, _ = choose_precision(precision, torch.device("cpu"))
        self._network = self.model if dtype == torch.float32 else self.model.in_precision(dtype)
        self.temperature, self.none_below = checkpoint.temperature, checkpoint.none_below
        self.mirror = checkpoint.mirror

    @classmethod
    def load(cls, folder: str | Path, precision: str = "auto") -> "Classifier":
        """The classifier of a checkpoint folder. Raises UserError."""
        return cls(load_checkpoint(folder), precision)

    def classify(self, source: ImageSource) -> Answer:
        """The answer for one picture: a path, bytes, PIL image or array. Raises ImageError."""
        return self.classify_views([look_at(source)])[0]

    def classify_views(self, pictures: Sequence[np.ndarray]) -> list[Answer]:
        """The answers for pictures as `look` gives them, each (V, 32, 32, 3) uint8."""
        views = self.views(pictures)
        probabilities = views.probabilities(self.temperature).numpy()
        familiar = [True] * len(pictures)
        if self.none_below is not None:
            familiar = (views.familiarity() >= self.none_below).tolist()
        rows = zip(probabilities, familiar, pictures, strict=True)
        return [self._answer(answer, known, picture) for answer, known, picture in rows]

    def views(self, pictures: Sequence[np.ndarray]) -> Views:
        """What the network makes of pictures as `look` gives them."""
        images = torch.from_numpy(np.concatenate(pictures)).permute(0, 3, 1, 2)
        return Views(self.logits(images), [len(picture) for picture in pictures])

    def probabilities(self, images: Tensor) -> Tensor:
        """Calibrated probabilities (N, classes) of images (N, 3, 32, 32) uint8."""
        return log_probabilities(self.logits(images), self.temperature).exp()

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, M, classes) of images (N, 3, 32, 32) uint8, before calibration: M = 2, of an
        image and its mirror image, where the recipe averages both, else 1."""
        return predict_logits(self._network, images, self.mirror)

    def _answer(self, probabilities: np.ndarray, familiar: bool, views: np.ndarray) -> Answer:
        order: Sequence[int] = np.argsort(-probabilities, kind="stable").tolist()
        confidences = {self.class_names[i]: float(probabilities[i]) for i in order}
        return Answer(self.class_names[order[0]] if familiar else None, confidences, views)


class UnknownModelError(UserError):
    """No checkpoint of the folder has that name."""


class Classifiers:
    """The checkpoints of a folder by name, each loaded when it is first asked for."""

    def __init__(self, folder: str | Path = "checkpoints", default: str | Path | None = None):
        """`default` is a checkpoint folder, which may lie elsewhere; where another one in `folder`
        has its name, it is called its second. Raises UserError."""
        self.folder = Path(folder)
        self._extra: dict[str, Path] = {}
        if default:
            path, name = Path(default), Path(default).resolve().name
            rival = self.folder / name
            taken = rival.exists() and not (path.exists() and rival.samefile(path))
            self._extra[f"{name} (2)" if taken else name] = path
        self._first = ""
        self._loaded: dict[Path, tuple[object, Classifier]] = {}
        self._lock = threading.Lock()
        self._first = next(iter(self.names()), "")
        if not self._first:
            raise UserError(f"there is no checkpoint in {self.folder}; train.py makes one.")

    def names(self) -> list[str]:
        """The default first, then best, then the rest by name. New folders appear at once, but
        what was first at the start stays first."""
        found = [*self._extra, *(path.name for path in list_checkpoints(self.folder))]
        return sorted(dict.fromkeys(found), key=lambda name: name != self._first)

    def check(self, name: str | None) -> str:
        """That name, or without one the first. Raises UnknownModelError, or UserError where no
        checkpoint is left."""
        names = self.names()
        if not names:
            raise UserError("there is no checkpoint any more; train.py makes one.")
        if name and name not in names:
            raise UnknownModelError(f"There is no model {name!r}; there are: {', '.join(names)}.")
        return name or names[0]

    def get(self, name: str | None = None) -> Classifier:
        """The classifier of that name, or the first; read again where its folder was replaced.
        Raises UserError."""
        folder = self._folder(self.check(name))
        version = folder_identity(folder), [_written(folder / file) for file in (WEIGHTS, CONFIG)]
        with self._lock:
            known = self._loaded.get(folder)
            if known is None or known[0] != version:
                known = self._loaded[folder] = (version, Classifier.load(folder))
            return known[1]

    def accuracy(self, name: str) -> float | None:
        """What its metrics say of its own test images; its weights are not loaded for that."""
        try:
            metrics = read_metrics(self._folder(name))
        except UserError:
            return None
        accuracy = None if metrics.get("measured_on") else metrics.get("accuracy")
        return accuracy if isinstance(accuracy, float) else None

    def _folder(self, name: str) -> Path:
        return self._extra.get(name, self.folder / name)


def _written(file: Path) -> tuple[int, int] | None:
    """Size and time of a file that somebody may copy another one over."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
