"""Starts the web app as people do, in a process of its own, and waits until it answers."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Running:
    """A web app that answers at `url`."""

    url: str
    log: IO[bytes]
    process: subprocess.Popen[bytes]

    def output(self) -> str:
        """What it has printed so far."""
        return Path(self.log.name).read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_app(*options: str | Path, **popen: Any) -> Iterator[Running]:
    """`python app.py --port ... OPTIONS`, ended when the block is left."""
    port = free_port()
    command = [sys.executable, "app.py", "--port", str(port), *map(str, options)]
    with running(command, port, **{"cwd": ROOT, **popen}) as app:
        yield app


@contextmanager
def running(command: Sequence[str | Path], port: int, **popen: Any) -> Iterator[Running]:
    """Any command that serves on a port of this machine; at most 90 s may pass until it does."""
    environment = {**popen.pop("env", os.environ), "PYTHONUNBUFFERED": "1"}
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, **popen
        )
        app = Running(f"http://127.0.0.1:{port}", log, process)
        try:
            _wait(app)
            yield app
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(app: Running) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and app.process.poll() is None:
        try:
            if httpx.get(app.url, timeout=10).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"{app.process.args} does not serve:\n{app.output()}")
