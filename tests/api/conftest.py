"""A page with POST /api/classify in its server, with and without a password."""

import pytest
import torch

from cifar_torch.checkpoint import Checkpoint, save_checkpoint
from cifar_torch.classifier import Classifiers
from cifar_torch.data import CIFAR10_CLASSES
from cifar_torch.model import CifarNet
from tests.api.client import ACCOUNT, serve


@pytest.fixture(scope="package")
def classifiers(tmp_path_factory) -> Classifiers:
    """Two networks that know nothing, but say it loudly: every picture has an answer of its own."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, name in enumerate(("best", "other")):
        torch.manual_seed(seed)
        model = CifarNet()
        with torch.no_grad():
            model.layers.get_submodule("dense_2").weight.mul_(60)
        config = {"num_classes": 10, "class_names": CIFAR10_CLASSES}
        save_checkpoint(Checkpoint(model, config), folder / name)
    return Classifiers(folder)


@pytest.fixture(scope="package")
def url(classifiers):
    yield from serve(classifiers)


@pytest.fixture(scope="package")
def guarded_url(classifiers):
    yield from serve(classifiers, auth=ACCOUNT, mcp_server=True)
