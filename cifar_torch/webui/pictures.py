"""Small pictures inside the HTML of the pages."""

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Anchors of matplotlib's viridis: equal steps look equal, to the colour-blind and in grey as well.
VIRIDIS = np.array(
    [(68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37)]
)


def colours(values: np.ndarray) -> np.ndarray:
    """Values (...) in [0, 1] -> viridis colours (..., 3) uint8."""
    position = np.clip(values, 0, 1) * (len(VIRIDIS) - 1)
    low = np.minimum(position.astype(int), len(VIRIDIS) - 2)
    part = (position - low)[..., None]
    return ((1 - part) * VIRIDIS[low] + part * VIRIDIS[low + 1]).round().astype(np.uint8)


def overlay(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3), darkened and grey where `heat` (H, W) is low, and as it is where it
    is high: what lights up is what counts."""
    grey = pixels.mean(axis=2, keepdims=True) * 0.35
    return (grey + heat[..., None] * (pixels - grey)).round().astype(np.uint8)


def data_uri(picture: np.ndarray | Image.Image, format: str = "png") -> str:
    """The picture as the address of an <img>."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, format)
    return _data_uri(file.getvalue(), format)


def _data_uri(content: bytes, format: str) -> str:
    return f"data:image/{format};base64,{base64.b64encode(content).decode()}"


def img(picture: np.ndarray | Image.Image, alt: str, css: str = "pixels") -> str:
    """An <img> of the picture; every pixel stays a square, however large it is shown."""
    return f'<img class="{css}" alt="{escape(alt, quote=True)}" src="{data_uri(picture)}">'


def charts(figures: Mapping[str, "Figure"]) -> str:
    """The figures, by what they show in words, side by side where there is room."""
    return f'<div class="figures">{"".join(map(_drawing, figures.values(), figures))}</div>'


def _drawing(figure: "Figure", alt: str) -> str:
    """The figure as an <img> that is sharp at any size and lets the page's ground show through."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True)
    source = _data_uri(file.getvalue(), "svg+xml")
    return f'<img class="figure" alt="{escape(alt, quote=True)}" src="{source}">'
