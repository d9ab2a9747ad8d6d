"""The pictures on this machine: to train on, to draw from, and to look for mistakes in."""

import functools
import os
from pathlib import Path

from cifar_torch.classifier import Classifier
from cifar_torch.data import (
    CIFAR10_CLASSES,
    Data,
    Split,
    load_cifar10,
    load_data,
    load_test_images,
)
from cifar_torch.errors import UserError
from cifar_torch.webui.options import IMAGE_FOLDER

CIFAR10_FOLDER = Path("data")


def training_data() -> Data:
    """The image folder, else CIFAR-10, which is downloaded the first time. Raises UserError."""
    return load_data(_image_folder(), CIFAR10_FOLDER)


def has_test_images() -> bool:
    return bool(_image_folder()) or (CIFAR10_FOLDER / "cifar-10-batches-py").is_dir()


def images_for(classifier: Classifier) -> Split:
    """The test images of the image folder, those that training holds out where it has no test/,
    else of CIFAR-10. Raises UserError: there are none of the classifier's classes."""
    if folder := _image_folder():
        return load_test_images(folder, classifier.class_names, held_out=True)
    if classifier.class_names != CIFAR10_CLASSES:
        raise UserError("there are no test images of the classes of this model here.")
    return _cifar10()


@functools.cache  # unlike a folder it never changes, and takes a second to read
def _cifar10() -> Split:
    return load_cifar10(CIFAR10_FOLDER, download=False).test


def _image_folder() -> str | None:
    return os.environ.get(IMAGE_FOLDER)
