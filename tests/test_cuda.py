"""A GPU's step, which is a captured graph, beside the CPU's; for machines that have one."""

import pytest
import torch

from cifar_torch.data import load_image_folder
from cifar_torch.model import CifarNet
from cifar_torch.processes import Processes
from cifar_torch.recipes import get_recipe
from cifar_torch.step import FlatNet, make_optimizer, make_step
from cifar_torch.training import train
from tests.pictures import write_image_folder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def test_a_run_on_a_gpu_learns_what_one_on_the_cpu_does(tmp_path):
    data = load_image_folder(write_image_folder(tmp_path / "things", 60))
    recipe = get_recipe("fast", epochs=3, batch_size=32, lr=0.001)  # 216 images: a last batch of 24

    def curve(device: str, precision: str) -> list[float]:
        out = tmp_path / f"{device}-{precision}"
        checkpoint = train(data, recipe, out, device=device, precision=precision)
        return [row["loss"] for row in checkpoint.history]

    plain = curve("cpu", "fp32")
    assert curve("cuda", "fp32") == pytest.approx(plain, abs=0.01)
    assert curve("cuda", "bf16") == pytest.approx(plain, abs=0.03)


def test_every_replay_drops_something_else_and_a_seed_always_the_same():
    def losses(seed: int) -> list[float]:
        torch.manual_seed(0)
        weights = FlatNet(CifarNet(dropout=0.5).cuda())
        recipe = get_recipe("report", batch_size=8)
        optimizer = make_optimizer(weights, recipe)
        step = make_step(weights, optimizer, recipe, torch.float32, Processes(torch.device("cuda")))
        images = torch.arange(8 * 3 * 32 * 32, device="cuda").view(8, 3, 32, 32).byte()
        labels = torch.arange(8, device="cuda")
        torch.manual_seed(seed)
        return [step(images, labels, labels, 8, 0.0, (0, i))[0].item() for i in range(10)]

    assert len(set(losses(1))) == 10  # the weights stay: the rate is 0
    assert losses(1) == losses(1) != losses(2)
