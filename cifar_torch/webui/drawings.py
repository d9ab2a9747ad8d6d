"""HTML drawings: feature maps, one step of arithmetic, how a training went and what it came to."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from torch import Tensor

from cifar_torch.evaluation import confusion_shares
from cifar_torch.explain import Convolution
from cifar_torch.webui.pictures import charts, colours, data_uri, img
from cifar_torch.webui.words import Words

STRIP_WIDTH = 64  # units in a row of the drawing of a flat layer


def strongest_first(maps: Tensor) -> list[int]:
    """The channels of (channels, height, width), that with the highest value first."""
    return maps.amax(dim=(1, 2)).argsort(descending=True, stable=True).tolist()


def feature_maps(maps: Tensor, chosen: int, words: Words) -> str:
    """Every channel of (channels, height, width) as a button, strongest first, on one scale."""
    top = max(maps.max().item(), 1e-12)
    shades = (maps / top).numpy()
    tiles = "".join(
        f'<button type="button" data-tile="{c}" aria-pressed="{str(c == chosen).lower()}">'
        f"{img(colours(shades[c]), words('inside.map_alt', channel=c))}<span>{c}</span></button>"
        for c in strongest_first(maps)
    )
    return f'<div class="tiles maps">{tiles}</div>{_scale(top, words)}'


def unit_strip(values: Tensor, words: Words) -> str:
    """The values of a flat layer (units,) in rows, in their own order."""
    top = max(values.max().item(), 1e-12)
    picture = colours((values / top).view(-1, STRIP_WIDTH).numpy())
    alt = words("inside.units_alt", units=words.number(len(values)))
    return img(picture, alt, "pixels strip") + _scale(top, words)


def probability_bars(values: Tensor, names: Sequence[str], words: Words) -> str:
    """The probability of each class, likeliest first."""
    rows = sorted(zip(values.tolist(), names, strict=True), reverse=True)
    return bars([(name, share, escape(words.confidence(share))) for share, name in rows])


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """(name, length in [0, 1], text) as a list of bars."""
    lines = "".join(
        f'<li><span>{escape(name)}</span><i style="--share:{length:.4f}"></i><b>{text}</b></li>'
        for name, length, text in rows
    )
    return f'<ul class="bars">{lines}</ul>'


def confusion_table(counts: Sequence[Sequence[int]], names: Sequence[str], words: Words) -> str:
    """How often images of a true class (row) got each answer (column), in per cent of the row."""
    titles = [escape(name) for name in names]
    head = "".join(f'<th scope="col" title="{t}"><span>{t}</span></th>' for t in titles)
    lines = "".join(
        f'<tr><th scope="row" title="{title}">{title}</th>{"".join(map(_share, row))}</tr>'
        for title, row in zip(titles, confusion_shares(counts), strict=True)
    )
    alt = escape(words("results.confusion_alt"), quote=True)
    return f'<table class="shares" aria-label="{alt}"><tr><td></td>{head}</tr>{lines}</table>'


def _share(share: float) -> str:
    """A cell; its colour goes by the root, which shows the rare mistakes."""
    text = f"{100 * share:.0f}" if share > 0.005 else ""  # what is rounded to 0 is left out
    return f'<td style="--depth:{share**0.5:.2f}">{text}</td>'


def learning_curves(history: Sequence[Mapping[str, float]], words: Words) -> str:
    """Accuracy and loss by epoch."""
    from cifar_torch import figures  # here: matplotlib would double the time to start

    said = words.section("figure")
    return charts(
        {
            words("results.curve_alt", quantity=said[quantity]): figures.curves(
                history, said, [quantity]
            )
            for quantity in figures.QUANTITIES
        }
    )


def reliability_diagrams(metrics: Mapping[str, Any], words: Words) -> str:
    """Confidence against the share that is right, without and with the calibration."""
    from cifar_torch import figures  # here: as above

    said, alt = words.section("figure"), words("results.reliability_alt")
    return charts(
        {
            f"{alt} ({title})" if title else alt: figures.reliability({title: bins}, said)
            for title, bins in figures.before_and_after(metrics, said).items()
        }
    )


def _scale(top: float, words: Words) -> str:
    ramp = data_uri(colours(np.linspace(0, 1, 64)[None]))
    return (
        f'<p class="scale">0 <img alt="{words("inside.scale_alt")}" src="{ramp}"> '
        f"{words.number(top, 2)}</p>"
    )


def place_on(
    picture: np.ndarray,
    box: tuple[float, float, float, float],
    places: Sequence[int],
    caption: str,
    alt: str,
) -> str:
    """A picture (H, W, 3) to click on: it stands for `places` (rows, columns), and has a frame
    around `box`: top, left, height and width in pixels of the picture."""
    height, width = picture.shape[:2]
    top, left, tall, wide = (
        100 * b / side for b, side in zip(box, (height, width) * 2, strict=True)
    )
    frame = f"top:{top:.3f}%;left:{left:.3f}%;height:{tall:.3f}%;width:{wide:.3f}%"
    return (
        f'<figure><div class="place" data-rows="{places[0]}" data-columns="{places[1]}">'
        f'{img(picture, alt)}<i style="{frame}"></i></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def convolution_steps(step: Convolution, shown: Mapping[int, str], words: Words) -> str:
    """Patch times kernel of the channels to be `shown`, by name, and how all of them add up."""
    sums = step.products.sum(dim=(1, 2))
    rows = "".join(
        f"<p>{words('inside.sum', name=name, value=words.number(sums[c].item(), 3))}</p>"
        f'<div class="product">{matrix(step.patch[c], words)}<b>×</b>'
        f"{matrix(step.kernel[c], words)}<b>=</b>{matrix(step.products[c], words)}</div>"
        for c, name in shown.items()
    )
    rest = sums.sum().item() - sum(sums[c].item() for c in shown)
    terms = [words.number(sums[c].item(), 3) for c in shown]
    if others := len(sums) - len(shown):
        terms.append(words("inside.others", count=others, value=words.number(rest, 3)))
    terms.append(words("inside.bias", value=words.number(step.bias, 3)))
    total, output = (words.number(v, 3) for v in (step.total, step.output))
    return (
        f'{rows}<p class="sum">{_added(terms)} = <b>{total}</b></p>'
        f'<p class="sum">{words("inside.relu", total=total, output=output)}</p>'
    )


def _added(terms: Sequence[str]) -> str:
    return " + ".join(f"({term})" if term.startswith("\N{MINUS SIGN}") else term for term in terms)


def pooling_steps(window: Tensor, words: Words) -> str:
    """The window of a max pooling, with its maximum marked."""
    largest, mean = (words.number(v, 3) for v in (window.max().item(), window.mean().item()))
    return (
        f'<div class="product">{matrix(window, words, mark=window.max().item())}'
        f"<span>{words('inside.maximum', largest=largest, mean=mean)}</span></div>"
    )


def matrix(values: Tensor, words: Words, mark: float | None = None) -> str:
    """A small table of numbers, blue above zero and orange below, the deeper the larger."""
    top = max(values.abs().max().item(), 1e-12)
    lines = "".join(
        "<tr>" + "".join(_cell(v, top, v == mark, words) for v in row) + "</tr>"
        for row in values.tolist()
    )
    return f'<table class="matrix">{lines}</table>'


def _cell(value: float, top: float, marked: bool, words: Words) -> str:
    sign = "plus" if value >= 0 else "minus"
    css = f"{sign} marked" if marked else sign
    return f'<td class="{css}" style="--depth:{abs(value) / top:.2f}">{words.number(value, 2)}</td>'
