"""What has to be done before Gradio is imported: how the program ends, and where uploads go."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cifar_torch.errors import UserError

LOCK = ".lock"
YOUNG = 60.0  # seconds: a folder may have been made and have yet to be locked


@contextmanager
def a_sentence_on_error() -> Iterator[None]:
    """End the program with one sentence and status 2 on a UserError."""
    try:
        yield
    except UserError as error:
        print(f"app.py: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def end_quietly() -> None:
    """Ctrl-C ends the program at once, without a traceback: while it starts, there is nothing that
    could be lost."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def use_own_temporary_folder() -> Path:
    """A folder for uploads and all else that is temporary, of this process alone and deleted at its
    end. What processes that were killed have left is deleted now. Raises UserError.

    Gradio's own is shared by all its apps, and the end of one takes away what others show.
    """
    base = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    try:
        base.mkdir(parents=True, exist_ok=True)
        _delete_left_over(base)
        folder = Path(tempfile.mkdtemp(prefix="cifar_torch-", dir=base))
        lock = FileLock(folder / LOCK)
        lock.acquire()
    except OSError as error:
        raise UserError(
            f"cannot write to {base}, where uploads go ({error.strerror}); set GRADIO_TEMP_DIR to "
            "another folder."
        ) from error

    def delete() -> None:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(delete)
    os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = str(folder)
    return folder


def _delete_left_over(base: Path) -> None:
    for lock in base.glob(f"cifar_torch-*/{LOCK}"):  # a folder without it is none of ours
        try:
            if time.time() - lock.stat().st_mtime > YOUNG:
                with FileLock(lock, blocking=False):
                    shutil.rmtree(lock.parent, ignore_errors=True)
                shutil.rmtree(lock.parent, ignore_errors=True)  # Windows keeps a file that is open
        except (Timeout, OSError):  # it is in use, or another user's
            continue
