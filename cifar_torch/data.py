"""CIFAR-10, or a folder of images -> what to train and to test on."""

import hashlib
import urllib.error
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cifar_torch.errors import ReasonedError, UserError
from cifar_torch.image_folder import read_image_folder, say_folders_passed_over

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR10_ORIGIN = "CIFAR-10 (torchvision)"
SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}
HELD_OUT_SHARE = 0.1  # of a folder that has no test/ of its own
SPLIT_SEED = 20_240_411  # what is held out is part of the data: the same for every run and seed


@dataclass(frozen=True)
class Split:
    """Images (N, 3, 32, 32) uint8 and their labels (N,) int64, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> "Split":
        return Split(self.images[index], self.labels[index])

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits, the same for the same images and labels."""
        digest = hashlib.sha256()
        for tensor in (self.images, self.labels):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Data:
    """What to train on, what to test on, and where it came from, in words for the model card."""

    train: Split
    test: Split
    class_names: tuple[str, ...]
    origin: str
    from_folder: bool = False  # or a zip of one: not CIFAR-10 as torchvision loads it
    unused: int = 0  # files of that zip which cannot be read, or are in no folder of a class

    def hold_out(self, share: float) -> tuple[Split, Split]:
        """The training images without a fixed `share` of them, and that share."""
        count = len(self.train)
        held = _share_of(count, share)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))
        return self.train[order[held:].sort().values], self.train[order[:held].sort().values]

    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the training pixels / 255, by channel."""
        counts = torch.stack(
            [torch.bincount(c.flatten(), minlength=256) for c in self.train.images.unbind(1)]
        )
        values = torch.arange(256, dtype=torch.float64) / 255
        shares = counts.double() / counts.sum(dim=1, keepdim=True)
        mean = shares @ values
        std = (shares @ values**2 - mean**2).sqrt().clamp(min=1e-3)
        return [round(v, 4) for v in mean.tolist()], [round(v, 4) for v in std.tolist()]


def _share_of(count: int, share: float) -> int:
    """How many of `count` images are held out: at least one, but never all."""
    return min(max(1, round(count * share)), count - 1)


def load_data(
    image_folder: str | Path | None, cifar10: str | Path = "data", strict: bool = False
) -> Data:
    """The folder of images, else CIFAR-10. Raises UserError, as the two functions below."""
    return load_image_folder(image_folder, strict) if image_folder else load_cifar10(cifar10)


# ------------------------------------------------------------------------------------ CIFAR-10


def load_cifar10(root: str | Path = "data", download: bool = True) -> Data:
    """CIFAR-10 through torchvision, downloaded into `root` where it is not there yet.

    Raises UserError: no network, a damaged download, a folder that cannot be written.
    """
    from torchvision.datasets import CIFAR10  # here: serving must not need torchvision

    root = Path(root)
    archive = root / CIFAR10.filename
    by_hand = (
        f"download {CIFAR10.url} on another machine, put it at {archive} "
        "(do not unpack it), and run this again"
    )
    try:
        splits = [CIFAR10(root, train=train, download=download) for train in (True, False)]
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise UserError(
            f"cannot download CIFAR-10 ({getattr(error, 'reason', error)}). Check the network, or "
            f"{by_hand}; your own pictures work with --image-folder."
        ) from error
    except OSError as error:
        raise UserError(f"cannot write CIFAR-10 to {root}: {error}.") from error
    except RuntimeError as error:  # torchvision's word for an MD5 that does not match
        if not download:
            raise UserError(f"no CIFAR-10 in {root}: {by_hand}.") from error
        raise UserError(
            f"{archive} is not the real CIFAR-10 archive (its checksum is wrong). Delete it and "
            f"run this again, or {by_hand}."
        ) from error
    train, test = (
        Split(
            torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(),
            torch.tensor(split.targets, dtype=torch.int64),
        )
        for split in splits
    )
    return Data(train, test, tuple(splits[0].classes), CIFAR10_ORIGIN)


# ------------------------------------------------------------------------------ image folders


def load_image_folder(folder: str | Path, strict: bool = False, cached: bool = True) -> Data:
    """A folder of class-named subfolders of images, with train/ and test/ or without.

    Without them a fixed tenth of each class is held out for the test. Unreadable images are
    skipped and counted, or an error with `strict`. What is decoded is kept for the next time,
    unless it is not to be `cached`. Raises UserError.
    """
    folder = Path(folder)
    there = [name for name in ("train", "test") if (folder / name).is_dir()]
    if len(there) == 1 and any(path.is_dir() for path in (folder / there[0]).iterdir()):
        missing = "test" if there == ["train"] else "train"
        raise ReasonedError(
            "split_missing",
            f"{folder} has no {missing}/; give it one, or name the other one directly.",
            missing,
        )
    if len(there) == 2:  # one alone, without folders in it, is a class, of vehicles for one
        say_folders_passed_over(folder, there)
        train, names = _load_split(folder / "train", strict, cached)
        test, _ = _load_split(folder / "test", strict, cached, names)
    else:
        everything, names = _load_split(folder, strict, cached)
        if {name.lower() for name in names} <= SPLIT_NAMES:
            raise ReasonedError(
                "split_names",
                f"the folders of {folder} are called {', '.join(names)}; for their classes to be "
                "found, call them train and test.",
            )
        in_test = _held_out(everything)
        train, test = everything[~in_test], everything[in_test]
        if not len(test):
            raise ReasonedError(
                "too_few",
                f"{folder} has one image of each class: none is left to test on; add images.",
            )
    origin = f"images of the folder {folder.resolve().name}"
    return Data(train, test, names, origin, from_folder=True)


def load_test_images(
    folder: str | Path,
    class_names: tuple[str, ...],
    strict: bool = False,
    held_out: bool = False,
) -> Split:
    """`folder/test` where that is, else all of `folder`, or with `held_out` that part of it which
    training holds out; labelled as in `class_names`. Raises UserError."""
    folder = Path(folder)
    if (folder / "test").is_dir():
        return _load_split(folder / "test", strict, class_names=class_names)[0]
    split = _load_split(folder, strict, class_names=class_names)[0]
    return split[_held_out(split)] if held_out else split


def _held_out(split: Split) -> Tensor:
    """Which images (N,) bool are the test of a folder that has none of its own: a fixed tenth of
    each class, whatever the classes' order. It is those whose pixels have the lowest hashes, so
    that a picture that is added later brings at most one of the others into the test."""
    hashes = torch.tensor([_hash(image) for image in split.images])
    held = torch.zeros(len(split), dtype=torch.bool)
    for label in split.labels.unique():
        indices = (split.labels == label).nonzero().flatten()
        lowest = hashes[indices].argsort(stable=True)[: _share_of(len(indices), HELD_OUT_SHARE)]
        held[indices[lowest]] = True
    return held


def _hash(image: Tensor) -> int:
    digest = hashlib.blake2b(image.contiguous().numpy().data, digest_size=7)
    return int.from_bytes(digest.digest(), "big")  # of 56 bits, which an int64 holds


def _load_split(
    folder: Path,
    strict: bool,
    cached: bool = True,
    class_names: tuple[str, ...] | None = None,
) -> tuple[Split, tuple[str, ...]]:
    images, labels, names = read_image_folder(folder, class_names, strict, cached)
    return Split(images, labels), names
