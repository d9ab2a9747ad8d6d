"""Small real picture files for the tests: four kinds of drawn things, each mostly on its own
ground, as ships are on water."""

import hashlib
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cifar_torch.data import CIFAR10_CLASSES

KINDS = ("cross", "disc", "ring", "square")
GROUNDS = ((40, 140, 60), (60, 90, 200), (190, 60, 50), (150, 150, 150))


def draw_thing(kind: str, seed: int, size: int = 32) -> Image.Image:
    """A thing of random place, size and colour on a noisy ground."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    ground = (GROUNDS[KINDS.index(kind)] + rng.normal(0, 35, 3)).clip(0, 255)
    colour = tuple(((ground + rng.integers(90, 165, 3)) % 255).astype(int))
    noise = rng.normal(0, 12, (size, size, 3))
    image = Image.fromarray((ground + noise).clip(0, 255).astype(np.uint8))
    pen, radius = ImageDraw.Draw(image), rng.uniform(0.22, 0.36) * size
    x, y = rng.uniform(radius, size - radius, 2)
    box, thick = (x - radius, y - radius, x + radius, y + radius), max(2, size // 10)
    if kind == "disc":
        pen.ellipse(box, fill=colour)
    elif kind == "ring":
        pen.ellipse(box, outline=colour, width=thick)
    elif kind == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.line((box[0], box[1], box[2], box[3]), fill=colour, width=thick)
        pen.line((box[0], box[3], box[2], box[1]), fill=colour, width=thick)
    return image


def write_image_folder(folder: Path, per_class: int, first: int = 0, size: int = 32) -> Path:
    """`folder`/KIND/NNN.png for every kind."""
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for i in range(first, first + per_class):
            draw_thing(kind, i, size).save(folder / kind / f"{i:03}.png")
    return folder


def zipped_things(folder: Path, per_class: int) -> dict[str, bytes]:
    """What a zip of a folder of images holds: the names, and what is in them."""
    things = write_image_folder(folder / "things", per_class)
    files = things.rglob("*.png")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def write_zip(file: Path, entries: dict[str, bytes]) -> Path:
    """A zip of these names and contents."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file


def write_cifar10_archive(folder: Path, per_batch: int = 20) -> dict[str, str]:
    """A small archive in CIFAR-10's own format; gives each file's MD5, the archive's under ""."""
    base = folder / "cifar-10-batches-py"
    base.mkdir(parents=True)
    rng = np.random.default_rng(0)
    contents = {
        name: {
            "data": rng.integers(0, 256, (per_batch, 3072), np.uint8),
            "labels": [i % 10 for i in range(per_batch)],
        }
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
    }
    contents["batches.meta"] = {"label_names": list(CIFAR10_CLASSES)}
    sums = {}
    for name, content in contents.items():
        (base / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((base / name).read_bytes()).hexdigest()
    archive = folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(base, base.name)
    sums[""] = hashlib.md5(archive.read_bytes()).hexdigest()
    return sums
