"""What commands share: how they take a path, and end with a sentence in place of a traceback."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from cifar_torch.errors import UserError


def named_path(text: str) -> Path:
    """A path on the command line. An empty one, as a variable gives that is not set, would be the
    folder that one is in."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return Path(text)


def run_command(program: str, command: Callable[[], int]) -> int:
    """The exit status of `command`: its own; 2 after a mistake that the user can mend, or where the
    output cannot be written; 130 on Ctrl-C; 1 where nobody reads the output any more."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files that are no text
    try:
        status = command()
        print(end="", flush=True)
        return status
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it would fail again
        if isinstance(error, BrokenPipeError):  # whoever reads has enough, as `head` has
            return 1
        print(f"{program}: {error}", file=sys.stderr)
        return 2
