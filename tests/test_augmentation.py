"""Each augmentation of whole batches against a slow plain version."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional

from cifar_torch import augmentation
from cifar_torch.batches import Batches
from cifar_torch.data import Split
from cifar_torch.processes import join_processes
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


def test_mixup_blends_pixel_by_pixel():
    parts = torch.rand(64, generator=torch.Generator().manual_seed(4)) / 2
    parts[7] = 0
    others = IMAGES.roll(1, 0)
    mixed = augmentation.mixup(IMAGES, others, parts)
    wanted = [
        (1 - p) * image + p * other
        for image, other, p in zip(IMAGES.numpy(), others.numpy(), parts.tolist(), strict=True)
    ]
    assert np.abs(mixed.numpy() - np.stack(wanted)).max() < 0.51
    assert torch.equal(mixed[7], IMAGES[7])


def test_draws_reach_every_change():
    change = augmentation.Augmentation(crop_padding=4)
    draws = change.draw(5000, torch.Generator().manual_seed(0))
    for column, count in ((0, 9), (1, 9), (9, 32), (10, 32)):
        assert sorted(draws[:, column].unique().tolist()) == list(range(count))
    assert draws[:, 2].float().mean().item() == pytest.approx(0.5, abs=0.03)
    fine = draws[:, 3:9].float() / torch.tensor([65536] * 4 + [5000, 65536])
    assert fine.min() < 0.01 and fine.max() > 0.99
    assert torch.corrcoef(fine.T).fill_diagonal_(0).abs().max() < 0.06  # each for itself


def test_an_augmentation_is_its_parts_one_after_the_other():
    change = augmentation.Augmentation(4, True, zoom=0.25, colour=0.4, mixup=0.5, cutout=6)
    draws = change.draw(64, torch.Generator().manual_seed(5))
    wanted = augmentation.crop(IMAGES, 4, draws[:, :2])
    wanted = augmentation.flip(wanted, draws[:, 2].bool())
    factors = (draws[:, 3:7] / 65535 * 2 - 1) * torch.tensor([0.25, 0.4, 0.4, 0.4]) + 1
    assert factors.min() < 0.65 and 1.2 < factors[:, 0].max() < 1.25
    wanted = augmentation.zoom(wanted, factors[:, 0])
    wanted = augmentation.colour(wanted, *factors[:, 1:].T)
    parts = draws[:, 8] / 65536
    parts[draws[:, 8] >= 32768] = 0
    assert (parts == 0).sum() in range(20, 45) and parts.max() > 0.4
    wanted = augmentation.mixup(wanted, wanted[draws[:, 7]], parts)
    wanted = augmentation.cutout(wanted, 6, draws[:, 9:])
    some = torch.tensor([3, 60, 3, 17])
    for chosen in (torch.arange(64), some):
        changed = change(IMAGES, draws, chosen).int()
        assert (changed - wanted[chosen].int()).abs().max() <= 1  # float rounding
    assert torch.equal(augmentation.Augmentation()(IMAGES, draws, some), IMAGES[some])
    assert change(IMAGES, draws, some[:0]).shape == (0, 3, 32, 32)


def test_a_recipes_augmentation_has_its_knobs():
    recipe = get_recipe("best", zoom=0.1, colour=0.2, mixup=0.3, cutout=6)
    assert augmentation.Augmentation.of(recipe) == augmentation.Augmentation(
        4, True, zoom=0.1, colour=0.2, mixup=0.3, cutout=6
    )


def test_a_blend_is_to_be_answered_as_a_blend():
    labels = torch.arange(300) % 4
    greys = (80 * labels)[:, None, None, None].expand(-1, 3, 32, 32).byte()
    with join_processes("cpu") as processes:
        recipe = get_recipe("report", batch_size=64, mixup=0.75)
        batches = Batches(Split(greys, labels), recipe, 0, processes)
        batches.prepare(4, torch.Tensor.float, torch.float32, lambda epoch: None)
        parts = list(batches.epoch(0, 0))
    images, targets, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    told = targets @ (80 * torch.arange(4.0))
    assert (images - told[:, None, None, None]).abs().max() < 0.51
    assert torch.equal(targets.argmax(dim=1), labels)  # the larger part's
    pure = (targets.max(dim=1).values == 1).float().mean()  # a quarter of all, of others a quarter
    assert 0.36 < pure < 0.52
