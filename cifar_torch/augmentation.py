"""Random changes of training images, each for a whole batch on its device.

What is drawn for an image is a row of whole numbers, drawn apart from the change itself: so a run
can be resumed, and a teacher and its pupil can look at the same picture.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_torch.images import IMAGE_SIZE
from cifar_torch.recipes import Recipe

FINE = 65536  # the steps of a drawn number that is not of pixels
# The columns of what is drawn; those before the cut-out's are shared with a teacher.
SHIFT, MIRRORED, ZOOM, COLOUR, OTHER, PART, CENTRE = (
    slice(0, 2), 2, 3, slice(4, 7), 7, 8, slice(9, 11),
)  # fmt: skip
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and torchvision weigh the channels


@dataclass(frozen=True)
class Augmentation:
    """How a recipe changes its training images; the fields are the recipe's."""

    crop_padding: int = 0
    flip: bool = False
    zoom: float = 0.0
    colour: float = 0.0
    mixup: float = 0.0
    cutout: int = 0

    @classmethod
    def of(cls, recipe: Recipe) -> "Augmentation":
        return cls(**{f.name: getattr(recipe, f.name) for f in fields(cls)})

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """What to do with each of `count` images, (count, 11) int64: the crop's shift down and
        right, mirrored or not, the zoom, brightness, contrast and saturation in [0, FINE), the
        image that is mixed into it and its part in [0, FINE), the row and the column of the
        cut-out's centre."""
        shifts = 2 * self.crop_padding + 1
        limits = (shifts, shifts, 2, *[FINE] * 4, count, FINE, IMAGE_SIZE, IMAGE_SIZE)
        return torch.stack([torch.randint(n, (count,), generator=generator) for n in limits], 1)

    def __call__(self, images: Tensor, draws: Tensor, chosen: Tensor) -> Tensor:
        """Those `chosen` (B,) of the images (N, 3, H, W) uint8, changed as the `draws` (N, 11) of
        all of them say."""
        if not len(chosen):
            return images[chosen]  # of several processes, one may have none of the last batch
        changed = self._changed_alone(images[chosen], draws[chosen])
        if self.mixup:
            others, parts = self.mixed_in(draws[chosen])
            changed = mixup(changed, self._changed_alone(images[others], draws[others]), parts)
        if self.cutout:
            changed = cutout(changed, self.cutout, draws[chosen, CENTRE])
        return changed

    def _changed_alone(self, images: Tensor, draws: Tensor) -> Tensor:
        if self.crop_padding:
            images = crop(images, self.crop_padding, draws[:, SHIFT])
        if self.flip:
            images = flip(images, draws[:, MIRRORED].bool())
        if self.zoom:
            images = zoom(images, _factor(draws[:, ZOOM], self.zoom))
        if self.colour:
            images = colour(images, *_factor(draws[:, COLOUR], self.colour).unbind(1))
        return images

    def mixed_in(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Which image is mixed into each that has these `draws` (B, 11), (B,) int64, and how much
        of the mixture it makes, (B,) float: evenly in [0, 0.5) for a share `mixup` of them, 0 for
        the others. So each stays the larger part of its own mixture."""
        part = draws[:, PART] / (2 * FINE * self.mixup)
        return draws[:, OTHER], part.masked_fill(part >= 0.5, 0.0)


def _factor(draws: Tensor, most: float) -> Tensor:
    """Numbers in [0, FINE) as factors between 1 - most and 1 + most."""
    return 1 + most * (2 * draws.float() / (FINE - 1) - 1)


def crop(images: Tensor, padding: int, shift: Tensor) -> Tensor:
    """Images with `padding` mirrored pixels around, cut at `shift` (N, 2) in [0, 2 padding]."""
    height, width = images.shape[2:]
    rows, columns = (_mirrored(side, padding, images.device) for side in (height, width))
    padded = images[:, :, rows][..., columns]
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # every possible crop; a view
    batch = torch.arange(len(images), device=images.device)
    return windows[batch, :, shift[:, 0], shift[:, 1]]


def _mirrored(length: int, padding: int, device: torch.device) -> Tensor:
    """The positions 0..length-1 with `padding` more on both sides, reflected at the ends."""
    position = torch.arange(-padding, length + padding, device=device).abs()
    return length - 1 - (length - 1 - position).abs()


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Images with those where `mirrored` (N,) bool is set mirrored left to right."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def zoom(images: Tensor, side: Tensor) -> Tensor:
    """The middle of each image, `side` (N,) of its height and width, on the whole area; where a
    side is above 1, with mirrored pixels around. Bilinear."""
    scaled = side[:, None, None] * torch.eye(2, 3, device=images.device)
    grid = F.affine_grid(scaled, list(images.shape), align_corners=False)
    zoomed = F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
    return zoomed.round_().byte()


def colour(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Images with each pixel times `brightness`, its distance from the image's mean grey times
    `contrast`, and that from its own grey times `saturation`; each (N,), 1 changes nothing."""
    brightness, contrast, saturation = (
        factor[:, None, None, None] for factor in (brightness, contrast, saturation)
    )
    pixels = (images * brightness).clamp_(max=255)
    mean = _grey(pixels).mean(dim=(2, 3), keepdim=True)
    pixels = torch.lerp(mean, pixels, contrast).clamp_(0, 255)
    return torch.lerp(_grey(pixels), pixels, saturation).clamp_(0, 255).round_().byte()


def _grey(pixels: Tensor) -> Tensor:
    """Pixels (N, 3, H, W) as (N, 1, H, W); by numbers, as a tensor of weights would make a GPU wait
    for its copy."""
    red, green, blue = pixels.split(1, dim=1)
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def mixup(images: Tensor, others: Tensor, part: Tensor) -> Tensor:
    """Images of which `part` (N,) is the other one's, pixel by pixel (arXiv 1710.09412)."""
    return torch.lerp(images.float(), others.float(), part[:, None, None, None]).round_().byte()


def cutout(images: Tensor, size: int, centre: Tensor) -> Tensor:
    """Images with a square of `size` pixels around `centre` (N, 2) made mid-grey.

    The square is cut off at the border, as in DeVries and Taylor's paper (arXiv 1708.04552).
    """
    start = centre - size // 2

    def inside(length: int, first: Tensor) -> Tensor:
        position = torch.arange(length, device=images.device)
        return (position >= first[:, None]) & (position < first[:, None] + size)

    rows, columns = inside(images.shape[2], start[:, 0]), inside(images.shape[3], start[:, 1])
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 127)
