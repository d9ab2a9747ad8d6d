"""The command line, as people type it, each time in a process of its own."""

import subprocess
import sys

from tests.server import ROOT


def run_train(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """`python train.py …`"""
    return _run("train.py", *arguments, **options)


def begin_train(*arguments: object) -> subprocess.Popen[str]:
    """The same, with what it says to be read while it runs."""
    command = [sys.executable, "-u", "train.py", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def run_cifar_torch(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """`python -m cifar_torch …`"""
    return _run("-m", "cifar_torch", *arguments, **options)


def _run(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    usual = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 120}
    return subprocess.run(command, **(usual | options))
