"""Every picture that the project draws. Each function returns a matplotlib Figure.

Class names and `words` may be in any language; the words are English unless others are given.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cifar_torch.errors import UserError
from cifar_torch.evaluation import confusion_shares
from cifar_torch.files import replaced_file

BLUE, GREY = "#2563a8", "#8a8f98"
QUANTITIES = ("accuracy", "loss")
BELOW = (0.45, -0.14)  # the axes' label
ABOVE = (0.5, 0.98)  # the axes, where no line runs through it

WORDS = {
    "decimal_point": ".",
    "epoch": "epoch",
    "accuracy": "accuracy",
    "loss": "loss",
    "training": "training images",
    "validation": "validation images",
    "confidence": "confidence",
    "share_right": "share of answers that are right",
    "share_of_images": "share of the images",
    "perfect": "as sure as it should be",
    "measured": "measured",
    "calibrated": "calibrated",
    "uncalibrated": "before calibration",
}

Words = Mapping[str, str]


def sample_grid(images: np.ndarray, titles: Sequence[str], columns: int = 3) -> Figure:
    """Images (N, 32, 32, 3) uint8 in a grid, each under its title; figure 9 of the report."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.35 * rows), layout="constrained")
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(image, interpolation="nearest")
        axes.set_title(title, fontsize=11, parse_math=False)
        axes.set_axis_off()
    return figure


def curves(
    history: Sequence[Mapping[str, float]],
    words: Words = WORDS,
    quantities: Sequence[str] = QUANTITIES,
) -> Figure:
    """The quantities by epoch, on the training and the validation images; a panel each."""
    figure = Figure(figsize=(4.5 * len(quantities), 3.6), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for i, key in enumerate(quantities):
        axes = figure.add_subplot(1, len(quantities), i + 1)
        for column, colour, name in ((key, GREY, "training"), (f"val_{key}", BLUE, "validation")):
            values = [row.get(column, np.nan) for row in history]
            axes.plot(epochs, values, color=colour, label=words[name], marker=".", markersize=5)
        axes.set(xlabel=words["epoch"], ylabel=words[key])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        scale, unit = (100, "%") if key == "accuracy" else (1, "")
        axes.yaxis.set_major_formatter(partial(_number, scale, unit, words["decimal_point"]))
        axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=ABOVE)
        _quiet(axes)
    return figure


def confusion_matrix(counts: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """How often images of a true class (row) got each answer (column), in per cent of the row."""
    shares = 100 * np.asarray(confusion_shares(counts))
    size = min(max(4.5, 0.62 * len(class_names) + 1.6), 40)  # inches
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=10)  # the root shows the rare mistakes
    for (row, column), share in np.ndenumerate(shares):
        if share > 0.5:  # what is rounded to 0 is left out
            colour = "white" if share > 40 else "#222222"
            axes.text(
                column, row, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=9
            )
    ticks = range(len(class_names))
    plain = {"parse_math": False}  # a dollar in a name is one
    axes.set_xticks(ticks, class_names, rotation=45, ha="right", rotation_mode="anchor", **plain)
    axes.set_yticks(ticks, class_names, **plain)
    axes.set(xlabel="answer (%)", ylabel="true class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def reliability(
    panels: Mapping[str, Sequence[Mapping[str, float]]], words: Words = WORDS
) -> Figure:
    """Confidence against the share that is right, one diagram a panel (title: bins).

    A bin is {"confidence": mean, "accuracy": share right, "share": of all images}.
    """
    figure = Figure(figsize=(4.3 * len(panels), 4.3), layout="constrained")
    for i, (title, bins) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), i + 1)
        filled = [b for b in bins if b["share"] > 0]
        confidence, right = ([b[key] for b in filled] for key in ("confidence", "accuracy"))
        width = 0.8 / max(len(bins), 1)
        shares = [b["share"] for b in filled]
        axes.bar(confidence, shares, width, color=GREY, alpha=0.35, label=words["share_of_images"])
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label=words["perfect"])
        axes.plot(confidence, right, color=BLUE, marker="o", markersize=4, label=words["measured"])
        axes.set(xlim=(0, 1), ylim=(0, 1.02), title=title)
        axes.set(xlabel=words["confidence"], ylabel=words["share_right"])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=BELOW)
        _quiet(axes)
    return figure


def before_and_after(
    metrics: Mapping[str, Any], words: Words = WORDS
) -> dict[str, Sequence[Mapping[str, float]]]:
    """The panels of `reliability` for a checkpoint's metrics: where its temperature was fitted,
    without it and with it."""
    if "uncalibrated" not in metrics:
        return {"": metrics["reliability"]}
    return {
        words["uncalibrated"]: metrics["uncalibrated"]["reliability"],
        words["calibrated"]: metrics["reliability"],
    }


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure; the ending of `path` says in which format. Raises UserError."""
    if Path(path).is_dir():
        raise UserError(f"{path} is a folder; name the figure's file in it, as in samples.png.")
    try:
        with replaced_file(Path(path)) as new, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # what no font has becomes a box
            kind = Path(path).suffix.removeprefix(".")
            figure.savefig(new, dpi=120, facecolor="white", format=kind)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write the figure {path}: {error}.") from error


def _number(scale: float, unit: str, point: str, value: float, position: int) -> str:
    """The label of an axis at `value`."""
    return f"{scale * value:.4g}{unit}".replace(".", point)


def _quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
