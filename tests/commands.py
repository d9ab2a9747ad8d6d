"""The command line, as people type it: run in a process of its own, or called in that of the
tests, which has PyTorch already."""

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import train
from cifar_torch import __main__ as cifar_torch
from tests.server import ROOT

Done = subprocess.CompletedProcess[str]


def run_train(*arguments: object, **options) -> Done:
    """`python train.py …`"""
    return _run("train.py", *arguments, **options)


def begin_train(*arguments: object) -> subprocess.Popen[str]:
    """The same, with what it says to be read while it runs."""
    command = [sys.executable, "-u", "train.py", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def run_cifar_torch(*arguments: object, **options) -> Done:
    """`python -m cifar_torch …`"""
    return _run("-m", "cifar_torch", *arguments, **options)


def call_train(*arguments: object) -> Done:
    return _call(train.main, arguments)


def call_cifar_torch(*arguments: object) -> Done:
    return _call(cifar_torch.main, arguments)


def _run(*arguments: object, **options) -> Done:
    command = [sys.executable, *map(str, arguments)]
    usual = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 120}
    return subprocess.run(command, **(usual | options))


def _call(main: Callable[[list[str]], int], arguments: tuple[object, ...]) -> Done:
    command = [*map(str, arguments)]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
        try:
            status = main(command)
        except SystemExit as ended:  # argparse's way
            status = ended.code
    return subprocess.CompletedProcess(command, status, out.getvalue(), errors.getvalue())
