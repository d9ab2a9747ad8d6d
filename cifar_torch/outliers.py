"""Pictures of none of the classes, drawn or made of scrambled training images: a network that has
seen them is less sure of the things that it has never seen (Hendrycks et al., arXiv 1812.04606)."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from cifar_torch.data import Split
from cifar_torch.images import IMAGE_SIZE

CANVAS = 3 * IMAGE_SIZE  # shapes are drawn larger and made small, for smooth edges


def add_outliers(training: Split, share: float, seed: int) -> Split:
    """The training images, and after them so many outliers for each, labelled -1."""
    made = make_outliers(max(1, round(len(training) * share)), training.images, seed)
    return Split(
        torch.cat([training.images, made]),
        torch.cat([training.labels, torch.full((len(made),), -1)]),
    )


def make_outliers(count: int, images: Tensor, seed: int) -> Tensor:
    """`count` pictures (count, 3, 32, 32) uint8, about as many of each of five kinds;
    some are made of `images` (N, 3, 32, 32) uint8."""
    rng = np.random.default_rng(seed)
    share = -(-count // 5)
    chosen = torch.from_numpy(rng.integers(len(images), size=(2, 3 * share)))
    one, other = images[chosen[0]].cpu(), images[chosen[1]].cpu()
    kinds = [
        drawings(share, images, rng),
        textures(share, rng),
        shuffled_tiles(one[: share // 2], rng, size=8),
        shuffled_tiles(one[share // 2 : share], rng, size=16),
        close_ups(one[share : 2 * share], rng),
        blends(one[2 * share :], other[2 * share :]),
    ]
    return torch.cat(kinds)[torch.from_numpy(rng.permutation(5 * share)[:count])]


def textures(count: int, rng: np.random.Generator) -> Tensor:
    """Noise with the spectrum of natural pictures, from cloudy to grainy, in up to three colours;
    every other one beats with a grating, as fences and windows do."""
    frequency = np.hypot(np.fft.fftfreq(IMAGE_SIZE)[:, None], np.fft.rfftfreq(IMAGE_SIZE))
    steepness = rng.uniform(0.5, 2.2, (count, 1, 1, 1))
    waves = np.fft.rfft2(rng.standard_normal((count, 3, IMAGE_SIZE, IMAGE_SIZE)))
    noise = np.fft.irfft2(waves / np.maximum(frequency, 1 / IMAGE_SIZE) ** steepness)
    noise /= noise.std(axis=(2, 3), keepdims=True) + 1e-6
    grey = rng.uniform(0, 1, (count, 1, 1, 1))  # how far the channels go together
    noise = grey * noise[:, :1] + (1 - grey) * noise
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    angle, period = rng.uniform(0, math.pi, count), rng.uniform(3, 16, count)
    along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    grating = np.sign(np.sin(2 * math.pi * along / period[:, None, None]))
    noise[::2] += rng.uniform(0.5, 2, (count, 1, 1, 1))[::2] * grating[::2, None]
    values = rng.uniform(40, 215, (count, 3, 1, 1)) + rng.uniform(10, 60, (count, 1, 1, 1)) * noise
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))


def drawings(count: int, images: Tensor, rng: np.random.Generator) -> Tensor:
    """Things of plain colours or of a texture, on a plain, shaded or textured ground; half of the
    colours are some of the images' own."""
    fillings = textures(2 * count, rng).permute(0, 2, 3, 1).numpy()
    palette = rng.integers(256, size=(512, 3)).astype(np.uint8)
    chosen = torch.from_numpy(rng.integers(len(images), size=256))
    palette[:256] = images[chosen, :, IMAGE_SIZE // 2, IMAGE_SIZE // 2].cpu().numpy()
    return torch.from_numpy(
        np.stack(
            [_drawing(fillings[2 * i], fillings[2 * i + 1], palette, rng) for i in range(count)]
        )
    ).permute(0, 3, 1, 2)


def _drawing(
    ground: np.ndarray, filling: np.ndarray, palette: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    kind = rng.integers(4)
    if kind == 0:
        picture = Image.new("RGB", (CANVAS, CANVAS), "white")
    elif kind == 1:
        picture = Image.new("RGB", (CANVAS, CANVAS), _colour(palette, rng))
    elif kind == 2:
        corners = rng.choice(palette, (2, 2))
        picture = Image.fromarray(corners).resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)
    else:
        picture = Image.fromarray(ground).resize((CANVAS, CANVAS))
    textured = Image.fromarray(filling).resize((CANVAS, CANVAS))
    for _ in range(rng.integers(1, 6)):
        mask = Image.new("L", (CANVAS, CANVAS))
        _shape(ImageDraw.Draw(mask), rng)
        picture.paste(textured if rng.random() < 0.4 else _colour(palette, rng), (0, 0), mask)
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2)))
    return np.asarray(picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def _colour(palette: np.ndarray, rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.choice(palette).tolist())


def _shape(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    centre = rng.uniform(0.2, 0.8, 2) * CANVAS
    half = rng.uniform(0.05, 0.45, 2) * CANVAS
    box = [*(centre - half), *(centre + half)]
    kind = rng.integers(6)
    if kind == 0:
        draw.ellipse(box, fill=255)
    elif kind == 1:
        draw.rounded_rectangle(box, rng.uniform(0, half.min()), fill=255)
    elif kind == 2:  # an outline: wheels' rims, frames, wires
        draw.ellipse(box, outline=255, width=int(rng.integers(2, 9)))
    elif kind == 3:
        draw.line(
            (rng.uniform(0, CANVAS, (int(rng.integers(2, 5)), 2))).flatten().tolist(),
            fill=255,
            width=int(rng.integers(2, 12)),
        )
    elif kind == 4:  # corners around the centre, as of leaves, tools, houses
        angles = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 9))))
        reach = rng.uniform(0.3, 1, len(angles))[:, None] * half.max()
        points = centre + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        draw.polygon(points.flatten().tolist(), fill=255)
    else:
        text = "".join(chr(c) for c in rng.integers(33, 127, int(rng.integers(1, 5))))
        draw.text(tuple(centre - half), text, fill=255, font_size=float(rng.uniform(16, 70)))


def shuffled_tiles(images: Tensor, rng: np.random.Generator, size: int) -> Tensor:
    """Images whose tiles of size x size pixels have changed places: every part, no thing."""
    side = IMAGE_SIZE // size
    tiles = F.unfold(images.float(), size, stride=size)  # (N, 3 * size^2, side^2)
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(side**2), (len(images), 1)), axis=1))
    tiles = tiles.gather(2, order[:, None, :].expand_as(tiles))
    return F.fold(tiles, (IMAGE_SIZE, IMAGE_SIZE), size, stride=size).byte()


def close_ups(images: Tensor, rng: np.random.Generator, size: int = 9) -> Tensor:
    """A corner of size x size pixels of each image, enlarged: ground, sky, or a part of a thing."""
    corners = torch.from_numpy(rng.integers(2, size=(len(images), 2))) * (IMAGE_SIZE - size)
    position = torch.arange(size)
    rows, columns = (corners[:, i, None] + position for i in (0, 1))
    parts = images[torch.arange(len(images))[:, None, None], :, rows[:, :, None], columns[:, None]]
    parts = parts.permute(0, 3, 1, 2).float()
    large = F.interpolate(parts, (IMAGE_SIZE, IMAGE_SIZE), mode="bicubic", align_corners=False)
    return large.round().clamp(0, 255).byte()


def blends(one: Tensor, other: Tensor) -> Tensor:
    """Two images at once, half and half, one of them upside down."""
    return ((one.float() + other.flip(2).float()) / 2).byte()
