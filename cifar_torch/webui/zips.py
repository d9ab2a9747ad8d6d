"""A visitor's own pictures: a zip with a folder for each class."""

import lzma
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cifar_torch.data import Data, load_image_folder
from cifar_torch.errors import ReasonedError, UserError, reworded
from cifar_torch.images import EXTENSIONS
from cifar_torch.progress import Stopped

BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,
    EOFError,
    ValueError,
)
ENCRYPTED = 1  # the bit of an entry's flags
MAX_FILES, MAX_BYTES = 100_000, 2 * 1024**3  # of an unpacked zip


def load_zip(file: Path, stopping: Callable[[], bool] = lambda: False) -> Data:
    """The image folder inside a zip. Raises UserError, and Stopped where it was asked to stop while
    it unpacked."""
    with tempfile.TemporaryDirectory() as folder:
        root, count = unpack_images(file, Path(folder), stopping)
        try:
            data = load_image_folder(root, cached=False)
        except UserError as error:  # of the zip, for its reader
            raise reworded(error, str(error).replace(str(root), file.name)) from error
        unused = count - len(data.train) - len(data.test)
        return replace(data, origin=f"images of {file.name}", unused=unused)


def unpack_images(
    file: Path, folder: Path, stopping: Callable[[], bool] = lambda: False
) -> tuple[Path, int]:
    """Unpack the images of a zip into `folder`, and of all else the folders alone, as a class
    without images is not to be dropped in silence; returns the folder of the classes in it, and the
    number of all files. Raises ReasonedError: not a zip, too large, or without a folder a class."""
    try:
        with zipfile.ZipFile(file) as archive:
            shown = [entry for entry in archive.infolist() if not _hidden(entry)]
            count = len({entry.filename for entry in shown if not entry.is_dir()})
            entries = {entry.filename: entry for entry in map(_kept, shown)}.values()
            if len(entries) > MAX_FILES or sum(e.file_size for e in entries) > MAX_BYTES:
                raise ReasonedError(
                    "zip_large",
                    f"the zip holds more than {MAX_FILES:,} images or {MAX_BYTES >> 30} GiB.",
                )
            if any(entry.flag_bits & ENCRYPTED for entry in entries):
                raise ReasonedError("zip_locked", "the zip has a password; make one without.")
            for entry in entries:  # zipfile keeps each below `folder`, and to its stated size
                if stopping():
                    raise Stopped
                archive.extract(entry, folder)
    except BROKEN_ZIP as error:
        raise ReasonedError("zip", f"the file is not a zip that can be read: {error}.") from error
    except FileNotFoundError as error:  # uploads are deleted after an hour
        raise ReasonedError("zip_gone", "the zip is no longer on the server.") from error
    except OSError as error:  # the disk is full
        raise UserError(f"the zip cannot be unpacked: {error.strerror or error}.") from error
    while len(inner := _folders(folder)) == 1 and _folders(inner[0]):
        folder = inner[0]  # a zip of a folder: its classes are one level down
    if len(inner) < 2:
        raise ReasonedError("zip_flat", "the zip needs two folders or more, one for each class.")
    return folder, count


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def _hidden(entry: zipfile.ZipInfo) -> bool:
    """Or a link."""
    parts = PurePosixPath(entry.filename).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return hidden or stat.S_ISLNK(entry.external_attr >> 16)


def _kept(entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """An image itself, for another file its folder."""
    path = PurePosixPath(entry.filename)
    if entry.is_dir() or path.suffix.lower() in EXTENSIONS:
        return entry
    return zipfile.ZipInfo(f"{path.parent}/")
