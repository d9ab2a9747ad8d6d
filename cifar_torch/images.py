"""Any picture that people have -> RGB -> the 32x32 pixels that the network sees."""

import io
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from cifar_torch.errors import UserError

ImageSource = str | Path | bytes | BinaryIO | Image.Image | np.ndarray

IMAGE_SIZE = 32
MAX_MEGAPIXELS = 100
# Named, so that a file never reaches Pillow's readers for PostScript, PDF and the like.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "PPM")
FORMATS_FOR_PEOPLE = "JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF"
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .png .webp .bmp .dib .tif .tiff .gif .avif .ppm .pgm .pbm".split()
)


class ImageError(UserError):
    """A file that cannot be used as a picture.

    `reason` is one of "missing", "empty", "unreadable", "broken" or "too_large", for callers that
    say it in another language; the message says it in English, with the file's name.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def open_image(source: ImageSource, name: str | None = None) -> Image.Image:
    """Read a picture of any supported kind as 8-bit RGB, upright, transparency over white.

    `source` is a path, the file's bytes, an open binary file, a PIL image, or an (H, W, 3) or
    (H, W) uint8 array. An animation gives its first frame. `name` is what errors call it.
    Raises ImageError.
    """
    if isinstance(source, np.ndarray):
        source = Image.fromarray(source)
    if isinstance(source, Image.Image):
        return _to_rgb(source)
    if isinstance(source, (str, Path)):
        name = name or Path(source).name
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise ImageError("missing", f"{name}: {error.strerror or error}.") from error
    elif not isinstance(source, bytes):
        source = source.read()
    name = name or "This file"
    if not source:
        raise ImageError("empty", f"{name} is empty (0 bytes).")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limit below replaces Pillow's bomb warning
        try:
            image = Image.open(io.BytesIO(source), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise _too_large(name) from error
        except Exception as error:  # Pillow's readers raise many kinds for a file that is not theirs
            raise ImageError(
                "unreadable", f"{name} is not a picture that can be read; use {FORMATS_FOR_PEOPLE}."
            ) from error
        if image.width * image.height > MAX_MEGAPIXELS * 1_000_000:
            raise _too_large(name, image.size)
        try:
            # JPEG only: decode a 12-megapixel photograph at an eighth of its size, 10 times faster.
            image.draft("RGB", (8 * IMAGE_SIZE, 8 * IMAGE_SIZE))
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
        values = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    elif image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        scale = 1 if values.max() > 1 else 255  # both 0..255 and 0..1 are in use
        image = Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8))
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def to_pixels(image: Image.Image) -> np.ndarray:
    """The (32, 32, 3) uint8 pixels that the network sees; a 32x32 picture goes in untouched."""
    if image.size != (IMAGE_SIZE, IMAGE_SIZE):
        # Squashed, as the photographs of CIFAR-10 were; Pillow's filters are antialiased.
        image = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(image)
