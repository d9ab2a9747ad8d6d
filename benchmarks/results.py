"""The results of the benchmarks: kept in latest.json, and told in README.md beside it."""

import json
from pathlib import Path
from typing import Any

LATEST = Path(__file__).parent / "latest.json"  # the results of each machine, by its name
EPOCH = 50_000  # images, for which the seconds of an epoch are given


def tables(results: dict[str, Any]) -> str:
    """The results in Markdown, which reads well in a terminal too."""
    return "\n\n".join(_table(part) for part in results["sections"])


def _table(part: dict[str, Any]) -> str:
    lines = [f"### {part['title']}", ""]
    training = part["title"].startswith("Training")
    lines += _lines(("who", "median", "range", *([f"an epoch of {EPOCH:,}"] if training else [])))
    for row in part["rows"]:
        values = [_number(v) for v in (row["median"], min(row["rounds"]), max(row["rounds"]))]
        cells = [row["title"], values[0], f"{values[1]}–{values[2]}"]
        lines.append(_line([*cells, *([f"{EPOCH / row['median']:,.0f} s"] if training else [])]))
    lines += ["", *_lines(("bar", "measured", "range", "needed", ""))]
    for v in part["verdicts"]:
        lines.append(
            _line(
                [
                    v["title"],
                    f"{v['value']:.2f}",
                    f"{v['low']:.2f}–{v['high']:.2f}",
                    f"{v['limit']:g}",
                    "pass" if v["passed"] else "FAIL",
                ]
            )
        )
    return "\n".join(lines)


def _lines(titles: tuple[str, ...]) -> list[str]:
    return [_line(titles), _line(["---"] * len(titles))]


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def machine_name(cpu: str, precision: str) -> str:
    """What its results are kept under: processors of one name differ in what they can do."""
    return f"{cpu}, {precision.split()[0]}"


def latest() -> dict[str, Any]:
    """The last results of each machine, by its name."""
    return json.loads(LATEST.read_text("utf-8")) if LATEST.exists() else {}


def keep(results: dict[str, Any]) -> None:
    """Put the results in the place of this machine's last ones, in both files."""
    about = results["machine"]
    machines = latest() | {machine_name(about["cpu"], about["precision"]): results}
    LATEST.write_text(json.dumps(machines, indent=1) + "\n", "utf-8")
    write_readme(machines)


def write_readme(machines: dict[str, Any]) -> None:
    """Write README.md from the results of each machine."""
    parts = "\n\n".join(_machine(name, results) for name, results in machines.items())
    text = f"""# Benchmarks

Written by `make bench` from `latest.json`; do not edit.

Every contender is a process of its own and trains the same network on the same random images. They
take turns; ratios are taken within each round. Shown are the median and the range over the rounds.
«needed» is what this project asks of itself: where a figure falls short, the command ends with
status 1.
`make bench QUICK=1` repeats the ratios of training alone.

{parts}
"""
    LATEST.with_name("README.md").write_text(text, "utf-8")


def _machine(name: str, results: dict[str, Any]) -> str:
    """The results of one machine in Markdown."""
    about = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    rounds = max(len(row["rounds"]) for part in results["sections"] for row in part["rows"])
    return f"""## {name}

- When: {results["date"]}, of commit {results["commit"]}, in {results["minutes"]:.1f} minutes and up
  to {rounds} rounds.
- Machine: {about["cores"]} cores, {about["system"]}; `--precision auto` takes
  {about["precision"]}.
- Versions: {versions}.

{tables(results)}"""
