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


def read_cache(
    path: Path, fingerprint: str = ""
) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The tensors and the metadata that `write_cache` wrote there, if of that `fingerprint`; None:
    others, nothing, or a damaged file."""
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            if meta.get("fingerprint", "") != fingerprint:
                return None
            # Clones, not the file, which may be written anew.
            return {k: file.get_tensor(k).clone() for k in file.keys()}, meta  # noqa: SIM118
    except (OSError, SafetensorError):
        return None


def write_cache(path: Path, tensors: dict[str, Tensor], **meta: str) -> None:
    """Write a safetensors file of the cache, which is there at once and whole. A cache that cannot
    be written stops nobody: that is said."""
    try:
        with replaced_file(path) as new:
            save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, new, meta)
    except (OSError, SafetensorError) as error:
        print(f"{path.name} could not be kept in {path.parent}: {error}", file=sys.stderr)
