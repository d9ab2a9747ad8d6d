"""What takes long to make is kept between runs, in a folder that can be deleted at any time."""

import os
import sys
import tempfile
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from cifar_torch.files import replaced_file


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/cifar_torch`, or `~/.cache/cifar_torch`."""
    home = os.path.expanduser("~")
    if home == "~":  # a user without one, as in some containers
        home = tempfile.gettempdir()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path(home) / ".cache") / "cifar_torch"


def keep(path: Path, tensors: dict[str, Tensor], meta: dict[str, str] | None = None) -> None:
    """Write a safetensors file of the cache, which is there at once and whole. A cache that cannot
    be written stops nobody: that is said."""
    try:
        with replaced_file(path) as new:
            save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, new, meta)
    except (OSError, SafetensorError) as error:
        print(f"{path.name} could not be kept in {path.parent}: {error}", file=sys.stderr)
