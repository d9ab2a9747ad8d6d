"""Files and folders that are written beside their place and put there in one step."""

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from cifar_torch.errors import ReasonedError, UserError

OLD = re.compile(r"\.(.+)\.old")


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A file to write, in the folder of `path`, which takes its place once all is written; if the
    writing fails, `path` stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield new
        os.replace(new, path)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` once all is written.

    If the writing fails, `folder` stays as it was. Raises UserError where it cannot be written.
    """
    folder = Path(os.path.realpath(folder))  # a link stays, and its folder is replaced
    new, old = _beside(folder, "new"), _beside(folder, "old")
    try:
        recover_folder(folder)
        for left_over in (new, old):  # by a writer that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {folder}: {error}.") from error
    finally:
        recover_folder(folder)  # where the second of the two renames failed
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Put a folder back whose writer was killed between its two renames."""
    folder = Path(os.path.realpath(folder))
    old = _beside(folder, "old")
    if old.exists() and not folder.exists():
        os.rename(old, folder)


def put_back(folder: Path) -> bool:
    """The same for a reader: nothing is done while somebody writes. Whether it is there now."""
    with contextlib.suppress(UserError, OSError):
        if _beside(folder, "old").exists():
            with locked_folder(folder):
                recover_folder(folder)
    return folder.exists()


def _beside(folder: Path, role: str) -> Path:
    if not folder.name:
        raise UserError(f"{folder} is no place for a checkpoint; choose a folder in it.")
    return folder.with_name(f".{folder.name}.{role}")


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Meanwhile nobody else gets here with this folder; the lock of a program that dies is free.

    Raises UserError: somebody has it, or its place cannot be written to.
    """
    folder = Path(os.path.realpath(folder))
    lock = FileLock(_beside(folder, "lock"), blocking=False)
    try:
        lock.acquire()
    except Timeout:
        if not Path(lock.lock_file).exists():  # where no file can be made, as in /proc
            raise UserError(f"cannot write {folder}.") from None
        raise ReasonedError(
            "locked",
            f"another program is training or changing {folder}; wait for it, or choose another "
            "folder.",
        ) from None
    except NotImplementedError:  # a file system without locks
        pass
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error}.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def changed_folder(folder: Path) -> Iterator[Path]:
    """A copy of a folder to change, which takes its place once all is written. Raises UserError."""
    with locked_folder(folder), replaced_folder(folder) as new:
        for path in folder.iterdir():
            if path.is_file():  # or a link to one, as those of the Hub's cache are
                shutil.copy2(path, new / path.name)
            else:
                copy_into(new, path)
        yield new


def copy_into(folder: Path, path: Path) -> None:
    """Give `folder` a file, a link or a folder of them too. What is gone by now, as an editor's
    files are, is left out."""
    copy = folder / path.name
    with contextlib.suppress(FileNotFoundError, shutil.SpecialFileError):
        if path.is_dir() and not path.is_symlink():
            copy.mkdir()
            for inside in path.iterdir():
                copy_into(copy, inside)
            return
        try:  # the file itself: whoever has it open, as a log, goes on writing into it
            os.link(path, copy, follow_symlinks=False)
        except (OSError, NotImplementedError):  # a file system without hard links
            shutil.copy2(path, copy, follow_symlinks=False)


def entries(folder: Path) -> set[Path]:
    """What stands in `folder`, or will again in a moment: what a writer is just replacing."""
    names = os.listdir(folder) if folder.is_dir() else []
    back = (match[1] for match in map(OLD.fullmatch, names) if match)
    return {
        folder / name for name in (*names, *back) if not name.startswith(".") and _is_text(name)
    }


def require_text(path: Path) -> None:
    """Raises UserError: the path is not UTF-8, as what is kept of it is, and as safetensors needs
    it."""
    if not _is_text(str(path.absolute())):
        raise UserError(f"the name {str(path.absolute())!r} is not UTF-8; rename it.")


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def places(folder: Path) -> tuple[Path, Path, Path]:
    """Where to look for a folder, in this order: between a writer's two renames it is aside."""
    return folder, _beside(folder, "old"), folder


def folder_identity(folder: Path) -> tuple[int, int] | None:
    """Which folder stands there. Its inode may be used again after two replacements,
    its time is not."""
    for _ in range(50):  # a writer is between its two renames for some microseconds
        try:
            found = folder.stat()
            return found.st_ino, found.st_mtime_ns
        except OSError:
            if not any(_beside(folder, role).exists() for role in ("new", "old")):
                return None
            time.sleep(0.01)
    return None
