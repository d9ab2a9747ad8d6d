"""Measure this project against Keras and plain PyTorch: `make bench`, or `make bench QUICK=1`.

The contenders take turns, a short piece of work each, round after round, so that a slow minute of
the machine hits all of them. A ratio is taken within each round; its median and range are shown.
Unless --quick, the results take the place of this machine's last ones in latest.json, from which
README.md beside this file is written.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from results import keep, latest, tables, write_readme

HERE = Path(__file__).parent
KERAS, MIXED = "float32", "mixed_bfloat16"  # Keras's default policy and its fast one
Rates = dict[str, list[float]]  # by row: images a second, or milliseconds, in each round


@dataclass(frozen=True)
class Row:
    """One line of a table: what is measured, by which contender, with which arguments."""

    title: str
    contender: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """What a ratio must reach: `ours` over the fastest of `peers`."""

    title: str
    ours: str
    peers: tuple[str, ...]
    limit: float


@dataclass(frozen=True)
class Verdict:
    title: str
    value: float
    low: float
    high: float
    limit: float
    passed: bool


def training_rows(quick: bool, images: int, precisions: tuple[str, ...]) -> dict[str, Row]:
    """By a short name; each measures an epoch of `images`. With `quick` those alone which a bar
    needs, up to batch 128, and Keras half the images."""
    rows = {}
    batches = (32, 128) if quick else (32, 128, 256)

    def add(name: str, title: str, contender: str, batch: int, images: int, **more: Any) -> None:
        arguments = {"batch": batch, "images": images, **more}
        rows[name] = Row(f"{title}, batch {batch}", contender, arguments)

    for batch in batches:
        own = images // 2 if quick else images
        add(f"keras {batch}", "Keras on TensorFlow", "keras", batch, own, policy=KERAS)
        if "bf16" in precisions:
            add(f"mixed {batch}", f"the same, {MIXED}", "keras", batch, own, policy=MIXED)
    if not quick:
        add("loader", "PyTorch, DataLoader and transforms", "pytorch", 32, images, data="loader")
        add("tensor", "PyTorch, images as one tensor", "pytorch", 32, images, data="tensor")
        for batch in (32, 128) if "bf16" in precisions else ():
            title, more = "the same, bf16 autocast", {"data": "tensor", "autocast": True}
            add(f"autocast {batch}", title, "pytorch", batch, images, **more)
    for precision in precisions:
        for batch in batches:
            name, title = f"{precision} {batch}", f"this project, {precision}"
            if not quick or name in {bar.ours for bar in TRAINING_BARS}:
                add(name, title, "project", batch, images, precision=precision)
        for batch in () if quick else (32, 128):
            name, title = f"{precision} {batch} bare", "the same without dropout"
            add(name, title, "project", batch, images, precision=precision, dropout=0.0)
    return rows


TRAINING_BARS = (
    Bar("batch 32, bf16, over the faster Keras", "bf16 32", ("keras 32", "mixed 32"), 2.3),
    Bar("batch 32, fp32, over the faster Keras", "fp32 32", ("keras 32", "mixed 32"), 1.2),
    Bar("batch 128, bf16, over Keras mixed_bfloat16", "bf16 128", ("mixed 128",), 1.9),
    Bar("batch 128, bf16, over Keras default", "bf16 128", ("keras 128",), 3.5),
    Bar("batch 256, bf16, over Keras mixed_bfloat16", "bf16 256", ("mixed 256",), 1.9),
    Bar("batch 256, bf16, over Keras default", "bf16 256", ("keras 256",), 3.5),
)
BULK_BARS = (
    Bar("bulk answers, fp32, over Keras", "bulk fp32", ("bulk keras",), 1.2),
    Bar("bulk answers, bf16, over Keras mixed_bfloat16", "bulk bf16", ("bulk mixed",), 1.2),
)
LATENCY_LIMIT = 2.0  # ms
LINEAR_LIMIT = 1.1  # time per image at the most images over that at the fewest, and its inverse
GROWTH_LIMIT = 8.0  # MB over the second half of the epochs
SIZES = (2000, 4000, 8000)
ENOUGH, PATIENCE = 3, 120.0  # rounds that there are at least; seconds after which no other begins


class Contender:
    """A process of contenders.py, which does one thing at a time, when asked."""

    def __init__(self, name: str):
        self.process = subprocess.Popen(
            [sys.executable, HERE / "contenders.py", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if not os.environ.get("BENCH_DEBUG") else None,
            text=True,
        )

    def ask(self, method: str, **arguments: Any) -> Any:
        """The answer of one of its methods. Raises RuntimeError: the process has ended."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([method, arguments]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.process.args!r} ended; BENCH_DEBUG=1 shows what it printed.")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


class Bench:
    """The contenders, and the rounds in which they take turns."""

    def __init__(self, rounds: int):
        self.rounds = rounds
        self.contenders = {name: Contender(name) for name in ("keras", "pytorch", "project")}
        self.hardware = self.contenders["project"].ask("hardware")
        # Where the processor has no bf16, it is emulated, by Keras too, which takes minutes.
        able = self.hardware["precision"].startswith("bfloat16")
        self.precisions = ("fp32", "bf16") if able else ("fp32",)

    def alternate(self, method: str, rows: dict[str, Row]) -> Rates:
        """What every row's contender measured in each round, after one round to warm up; fewer
        rounds where the machine is slow."""
        rates: Rates = {name: [] for name in rows}
        started = time.perf_counter()
        for turn in range(self.rounds + 1):
            if turn > ENOUGH and time.perf_counter() - started > PATIENCE:
                break
            show(f"{method}: round {turn} of {self.rounds}")
            for name, row in rows.items():
                value = self.contenders[row.contender].ask(method, **row.arguments)
                if turn:
                    rates[name].append(value)
        show("")
        return rates

    def close(self) -> None:
        for contender in self.contenders.values():
            contender.close()


def show(text: str) -> None:
    """A line that the next one overwrites, where somebody is looking."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def judge(bar: Bar, rates: Rates) -> Verdict:
    """The ratio of each round to that peer which is fastest over all rounds."""
    peer = max((name for name in bar.peers if name in rates), key=lambda name: median(rates[name]))
    ratios = [ours / theirs for ours, theirs in zip(rates[bar.ours], rates[peer], strict=True)]
    middle = median(ratios)
    return Verdict(bar.title, middle, min(ratios), max(ratios), bar.limit, middle >= bar.limit)


def judge_all(bars: tuple[Bar, ...], rates: Rates) -> list[Verdict]:
    """Of the bars for which this machine has figures."""
    return [judge(bar, rates) for bar in bars if bar.ours in rates]


def at_most(title: str, values: list[float], limit: float) -> Verdict:
    """Whether the median of some figures is small enough."""
    middle = median(values)
    return Verdict(title, middle, min(values), max(values), limit, middle <= limit)


# ------------------------------------------------------------------------------- measurements


def training(bench: Bench, quick: bool, images: int) -> dict[str, Any]:
    """Images a second of training."""
    rows = training_rows(quick, images, bench.precisions)
    rates = bench.alternate("train", rows)
    for precision in () if quick else bench.precisions:
        name, title = f"{precision} limit", f"limit: matrix products alone, {precision}"
        rows[name] = Row(title, "project", {"precision": precision})
        rates[name] = [bench.contenders["project"].ask("limit", precision=precision)]
    return section("Training, images/s", rows, rates, judge_all(TRAINING_BARS, rates))


def bulk(bench: Bench, images: int) -> dict[str, Any]:
    """Images a second of answers; Keras in the batches that it is fastest with."""
    keras = bench.contenders["keras"]
    rows = {}
    policies = [("bulk keras", KERAS)]
    if "bf16" in bench.precisions:
        policies.append(("bulk mixed", MIXED))
    for name, policy in policies:
        speed = {}
        for batch in (32, 128, 256, 512, 1024):
            arguments = {"policy": policy, "batch": batch, "images": images}
            keras.ask("predict", **arguments)
            speed[batch] = max(keras.ask("predict", **arguments) for _ in range(2))
        best = max(speed, key=lambda batch: speed[batch])
        rows[name] = Row(
            f"Keras predict, {policy}, batch {best} (its best)",
            "keras",
            {"policy": policy, "batch": best, "images": images},
        )
    for precision in bench.precisions:
        arguments = {"precision": precision, "images": images}
        rows[f"bulk {precision}"] = Row(f"this project, {precision}", "project", arguments)
    rates = bench.alternate("predict", rows)
    return section("Answers in bulk, images/s", rows, rates, judge_all(BULK_BARS, rates))


def latency(bench: Bench, calls: int) -> dict[str, Any]:
    """Milliseconds for one picture."""
    rows = {
        "keras": Row("keras.Model.predict", "keras", {"calls": calls}),
        "project": Row("Classifier.classify_views", "project", {"calls": calls}),
    }
    times = bench.alternate("latency", rows)
    verdict = at_most("one picture, ms", times["project"], LATENCY_LIMIT)
    return section("One picture, ms", rows, times, [verdict])


def growth(bench: Bench, sizes: tuple[int, ...], epochs: int) -> list[dict[str, Any]]:
    """Seconds of an epoch against the number of images; memory over the epochs."""
    rows = {
        str(size): Row(
            f"an epoch of {size:,} images",
            "project",
            {"precision": "auto", "batch": 128, "images": size},
        )
        for size in sizes
    }
    rates = bench.alternate("train", rows)
    few, many = rates[str(sizes[0])], rates[str(sizes[-1])]
    ratios = [a / b for a, b in zip(few, many, strict=True)]
    ratio = median(ratios)
    title = f"time per image, {sizes[-1]:,} over {sizes[0]:,} images"
    passed = 1 / LINEAR_LIMIT <= ratio <= LINEAR_LIMIT
    linear = Verdict(title, ratio, min(ratios), max(ratios), LINEAR_LIMIT, passed)
    seconds = {name: [int(name) / rate for rate in rates[name]] for name in rates}
    resident = bench.contenders["project"].ask("memory", epochs=epochs, images=128)
    half, step = epochs // 2, max(1, epochs // 10)
    grown = max(resident[half:]) - resident[half - 1]
    memory = {str(i): [resident[i - 1]] for i in range(step, epochs + 1, step)}
    memory_rows = {i: Row(f"after epoch {i}", "project", {}) for i in memory}
    verdict = at_most("growth over the second half, MB", [grown], GROWTH_LIMIT)
    return [
        section("Time of an epoch, s", rows, seconds, [linear]),
        section("Resident memory, MB", memory_rows, memory, [verdict]),
    ]


def section(
    title: str, rows: dict[str, Row], values: Rates, verdicts: list[Verdict]
) -> dict[str, Any]:
    """One table, as latest.json keeps it."""
    return {
        "title": title,
        "rows": [
            {
                "name": name,
                "title": row.title,
                "median": median(values[name]),
                "rounds": values[name],
            }
            for name, row in rows.items()
        ],
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }


def commit() -> str:
    """Of the code that is measured; with a plus where it has been changed since."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--exclude=*", "--dirty=+"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"


def machine(bench: Bench) -> dict[str, str]:
    """Where the figures were measured."""
    return {
        **bench.hardware,
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
    }


def measure(rounds: int, quick: bool, tiny: bool) -> dict[str, Any]:
    """All results, as latest.json keeps them."""
    started, bench = time.perf_counter(), Bench(rounds)
    try:
        sections = [training(bench, quick, 256 if tiny else 2560)]
        if not quick:
            sections.append(bulk(bench, 256 if tiny else 5000))
            sections.append(latency(bench, 3 if tiny else 50))
            sections += growth(bench, (256, 512) if tiny else SIZES, 4 if tiny else 120)
        versions: dict[str, str] = {}
        for name in ("project", "keras"):
            versions |= bench.contenders[name].ask("versions")
        return {
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "machine": machine(bench),
            "versions": versions,
            "commit": commit(),
            "minutes": (time.perf_counter() - started) / 60,
            "sections": sections,
        }
    finally:
        bench.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the ratios of training alone")
    parser.add_argument("--tiny", action="store_true", help="one short round, to see that it runs")
    parser.add_argument("--rounds", type=int, help="at most so many; default: 7, with --quick 3")
    parser.add_argument("--readme", action="store_true", help="write README.md from latest.json")
    args = parser.parse_args()
    if args.readme:
        write_readme(latest())
        return 0
    rounds = args.rounds or (1 if args.tiny else 3 if args.quick else 7)
    results = measure(rounds, args.quick, args.tiny)
    print(tables(results))
    if not (args.quick or args.tiny):
        keep(results)
    return 0 if all(v["passed"] for part in results["sections"] for v in part["verdicts"]) else 1


if __name__ == "__main__":
    sys.exit(main())
