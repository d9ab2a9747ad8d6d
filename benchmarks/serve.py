"""Our web app beside the plainest Gradio app around the same network, in turns, in one run.

    python benchmarks/serve.py [--quick]

Prints for each bar the median ratio of the rounds, and its spread. Clients send small photographs
over the loopback interface, each a request after the other's answer; one light process drives
them all, so that the servers, not the clients, set the pace.
"""

import argparse
import asyncio
import io
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
BOUNDARY = b"cifar-torch-benchmark"
DEADLINE = 30  # seconds for one request


# --- A client that costs little -----------------------------------------------------------------


@dataclass
class Connection:
    """A connection that is kept open, and just enough HTTP/1.1 for these servers."""

    port: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> bytes:
        """The body of the answer. Raises RuntimeError for any status but 200."""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        header = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in header:
            content = await self._chunks()
        else:
            length = header.partition(b"content-length:")[2].partition(b"\r\n")[0]
            content = await self.reader.readexactly(int(length))
        if not header.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{path}: {header.splitlines()[0]!r} {content[:200]!r}")
        return content

    async def _chunks(self) -> bytes:
        content = b""
        while size := int(await self.reader.readline(), 16):
            content += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()
        return content


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(port, reader, writer)
    finally:
        writer.close()


Call = Callable[[Connection, bytes], Awaitable[None]]


def form(field_name: str, data: bytes) -> bytes:
    head = (
        b'Content-Disposition: form-data; name="%s"; filename="picture.jpg"' % field_name.encode()
    )
    parts = (
        b"--" + BOUNDARY,
        head,
        b"Content-Type: image/jpeg",
        b"",
        data,
        b"--" + BOUNDARY + b"--",
    )
    return b"\r\n".join(parts) + b"\r\n"


FORM = f"multipart/form-data; boundary={BOUNDARY.decode()}"


async def call_api(connection: Connection, picture: bytes) -> None:
    """One request: /api/classify."""
    answer = await connection.request("POST", "/api/classify", form("file", picture), FORM)
    assert json.loads(answer)["answers"][0]["confidences"]


def gradio_call(*more: str) -> Call:
    """Gradio's own way, three requests: upload, call, event stream. `more`: further arguments."""

    async def call(connection: Connection, picture: bytes) -> None:
        upload = await connection.request(
            "POST", "/gradio_api/upload", form("files", picture), FORM
        )
        file = {"path": json.loads(upload)[0], "meta": {"_type": "gradio.FileData"}}
        path = "/gradio_api/call/classify"
        body = json.dumps({"data": [file, *more]})
        started = await connection.request("POST", path, body.encode())
        events = await connection.request("GET", f"{path}/{json.loads(started)['event_id']}")
        assert b"event: complete" in events, events

    return call


@dataclass
class Load:
    """What a number of clients saw in a number of seconds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    @property
    def p95(self) -> float:
        """Seconds that 95% of the answers took at most."""
        return float(np.quantile(self.latencies, 0.95))


async def put_load(port: int, call: Call, clients: int, seconds: float) -> Load:
    load = Load()
    pictures = photographs(16)
    start = time.perf_counter()

    async def client(offset: int) -> None:
        async with connected(port) as connection:
            for i in itertools.count(offset):
                before = time.perf_counter()
                if before - start > seconds:
                    return
                try:
                    await asyncio.wait_for(call(connection, pictures[i % 16]), DEADLINE)
                except Exception as error:
                    load.errors.append(repr(error))
                    return
                load.latencies.append(time.perf_counter() - before)

    await asyncio.gather(*(client(i) for i in range(clients)))
    load.seconds = time.perf_counter() - start
    return load


def photographs(count: int, width: int = 320, height: int = 240) -> list[bytes]:
    """JPEG files of smooth shapes with grain, some 20 KB each."""
    files = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        pixels = (smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    return files


# --- The two servers ----------------------------------------------------------------------------


@dataclass
class Server:
    """A web app in a process of its own, and its start to first answer in seconds."""

    port: int
    process: subprocess.Popen[bytes]
    call: Call
    start: float = 0.0

    def memory(self) -> float:
        """Resident megabytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def load(self, call: Call, clients: int, seconds: float) -> Load:
        load = asyncio.run(put_load(self.port, call, clients, seconds))
        if load.errors:
            print(f"  {len(load.errors)} errors, the first: {load.errors[0]}")
        return load


@contextmanager
def serving(command: list[str], port: int, call: Call) -> Iterator[Server]:
    """Starts the app and waits for its first answer; ends it afterwards."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_ANALYTICS_ENABLED": "False"}
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    server = Server(port, process, call)
    try:
        asyncio.run(_first_answer(server))
        server.start = time.perf_counter() - begin
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _first_answer(server: Server) -> None:
    (picture,) = photographs(1)
    while server.process.poll() is None:
        try:
            async with connected(server.port) as connection:
                await server.call(connection, picture)
                return
        except OSError:  # it does not listen yet
            await asyncio.sleep(0.02)
    raise SystemExit(f"The server ended with {server.process.returncode}.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def plain_app(checkpoint: str) -> tuple[list[str], int, Call]:
    port = free_port()
    return (
        [sys.executable, "benchmarks/peers/plain_app.py", checkpoint, str(port)],
        port,
        gradio_call(),
    )


def our_app(checkpoint: str) -> tuple[list[str], int, Call]:
    port = free_port()
    options = ["--checkpoint", checkpoint, "--port", str(port)]
    return [sys.executable, "app.py", *options], port, gradio_call("")  # the default model


# --- The bars -----------------------------------------------------------------------------------


def report(name: str, ratios: list[float], bar: str, met: bool) -> bool:
    """Print a ratio beside its bar; whether it is met."""
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    verdict = "met" if met else "MISSED"
    print(f"{name:<46}{statistics.median(ratios):6.2f}x  ({spread})  bar {bar}: {verdict}")
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description="The web app beside the plainest Gradio app.")
    parser.add_argument("--checkpoint", default="checkpoints/report", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="one round of short loads")
    options = parser.parse_args()
    rounds, seconds, endurance = (1, 3.0, 6.0) if options.quick else (3, 15.0, 60.0)

    loads: list[Load] = []
    ratios: dict[str, list[float]] = {"rate": [], "p95": [], "gradio": [], "start": []}
    for i in range(rounds):
        with serving(*plain_app(options.checkpoint)) as plain:
            peer = plain.load(plain.call, 16, seconds)
        with serving(*our_app(options.checkpoint)) as ours:
            gradio = ours.load(ours.call, 16, seconds)
            api = ours.load(call_api, 16, seconds)
        loads += peer, gradio, api
        ratios["rate"].append(api.rate / peer.rate)
        ratios["p95"].append(api.p95 / peer.p95)
        ratios["gradio"].append(gradio.rate / peer.rate)
        ratios["start"].append(ours.start / plain.start)
        print(
            f"round {i + 1}: plain app {peer.rate:.0f}/s, p95 {1000 * peer.p95:.0f} ms, "
            f"start {plain.start:.1f} s; ours, by Gradio {gradio.rate:.0f}/s, "
            f"p95 {1000 * gradio.p95:.0f} ms, start {ours.start:.1f} s; "
            f"/api/classify {api.rate:.0f}/s, p95 {1000 * api.p95:.0f} ms"
        )
    median = {name: statistics.median(values) for name, values in ratios.items()}
    met = [
        report("/api/classify, requests/s, 16 clients", ratios["rate"], "5", median["rate"] >= 5),
        report("/api/classify, p95, 16 clients", ratios["p95"], "0.25", median["p95"] <= 0.25),
        report(
            "Gradio's API, requests/s, 16 clients", ratios["gradio"], "0.95",
            median["gradio"] >= 0.95,
        ),
        report("start to first answer", ratios["start"], "1.25", median["start"] <= 1.25),
    ]  # fmt: skip

    with serving(*our_app(options.checkpoint)) as ours:
        loads.append(ours.load(call_api, 64, endurance / 4))
        before = ours.memory()
        load = ours.load(call_api, 64, endurance)
        loads.append(load)
        print(
            f"64 clients for {load.seconds:.0f} s: {len(load.latencies)} answers, "
            f"{len(load.errors)} errors, memory {before:.0f} -> {ours.memory():.0f} MB"
        )
    return 0 if all(met) and not any(load.errors for load in loads) else 1


if __name__ == "__main__":
    sys.exit(main())
