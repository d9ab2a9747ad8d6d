"""A folder of pictures in folders named after their classes -> tensors, kept for the next time."""

import hashlib
import json
import os
import sys
import unicodedata
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cifar_torch.cache import cache_folder, read_cache, write_cache
from cifar_torch.errors import ReasonedError, UserError
from cifar_torch.files import require_text
from cifar_torch.images import (
    EXTENSIONS,
    FORMATS_FOR_PEOPLE,
    IMAGE_SIZE,
    ImageError,
    look_at,
    open_image,
    to_pixels,
)

PREPROCESSING = 3  # counts its changes: pictures cached before the last one are read anew


def read_image_folder(
    folder: Path,
    class_names: tuple[str, ...] | None = None,
    strict: bool = False,
    cached: bool = True,
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images (N, 3, 32, 32) uint8, their labels (N,) int64, and the class names, which are those of
    the folders or have to be `class_names`. Unreadable images are skipped and counted, or an error
    with `strict`. Raises UserError."""
    require_text(folder)
    files, names = _list_images(folder, class_names)
    cache, fingerprint = _cache_file(folder), _fingerprint(folder, files, names)
    found = read_cache(cache, fingerprint) if cached else None
    if found:
        tensors, meta = found
        images, labels, skipped = tensors["images"], tensors["labels"], json.loads(meta["skipped"])
    else:
        images, labels, skipped = _decode(folder, files)
        if cached:
            tensors = {"images": images, "labels": labels}
            write_cache(cache, tensors, fingerprint=fingerprint, skipped=json.dumps(skipped))
    if skipped and strict:
        raise UserError(f"{skipped[0]} Without --strict it is skipped.")
    if skipped:
        print(f"Skipped {len(skipped)} unreadable: {skipped[0]}", file=sys.stderr)
    counts = torch.bincount(labels, minlength=len(names))
    for name, count in zip(names, counts.tolist(), strict=True):
        if count == 0:
            raise ReasonedError(
                "class_unreadable",
                f"none of the images of class {name!r} in {folder} can be read.",
                name,
            )
    return images, labels, names


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


def _list_images(
    folder: Path, class_names: tuple[str, ...] | None
) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    """(path below `folder`, label) of every image, and the class names. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}.")
    found = _class_folders(folder)
    if not found:
        raise ReasonedError(
            "no_folders",
            f"{folder} has no subfolders; put the images of each class in a folder named after it, "
            f"as in {folder / 'cat'}/1.jpg.",
            folder.name,
        )
    if class_names is None:
        if len(found) < 2:
            (only,) = found
            _, deeper, _ = next(os.walk(folder / only), ("", [], []))
            hint = f" Are they one level down, in {folder / only}?" if deeper else ""
            raise ReasonedError(
                "one_class",
                f"{folder} has one class only ({only}); at least 2 are needed.{hint}",
                only,
            )
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
        require_text(folder / name)
        names[name] = own
    return dict(sorted(names.items()))


def pictures_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """The picture files at any depth, in order, and all others, as pipes; but for hidden ones, as
    thumbnails are."""
    pictures: list[Path] = []
    others: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in files if not name.startswith(".")):
            picture = path.suffix.lower() in EXTENSIONS and (path.is_file() or not path.exists())
            (pictures if picture else others).append(path)
    return sorted(pictures, key=Path.as_posix), others


def say_passed_over(folder: Path, files: list[Path]) -> None:
    """Print how many files, and of which kinds, are not among the pictures of a folder."""
    if not files:
        return
    kinds = sorted({_kind(path) for path in files})
    print(
        f"Passed over in {folder}: {len(files)} {'file' if len(files) == 1 else 'files'} of other "
        f"kinds ({', '.join(kinds)}); {FORMATS_FOR_PEOPLE} can be read.",
        file=sys.stderr,
    )


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return "not a file" if suffix in EXTENSIONS else suffix or "without extension"


def say_folders_passed_over(folder: Path, read: Collection[str]) -> None:
    """Print which folders of `folder` are not among those that are `read`."""
    others = [name for name in _class_folders(folder).values() if name not in read]
    if others:
        print(
            f"Passed over in {folder}: {', '.join(others)}; {' and '.join(read)} are read.",
            file=sys.stderr,
        )


def _decode(folder: Path, files: list[tuple[str, int]]) -> tuple[Tensor, Tensor, list[str]]:
    """Images (N, 3, 32, 32) uint8, labels (N,) int64, and why the others cannot be read."""
    images = np.empty((len(files), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    broken: dict[int, str] = {}

    def decode(i: int) -> None:
        path = folder / files[i][0]
        try:
            images[i] = to_pixels(open_image(path, name=str(path)))
        except ImageError as error:
            broken[i] = str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(decode, range(len(files)))
        bar = tqdm(work, f"Reading {folder}", len(files), unit="img", leave=False, disable=None)
        for _ in bar:
            pass
    good = np.array([i for i in range(len(files)) if i not in broken], dtype=np.int64)
    return (
        torch.from_numpy(images[good]).permute(0, 3, 1, 2).contiguous(),
        torch.tensor([files[i][1] for i in good], dtype=torch.int64),
        [broken[i] for i in sorted(broken)],
    )


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
