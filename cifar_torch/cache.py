"""What takes long to make is kept between runs, in a folder that can be deleted at any time."""

import os
import sys
import tempfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cifar_torch.files import replaced_file


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/cifar_torch`, or `~/.cache/cifar_torch`."""
    home = os.path.expanduser("~")
    if home == "~":  # a user without one, as in some containers
        home = tempfile.gettempdir()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path(home) / ".cache") / "cifar_torch"


def kept(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """What `keep` wrote there; None: nothing, or a damaged file."""
    try:
        with safe_open(path, "pt") as file:
            # Clones, not the file, which may be written anew.
            return {k: file.get_tensor(k).clone() for k in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None


def keep(path: Path, tensors: dict[str, Tensor], meta: dict[str, str] | None = None) -> None:
    """Write a safetensors file of the cache, which is there at once and whole. A cache that cannot
    be written stops nobody: that is said."""
    try:
        with replaced_file(path) as new:
            save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, new, meta)
    except (OSError, SafetensorError) as error:
        print(f"{path.name} could not be kept in {path.parent}: {error}", file=sys.stderr)
