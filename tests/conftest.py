"""A checkpoint that knows its pictures by heart, and the app as a visitor's browser meets it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cifar_torch.checkpoint import Checkpoint, save_checkpoint
from cifar_torch.data import CIFAR10_CLASSES, Data, load_image_folder
from cifar_torch.evaluation import measure
from cifar_torch.images import look, open_image
from cifar_torch.model import CifarNet
from cifar_torch.webui.words import Words
from tests.browser import (  # noqa: F401
    find_browser,
    pytest_collection_modifyitems,
    pytest_sessionfinish,
    pytest_unconfigure,
)
from tests.pictures import write_image_folder
from tests.server import ROOT, running_app

EXAMPLES = ROOT / "cifar_torch" / "webui" / "examples"


@dataclass(frozen=True)
class App:
    """A running app.py."""

    url: str
    checkpoints: Path


def learn_by_heart(images: torch.Tensor, labels: torch.Tensor) -> CifarNet:
    """A network that names these few images (N, 3, 32, 32) rightly; it knows nothing else."""
    torch.manual_seed(0)
    model = CifarNet(dropout=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(60):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(images).argmax(dim=1) == labels).all()
    return model.eval()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> Iterator[None]:
    """What is kept between runs is not looked for, nor left, in the cache of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Images to train on: four kinds of things, easily told apart."""
    return write_image_folder(tmp_path_factory.mktemp("things"), 150)


@pytest.fixture
def data(folder) -> Data:
    return load_image_folder(folder)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> Path:
    """`best` names every shipped example rightly; `swapped` calls each the next class."""
    folder = tmp_path_factory.mktemp("served") / "checkpoints"
    views = [look(open_image(EXAMPLES / f"{name}.png")) for name in CIFAR10_CLASSES]
    images = torch.from_numpy(np.concatenate(views)).permute(0, 3, 1, 2)
    labels = torch.arange(10).repeat_interleave(len(views[0]))
    model = learn_by_heart(images, labels)
    with torch.no_grad():
        metrics = measure(model(images)[:, None], labels, CIFAR10_CLASSES)
    history = [
        {"epoch": e, "accuracy": a, "loss": 1 - a, "val_accuracy": a - 0.1, "val_loss": 1.1 - a}
        for e, a in ((1, 0.5), (2, 0.7), (3, 0.8))
    ]
    config = {"class_names": list(CIFAR10_CLASSES), "recipe": {"name": "by-heart"}}
    save_checkpoint(Checkpoint(model, config, metrics, history), folder / "best")
    swapped = config | {"class_names": [*CIFAR10_CLASSES[1:], CIFAR10_CLASSES[0]]}
    save_checkpoint(Checkpoint(model, swapped), folder / "swapped")
    return folder


@pytest.fixture(scope="session")
def test_images(tmp_path_factory) -> Path:
    """A folder with test images: the examples, each twice, once mirrored."""
    folder = tmp_path_factory.mktemp("served")
    for name in CIFAR10_CLASSES:
        of_class = folder / "test" / name
        of_class.mkdir(parents=True)
        image = Image.open(EXAMPLES / f"{name}.png").convert("RGB").resize((32, 32))
        image.save(of_class / "0.png")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(of_class / "1.png")
    return folder


@pytest.fixture(scope="session")
def app(checkpoints, test_images) -> Iterator[App]:
    """The app with both checkpoints and test images, as it is started on one's own machine."""
    variables = {
        "CIFAR_TORCH_IMAGE_FOLDER": str(test_images),
        "OMP_NUM_THREADS": "1",
    }
    with running_app("--checkpoints", checkpoints, env=os.environ | variables) as running:
        yield App(running.url, checkpoints)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # here: most tests do without a browser

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_browser(), args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, app):
    """Opens the app as a visitor with this language would. At the end of the test: nothing was
    written to the console as an error, and nothing was asked of any other machine."""
    contexts, complaints = [], []

    def open_page(language: str = "en", width: int = 1280, path: str = "", **options):
        locale = {"en": "en-US", "vi": "vi-VN", "fr": "fr-FR"}[language]
        context = browser.new_context(
            locale=locale, viewport={"width": width, "height": 900}, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: complaints.append(r.url) if is_elsewhere(r.url) else None)
        page.goto(f"{app.url}/{path}")
        page.wait_for_selector("#examples button")
        # Has its language: first the title, then the labels of the tabs.
        page.wait_for_function("document.title.startsWith('cifar-torch: ')")
        words = Words(page.evaluate("document.documentElement.lang"))
        page.get_by_role("tab", name=words("tab.classify"), exact=True).wait_for()
        return page

    def is_elsewhere(url: str) -> bool:
        return not url.startswith((app.url, "data:", "blob:"))

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
