"""Each augmentation of whole batches against a slow plain version."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional

from cifar_torch import augmentation
from cifar_torch.recipes import get_recipe

IMAGES = torch.randint(
    0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def test_crop_is_numpys_reflected_padding_and_a_cut():
    shift = torch.randint(0, 9, (64, 2), generator=torch.Generator().manual_seed(1))
    cropped = augmentation.crop(IMAGES, 4, shift).numpy()
    for image, result, (down, right) in zip(IMAGES.numpy(), cropped, shift.tolist(), strict=True):
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="reflect")
        assert np.array_equal(result, padded[:, down : down + 32, right : right + 32])


def test_flip_mirrors_the_chosen_images_only():
    mirrored = torch.arange(64) % 3 == 0
    flipped = augmentation.flip(IMAGES, mirrored).numpy()
    for image, result, turn in zip(IMAGES.numpy(), flipped, mirrored.tolist(), strict=True):
        assert np.array_equal(result, image[:, :, ::-1] if turn else image)


@pytest.mark.parametrize("size", [1, 7, 8])
def test_cutout_blanks_a_square_cut_off_at_the_border(size):
    centre = torch.randint(0, 32, (64, 2), generator=torch.Generator().manual_seed(2))
    results = augmentation.cutout(IMAGES, size, centre).numpy()
    for image, result, (row, column) in zip(IMAGES.numpy(), results, centre.tolist(), strict=True):
        wanted = image.copy()
        top, left = row - size // 2, column - size // 2
        wanted[:, max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)] = 127
        assert np.array_equal(result, wanted)


def test_zoom_is_pytorchs_resize_of_the_middle():
    for side in (16, 24, 32):
        part = torch.full((64,), side / 32)
        zoomed = augmentation.zoom(IMAGES, part).int()
        edge = (32 - side) // 2
        middle = IMAGES[:, :, edge : 32 - edge, edge : 32 - edge].float()
        wanted = F.interpolate(middle, (32, 32), mode="bilinear", align_corners=False)
        rim = 2 if side < 32 else 0  # there the resize sees the edge of the middle, the zoom beyond
        inside = slice(rim, 32 - rim)
        assert (zoomed - wanted.round())[:, :, inside, inside].abs().max() <= 1


def test_a_zoom_out_shows_the_picture_smaller_with_mirrored_pixels_around():
    picture = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    picture[..., 8:24, 8:24] = 200
    smaller = augmentation.zoom(picture, torch.tensor([2.0]))[0, 0]
    square = torch.zeros(32, 32, dtype=torch.bool)
    square[12:20, 12:20] = True
    assert (smaller[square] == 200).all()
    assert (smaller[8:24, 8:24][~square[8:24, 8:24]] == 0).all()
    assert smaller[0, 0] == 200  # of the mirrored picture beyond the corner


def test_colour_is_torchvisions_brightness_contrast_and_saturation():
    factors = 0.6 + 0.8 * torch.rand(3, 64, generator=torch.Generator().manual_seed(3))
    changed = augmentation.colour(IMAGES, *factors)
    for image, result, (brightness, contrast, saturation) in zip(
        IMAGES, changed, factors.T.tolist(), strict=True
    ):
        wanted = functional.adjust_brightness(image / 255, brightness)
        wanted = functional.adjust_contrast(wanted, contrast)
        wanted = functional.adjust_saturation(wanted, saturation) * 255
        assert (result - wanted).abs().max() < 0.6


def test_draws_reach_every_crop_zoom_and_colour_and_both_mirror_images():
    change = augmentation.Augmentation(crop_padding=4)
    draws = change.draw(5000, torch.Generator().manual_seed(0))
    for column, count in ((0, 9), (1, 9), (7, 32), (8, 32)):
        assert sorted(draws[:, column].unique().tolist()) == list(range(count))
    assert draws[:, 2].float().mean().item() == pytest.approx(0.5, abs=0.03)
    fine = draws[:, 3:7].float() / augmentation.FINE
    assert fine.min() < 0.01 and fine.max() > 0.99
    assert torch.corrcoef(fine.T).fill_diagonal_(0).abs().max() < 0.06  # each for itself


def test_an_augmentation_is_its_parts_one_after_the_other():
    change = augmentation.Augmentation(4, True, zoom=0.25, colour=0.4, cutout=6)
    draws = change.draw(64, torch.Generator().manual_seed(5))
    wanted = augmentation.crop(IMAGES, 4, draws[:, :2])
    wanted = augmentation.flip(wanted, draws[:, 2].bool())
    factors = (draws[:, 3:7] / 65535 * 2 - 1) * torch.tensor([0.25, 0.4, 0.4, 0.4]) + 1
    assert factors.min() < 0.65 and 1.2 < factors[:, 0].max() < 1.25
    wanted = augmentation.zoom(wanted, factors[:, 0])
    wanted = augmentation.colour(wanted, *factors[:, 1:].T)
    wanted = augmentation.cutout(wanted, 6, draws[:, 7:])
    assert (change(IMAGES, draws).int() - wanted.int()).abs().max() <= 1  # float rounding
    assert torch.equal(augmentation.Augmentation()(IMAGES, draws), IMAGES)
    assert change(IMAGES[:0], draws[:0]).shape == (0, 3, 32, 32)


def test_a_recipes_augmentation_has_its_knobs():
    recipe = get_recipe("best", zoom=0.1, colour=0.2)
    assert augmentation.Augmentation.of(recipe) == augmentation.Augmentation(4, True, 0.1, 0.2, 6)
