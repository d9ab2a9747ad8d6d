"""CIFAR-10, or a folder of images -> tensors."""

import hashlib
import json
import os
import sys
import unicodedata
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from cifar_torch.cache import cache_folder, keep
from cifar_torch.errors import ReasonedError, UserError
from cifar_torch.images import (
    EXTENSIONS,
    FORMATS_FOR_PEOPLE,
    IMAGE_SIZE,
    ImageError,
    look_at,
    open_image,
    to_pixels,
)

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR10_ORIGIN = "CIFAR-10 (torchvision)"
PREPROCESSING = 3  # counts its changes: pictures cached before the last one are read anew
SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}
HELD_OUT_SHARE = 0.1  # of a folder that has no test/ of its own
SPLIT_SEED = 20_240_411  # splits are part of the data: the same for every run and every seed


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
    unused: int = 0  # files of that zip which are no pictures that can be read

    def hold_out(self, share: float) -> tuple[Split, Split]:
        """The training images without a fixed `share` of them, and that share."""
        rest, held = _fixed_split(len(self.train), share)
        return self.train[rest], self.train[held]

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


def _split_generator() -> torch.Generator:
    return torch.Generator().manual_seed(SPLIT_SEED)


def _fixed_split(count: int, share: float) -> tuple[Tensor, Tensor]:
    held = min(max(1, round(count * share)), count - 1)
    order = torch.randperm(count, generator=_split_generator())
    return order[held:].sort().values, order[:held].sort().values


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
        raise UserError(f"{folder} has no {missing}/; give it one, or name the other one directly.")
    if len(there) == 2:  # one alone, without folders in it, is a class, of vehicles for one
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


def load_photos(
    folder: str | Path, class_names: tuple[str, ...], strict: bool = False
) -> tuple[list[np.ndarray], Tensor]:
    """The views, each (V, 32, 32, 3) uint8, and the labels (N,) of photographs in folders named
    after classes and in `none/`, which is labelled -1.

    Not every class needs a folder. Raises UserError.
    """
    if "none" in class_names:
        raise UserError("one of the classes is called none, as photographs of none of them are.")
    folder = Path(folder)
    found = _class_folders(folder) if folder.is_dir() else {}
    names = tuple(name for name in (*class_names, "none") if name in found)
    files, _ = _list_images(folder, names or class_names)
    photos, labels = [], []
    for path, label in files:
        try:
            photos.append(look_at(folder / path, name=str(folder / path)))
        except ImageError as error:
            if strict:
                raise UserError(f"{error} Without --strict it is skipped.") from error
            print(f"Skipped: {error}", file=sys.stderr)
            continue
        labels.append(class_names.index(names[label]) if names[label] != "none" else -1)
    if not photos:
        raise UserError(f"none of the photographs in {folder} can be read.")
    return photos, torch.tensor(labels)


def _held_out(split: Split) -> Tensor:
    """Which images (N,) bool are the test of a folder that has none of its own: a fixed tenth of
    each class, whatever the classes' order."""
    held = torch.zeros(len(split), dtype=torch.bool)
    for label in split.labels.unique():
        indices = (split.labels == label).nonzero().flatten()
        held[indices[_fixed_split(len(indices), HELD_OUT_SHARE)[1]]] = True
    return held


def _load_split(
    folder: Path,
    strict: bool,
    cached: bool = True,
    class_names: tuple[str, ...] | None = None,
) -> tuple[Split, tuple[str, ...]]:
    files, names = _list_images(folder, class_names)
    cache, fingerprint = _cache_file(folder), _fingerprint(folder, files, names)
    found = _read_cache(cache, fingerprint) if cached else None
    if found is None:
        split, skipped = _decode(folder, files, strict)
        if cached:
            _write_cache(cache, fingerprint, split, skipped)
    else:
        split, skipped = found
        if skipped and strict:
            raise UserError(f"{skipped[0]} Without --strict it is skipped.")
    if skipped:
        print(f"Skipped {len(skipped)} unreadable: {skipped[0]}", file=sys.stderr)
    counts = torch.bincount(split.labels, minlength=len(names))
    for name, count in zip(names, counts.tolist(), strict=True):
        if count == 0:
            raise ReasonedError(
                "class_unreadable",
                f"none of the images of class {name!r} in {folder} can be read.",
                name,
            )
    return split, names


def _list_images(
    folder: Path, class_names: tuple[str, ...] | None
) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    """(path below `folder`, label) of every image, and the class names. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}.")
    found = _class_folders(folder)
    if not found:
        raise UserError(
            f"{folder} has no subfolders; put the images of each class in a folder named after it, "
            f"as in {folder / 'cat'}/1.jpg."
        )
    if class_names is None:
        if len(found) < 2:
            (only,) = found
            _, deeper, _ = next(os.walk(folder / only), ("", [], []))
            hint = f" Are they one level down, in {folder / only}?" if deeper else ""
            raise UserError(f"{folder} has one class only ({only}); at least 2 are needed.{hint}")
        class_names = tuple(found)
    elif set(found) != set(class_names):
        lacking, odd = set(class_names) - set(found), set(found) - set(class_names)
        raise ReasonedError(
            "split_classes",
            f"{folder} needs a folder for each of the classes {', '.join(class_names)}"
            + (f"; there is none for {', '.join(sorted(lacking))}" if lacking else "")
            + (f"; of no such class: {', '.join(sorted(odd))}" if odd else "")
            + ".",
            ", ".join(sorted(lacking | odd)),
        )
    files, passed_over = [], []
    for label, name in enumerate(class_names):
        pictures, others = pictures_in(folder / found[name])
        if not pictures:
            raise ReasonedError(
                "class_unreadable", f"the class folder {folder / name} has no images in it.", name
            )
        files += [(path.relative_to(folder).as_posix(), label) for path in pictures]
        passed_over += others
    say_passed_over(folder, passed_over)
    return files, class_names


def _class_folders(folder: Path) -> dict[str, str]:
    """The folders in a folder by class name, in order: their own names, but with each letter and
    its accents as one character, which Macs take apart. Raises UserError."""
    try:
        found = [e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}.") from error
    names: dict[str, str] = {}
    for own in sorted(found):
        name = unicodedata.normalize("NFC", own)
        if name in names:
            raise UserError(f"{folder} has two folders whose names look alike: {name}.")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"the name of the folder {name!r} in {folder} is not UTF-8; rename it."
            ) from None
        names[name] = own
    return dict(sorted(names.items()))


def pictures_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """The picture files at any depth, in order, and all others; but for hidden ones, as thumbnails
    are."""
    pictures: list[Path] = []
    others: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in files if not name.startswith(".")):
            (pictures if path.suffix.lower() in EXTENSIONS else others).append(path)
    return sorted(pictures, key=Path.as_posix), others


def say_passed_over(folder: Path, files: list[Path]) -> None:
    """Print how many files, and of which kinds, are not among the pictures of a folder."""
    if not files:
        return
    kinds = sorted({path.suffix.lower() or "without extension" for path in files})
    print(
        f"Passed over in {folder}: {len(files)} {'file' if len(files) == 1 else 'files'} of other "
        f"kinds ({', '.join(kinds)}); {FORMATS_FOR_PEOPLE} can be read.",
        file=sys.stderr,
    )


def _decode(
    folder: Path, files: list[tuple[str, int]], strict: bool
) -> tuple[Split, tuple[str, ...]]:
    images = np.empty((len(files), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    broken: dict[int, str] = {}

    def decode(i: int) -> None:
        path = folder / files[i][0]
        try:
            images[i] = to_pixels(open_image(path, name=str(path)))
        except ImageError as error:
            broken[i] = str(error)
            if strict:
                raise UserError(f"{error} Without --strict it is skipped.") from error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(decode, range(len(files)))
        for _ in tqdm(work, f"Reading {folder}", len(files), unit="img", leave=False):
            pass
    good = np.array([i for i in range(len(files)) if i not in broken], dtype=np.int64)
    split = Split(
        torch.from_numpy(images[good]).permute(0, 3, 1, 2).contiguous(),
        torch.tensor([files[i][1] for i in good], dtype=torch.int64),
    )
    return split, tuple(broken[i] for i in sorted(broken))


def _cache_file(folder: Path) -> Path:
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return cache_folder() / f"{folder.name}-{key}.safetensors"


def _fingerprint(folder: Path, files: list[tuple[str, int]], names: tuple[str, ...]) -> str:
    """Changes when an image is added, removed, renamed, moved, resized or written anew."""
    digest = hashlib.sha256(json.dumps([PREPROCESSING, names]).encode())
    for path, _ in files:
        try:
            stat = os.stat(folder / path)
        except OSError:  # a link to nothing: an unreadable image
            stat = os.lstat(folder / path)
        digest.update(os.fsencode(path) + b"\0")
        digest.update(f"{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cache(path: Path, fingerprint: str) -> tuple[Split, tuple[str, ...]] | None:
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata()
            if meta["fingerprint"] != fingerprint:
                return None
            split = Split(file.get_tensor("images"), file.get_tensor("labels"))
            return split, tuple(json.loads(meta["skipped"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None  # no cache, or a damaged one: the images themselves are still there


def _write_cache(path: Path, fingerprint: str, split: Split, skipped: tuple[str, ...]) -> None:
    meta = {"fingerprint": fingerprint, "skipped": json.dumps(skipped)}
    keep(path, {"images": split.images, "labels": split.labels}, meta)
