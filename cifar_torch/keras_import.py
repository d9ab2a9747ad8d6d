"""A Keras model file of this network -> a checkpoint."""

import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cifar_torch.checkpoint import Checkpoint, versions
from cifar_torch.data import CIFAR10_CLASSES
from cifar_torch.errors import UserError
from cifar_torch.images import IMAGE_SIZE
from cifar_torch.model import CifarNet

# Mean and deviation, of pixels / 255, for each scale on which people give pixels to a network.
PIXELS = {"unit": (0.0, 1.0), "signed": (0.5, 0.5), "bytes": (0.0, 1 / 255)}
TOLERANCE = 1e-4  # of log-probabilities, relative and absolute; float32 differs by a tenth of it
TINY = 1e-30  # probabilities from here down are equals


def import_keras(
    path: str | Path, class_names: Sequence[str] | None = None, pixels: str = "unit"
) -> Checkpoint:
    """The checkpoint with the weights of a Keras model, `.keras` or `.h5`. Never runs code from the
    file.

    That it is this network is seen by its answers: both are asked about the same random images.
    What cannot be seen is the scale of the pixels that it was trained on, one of PIXELS; with a
    Rescaling layer of its own it is "unit". `class_names` are in the order of its outputs; default:
    CIFAR-10's, where there are ten. Raises UserError: Keras is missing or too old, no such file,
    not a Keras model, another network.
    """
    path = Path(path)
    keras_model = _load(path)
    weights = [array for layer in keras_model.layers for array in layer.get_weights()]
    odd = {str(array.dtype) for array in weights} - {"float32"}
    if odd:
        raise UserError(f"{path} has weights in {', '.join(odd)}; they must be float32.")
    if not all(np.isfinite(array).all() for array in weights):
        raise UserError(f"{path} has weights that are no numbers.")
    count = len(weights[-1]) if weights else 0
    mean, std = PIXELS[pixels]
    rates = {layer.rate for layer in keras_model.layers if hasattr(layer, "rate")}
    dropout = {"dropout": rates.pop()} if len(rates) == 1 else {}  # else ours, as answers need none
    model = CifarNet(max(count, 1), mean=[mean] * 3, std=[std] * 3, **dropout).eval()
    try:
        with torch.no_grad():
            for ours, theirs in zip(model.parameters(), weights, strict=True):
                ours.copy_(_converted(theirs, ours))
    except (ValueError, RuntimeError) as error:
        found = ", ".join(str(array.shape) for array in weights)
        raise UserError(
            f"{path} holds another network than this one: its weights are {found}. "
            "`python -m cifar_torch summary` shows the layers that are needed."
        ) from error
    names = _names(path, count, class_names)
    _compare(path, keras_model, model)
    config = {
        "architecture": "CifarNet",
        "class_names": list(names),
        "imported_from": path.name,
        "versions": versions(),
    }
    return Checkpoint(model, config)


def _load(path: Path) -> Any:
    if not path.exists():
        raise UserError(f"there is no file {path}.")
    if path.is_dir() or path.suffix not in (".keras", ".h5", ".hdf5"):
        raise UserError(f"{path} is neither a .keras nor a .h5 file.")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise UserError(f"{path} is cut off, or no .keras file.")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("KERAS_TORCH_DEVICE", "cpu")  # a GPU's convolutions are less exact
    try:
        import keras
    except ImportError as error:
        raise UserError(
            f"reading a Keras model needs a package that is not here ({error.name}): "
            "pip install keras."
        ) from error
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 12):
        raise UserError(
            f"Keras {keras.__version__} may run code out of a model's file: pip install -U keras."
        )
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever it is: Keras raises nearly every kind
        reason = str(error).partition("\n")[0] or type(error).__name__
        if "safe_mode" in reason:
            reason = "it holds code of its own, as a Lambda layer does, which is never run."
        raise UserError(f"Keras cannot read {path}: {reason}") from error
    for layer in model.layers:
        layer.dtype_policy = "float32"  # as the answers that it is compared with
    return model


def _names(path: Path, count: int, given: Sequence[str] | None) -> Sequence[str]:
    """The names of `count` classes. Raises UserError: none are known, or not so many."""
    if count < 2:
        raise UserError(f"{path} has {count} output; a softmax over 2 classes or more is needed.")
    if given is None and count != len(CIFAR10_CLASSES):
        raise UserError(
            f"{path} has {count} classes; name them in the order of its outputs, as in "
            "--class-names cat dog."
        )
    names = CIFAR10_CLASSES if given is None else given
    if len(names) != count:
        raise UserError(
            f"{path} has {count} classes, and the names are {len(names)}: {', '.join(names)}."
        )
    plain = all(name and name == name.strip() and name.isprintable() for name in names)
    if len(set(names)) != count or not plain:
        raise UserError(f"the class names must differ and be plain text: {list(names)!a}.")
    return names


def _converted(array: np.ndarray, like: Tensor) -> Tensor:
    """A Keras weight in PyTorch's layout. Raises RuntimeError, ValueError: it does not fit."""
    tensor = torch.from_numpy(array)
    if tensor.ndim == 4:  # (height, width, in, out)
        tensor = tensor.permute(3, 2, 0, 1)
    elif tensor.ndim == 2:  # (in, out)
        tensor = tensor.T
    if tensor.shape != like.shape:
        raise ValueError(f"{tuple(tensor.shape)} is not {tuple(like.shape)}")
    if like.shape[1:] == (2048,):  # Keras flattens (height, width, channels)
        tensor = tensor.unflatten(1, (4, 4, 128)).permute(0, 3, 1, 2).flatten(1)
    return tensor


@torch.no_grad()
def _compare(path: Path, keras_model: Any, model: CifarNet) -> None:
    """Raises UserError: the same weights give other answers."""
    generator = torch.Generator().manual_seed(0)
    shape = (16, 3, IMAGE_SIZE, IMAGE_SIZE)
    # Of much to little contrast: a network that is sure of all it sees would hide what it computes.
    contrast = torch.logspace(0.5, -2.5, shape[0])[:, None, None, None]
    images = torch.randint(256, shape, generator=generator) * contrast
    ours = model(images).log_softmax(dim=1)
    try:
        # Pixels as it was trained on them, or as they are, into a Rescaling layer.
        theirs = [
            _log_probabilities(keras_model.predict(x.permute(0, 2, 3, 1).numpy(), verbose=0))
            for x in (model.normalise(images), images)
        ]
    except Exception as error:  # whatever Keras raises of inputs and outputs that are others
        raise UserError(
            f"{path} does not take pictures (32, 32, 3) and give one answer for each."
        ) from error
    floor = math.log(TINY)
    if not any(
        torch.allclose(x.clamp(floor), ours.clamp(floor), rtol=TOLERANCE, atol=TOLERANCE)
        for x in theirs
    ):
        raise UserError(
            f"{path} has weights like this network's, but its answers differ: an activation, a "
            "padding, a pooling, something before the first layer, or the scale of its pixels "
            "(--pixels) is another one."
        )


def _log_probabilities(answers: np.ndarray) -> Tensor:
    """The logarithms of the model's answers, through a softmax where it ends without one."""
    if np.allclose(answers.sum(axis=1), 1, atol=1e-3):
        return torch.from_numpy(answers).clamp(TINY).log()
    return torch.from_numpy(answers).log_softmax(dim=1)
