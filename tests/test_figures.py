"""The figures, judged by their pixels."""

import numpy as np
import pytest
from PIL import Image

from cifar_torch import figures
from cifar_torch.webui.words import Words


def pixels(figure, tmp_path) -> np.ndarray:
    path = tmp_path / "figure.png"
    figures.save_figure(figure, path)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def near(image: np.ndarray, colour: str, tolerance: int = 12) -> np.ndarray:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(image - wanted) <= tolerance).all(axis=-1)


def test_sample_grid_shows_every_image_in_its_place(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255),
               (128, 0, 0), (0, 128, 0), (0, 0, 128)]  # fmt: skip
    images = np.array([np.full((32, 32, 3), c, np.uint8) for c in colours])
    image = pixels(figures.sample_grid(images, [f"class {i}" for i in range(9)]), tmp_path)
    height, width = image.shape[:2]
    for i, colour in enumerate(colours):
        row, column = divmod(i, 3)
        spot = image[int(height * (row + 0.55) / 3), int(width * (column + 0.5) / 3)]
        assert tuple(spot) == colour


def test_curves_draw_two_lines_and_rise(tmp_path):
    history = [
        {
            "epoch": i,
            "accuracy": i / 10,
            "loss": 3 - i / 5,
            "val_accuracy": i / 12,
            "val_loss": 3 - i / 6,
        }
        for i in range(1, 8)
    ]
    image = pixels(figures.curves(history), tmp_path)
    left = image[: int(0.7 * len(image)), : image.shape[1] // 2]  # accuracy, without its legend
    rows, columns = np.nonzero(near(left, figures.BLUE))
    first, last = np.quantile(columns, (0.1, 0.9))
    assert rows[columns > last].mean() < rows[columns < first].mean() - 30  # higher on the picture
    assert near(left, figures.GREY).sum() > 100


@pytest.mark.parametrize("classes", [2, 10])
def test_confusion_matrix_is_dark_on_the_diagonal(tmp_path, classes):
    counts = np.full((classes, classes), 1) + np.eye(classes, dtype=int) * 99
    image = pixels(figures.confusion_matrix(counts, [f"c{i}" for i in range(classes)]), tmp_path)
    dark = near(image, "#08306b", tolerance=30)
    rows, columns = np.nonzero(dark)
    assert dark.mean() > 0.02
    assert np.corrcoef(rows, columns)[0, 1] > 0.7


def test_reliability_has_a_panel_each(tmp_path):
    bins = [{"confidence": (i + 0.5) / 15, "accuracy": i / 15, "share": 1 / 15} for i in range(15)]
    one = pixels(figures.reliability({"after": bins}), tmp_path)
    two = pixels(figures.reliability({"before": bins, "after": bins}), tmp_path)
    assert two.shape[1] == pytest.approx(2 * one.shape[1], rel=0.02)
    assert near(two, figures.BLUE).sum() > 1.8 * near(one, figures.BLUE).sum()


def test_the_pages_english_is_that_of_the_figures():
    assert Words("en").section("figure") == figures.WORDS
