"""Any picture that people have -> RGB -> the 32x32 pixels that the network sees."""

import io
import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from cifar_torch.errors import ReasonedError

ImageSource = str | Path | bytes | BinaryIO | Image.Image | np.ndarray

IMAGE_SIZE = 32
# Both chosen on photographs; docs/experiments.md has the figures.
SOFTNESS = 0.4  # standard deviation in pixels of the blur: CIFAR-10's pictures are softer than ours
MIDDLES = (1.0, 0.8)  # of the shorter side
REDUCING_GAP = 3.0  # Pillow's: pixels are averaged to three times the size before the filter
ENOUGH = round(REDUCING_GAP * IMAGE_SIZE / min(MIDDLES))  # pixels a side: more help no view
MAX_MEGAPIXELS = 100
MAX_BYTES = 4 * MAX_MEGAPIXELS * 1_000_000  # of a file: so many pixels, uncompressed
MAX_SCANS = 100  # of a JPEG, which may repeat an empty one of a few bytes without end
SCAN = re.compile(rb"\xff\xda\0[\x08\x0a\x0c\x0e][\x01-\x04]")  # marker, length, components
# Named, so that a file never reaches Pillow's readers for PostScript, PDF and the like.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "PPM")
FORMATS_FOR_PEOPLE = "JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF"
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .tif .tiff .gif .avif .ppm .pgm .pbm".split()
)

# Pillow warns of big pictures and of odd metadata; ours are the limit above and the errors below.
# Said once, here: warnings.catch_warnings is not safe where several threads read pictures.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(ReasonedError):
    """A file that cannot be used as a picture.

    `reason` is one of "missing", "empty", "unreadable", "broken" or "too_large"; the message says
    it in English, with the file's name.
    """


def open_image(source: ImageSource, name: str | None = None) -> Image.Image:
    """Read a picture of any supported kind as 8-bit RGB, upright, transparency over white.

    `source` is a path, the file's bytes, an open binary file, a PIL image, or an (H, W, 3) or
    (H, W) uint8 array. An animation gives its first frame; a JPEG much larger than the network's
    input comes at a half, a quarter or an eighth of its size. `name` is what errors call it.
    Raises ImageError.
    """
    if isinstance(source, np.ndarray):
        shape, dtype = source.shape, source.dtype
        try:
            source = Image.fromarray(source)
        except TypeError as error:
            raise ImageError(
                "unreadable",
                f"an array {shape} of {dtype} is no picture; (H, W, 3) or (H, W) of uint8 is.",
            ) from error
    if isinstance(source, Image.Image):
        try:  # an opened file is read only now
            return _to_rgb(ImageOps.exif_transpose(source))
        except OSError as error:
            raise ImageError(
                "broken", f"{name or 'This picture'} is cut off or damaged ({error})."
            ) from error
    if isinstance(source, (str, Path)):
        name = name or Path(source).name or str(source)
        try:
            with Path(source).open("rb") as file:
                large = os.fstat(file.fileno()).st_size > MAX_BYTES
                source = b"" if large else file.read(MAX_BYTES + 1)  # a device has no size
            if large or len(source) > MAX_BYTES:
                raise _too_large(name)
        except OSError as error:
            raise ImageError("missing", f"{name}: {error.strerror or error}.") from error
    elif not isinstance(source, bytes):
        source = source.read()
    return _decode(source, name or "This file")


def _decode(data: bytes, name: str) -> Image.Image:
    if not data:
        raise ImageError("empty", f"{name} is empty (0 bytes).")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except Exception as error:  # Pillow's readers raise many kinds for a file that is not theirs
        raise ImageError(
            "unreadable", f"{name} is not a picture that can be read; use {FORMATS_FOR_PEOPLE}."
        ) from error
    if image.width * image.height > MAX_MEGAPIXELS * 1_000_000:
        raise _too_large(name, image.size)
    if image.format in ("JPEG", "MPO") and len(SCAN.findall(data)) > MAX_SCANS:
        raise ImageError("broken", f"{name} is a JPEG of more than {MAX_SCANS} scans.")
    try:
        # JPEG only: a photograph is decoded at an eighth of its size, in a fifth of the time.
        image.draft(None, (ENOUGH, ENOUGH))
        image.load()
        with suppress(Exception):  # what says how to turn it is damaged, the picture is not
            ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image)
    except Exception as error:
        raise ImageError(
            "broken", f"{name} starts like a {image.format} picture but is cut off or damaged."
        ) from error


def _too_large(name: str, size: tuple[int, int] | None = None) -> ImageError:
    pixels = f" ({size[0]} x {size[1]} pixels)" if size else ""
    return ImageError(
        "too_large",
        f"{name} is too large{pixels}; at most {MAX_MEGAPIXELS} megapixels can be read.",
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which convert("RGB") would clip to white
        image = _grey(np.asarray(image, np.float32) / 257)
    elif image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        image = _grey(values if values.max() > 1 else values * 255)  # both scales are in use
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")  # no copy: it may be large
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        image = white
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    np.clip(values, 0, 255, out=values)
    return Image.fromarray(np.round(values, out=values).astype(np.uint8))


def to_pixels(
    image: Image.Image, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """The picture, or the part of it in `box` (left, top, right, bottom), as the (32, 32, 3) uint8
    pixels that the network sees; a 32x32 picture goes in untouched."""
    if image.size == (IMAGE_SIZE, IMAGE_SIZE):
        return np.asarray(image)
    # Squashed, as the photographs of CIFAR-10 were; Pillow's filters are antialiased.
    size = (IMAGE_SIZE, IMAGE_SIZE)
    small = image.resize(size, Image.Resampling.BICUBIC, box, REDUCING_GAP)
    return np.asarray(small.filter(ImageFilter.GaussianBlur(SOFTNESS)))


def look_at(source: ImageSource, name: str | None = None) -> np.ndarray:
    """Read a picture and give its views. Raises ImageError."""
    return look(open_image(source, name))


def look(image: Image.Image) -> np.ndarray:
    """The views (V, 32, 32, 3) uint8 of a picture that the network's answers are averaged over:
    the whole picture, its middle square unless it is one, and the middle of that; of a 32x32
    picture itself."""
    # Made smaller once for all views, as far as the smallest of them does not notice.
    factor = min(image.size) // ENOUGH
    if factor >= 16:  # 8 x 8 pixels are enough for a mean: 12 megapixels take 3 ms instead of 16
        stride = factor // 8
        size = image.width // stride, image.height // stride
        image, factor = image.resize(size, Image.Resampling.NEAREST), factor // stride
    if factor > 1:
        image = image.reduce(factor)
    views = [to_pixels(image)]
    if image.size != (IMAGE_SIZE, IMAGE_SIZE):
        shares = MIDDLES[1:] if image.width == image.height else MIDDLES
        views += [to_pixels(image, _middle(image.size, share)) for share in shares]
    return np.stack(views)


def _middle(size: tuple[int, int], share: float) -> tuple[float, float, float, float]:
    """The square in the middle whose side is this share of the shorter side, as a box."""
    half = min(size) * share / 2
    x, y = size[0] / 2, size[1] / 2
    return x - half, y - half, x + half, y + half
