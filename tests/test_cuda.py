"""A GPU's step, which is a captured graph, beside the CPU's; for machines that have one."""

import pytest
import torch

from cifar_torch import progress
from cifar_torch import step as step_module
from cifar_torch.data import load_image_folder
from cifar_torch.model import CifarNet
from cifar_torch.processes import Processes
from cifar_torch.progress import Progress, Stopped
from cifar_torch.recipes import get_recipe
from cifar_torch.run import Run
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


def test_replays_do_what_single_steps_do_and_wait_for_nothing(monkeypatch):
    """With a rate that changes, probabilities to learn, max-norm, and smaller batches between."""
    recipe = get_recipe("report", batch_size=8, max_norm=0.5, dropout=0.0, weight_decay=1e-3)
    device, generator = torch.device("cuda"), torch.Generator().manual_seed(0)
    images = torch.randint(256, (8, 3, 32, 32), generator=generator).byte().to(device)
    targets = torch.rand(8, 10, generator=generator).softmax(dim=1).to(device)
    labels = torch.arange(8, device=device)

    def weights_after(steps: int) -> torch.Tensor:
        torch.manual_seed(0)
        run = Run(CifarNet(dropout=0.0).to(device), recipe)
        step = make_step(run.weights, run.optimizer, recipe, torch.float32, Processes(device))
        try:
            for i in range(steps):
                if i == 6:  # by now the graph is there
                    torch.cuda.set_sync_debug_mode("error")
                count = 4 if i % 6 == 5 else 8
                few = (images[:count], targets[:count], labels[:count])
                step(*few, count, 0.01 / (i + 1), (0, i))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return run.weights.vectors[0]

    replayed = weights_after(14)
    monkeypatch.setattr(step_module, "_captured", lambda update, batch_size: update)
    torch.testing.assert_close(replayed, weights_after(14), rtol=1e-3, atol=1e-5)


def test_a_run_with_teachers_and_outliers_is_resumed_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(progress, "REPORT_EVERY", 0)
    data = load_image_folder(write_image_folder(tmp_path / "things", 60))
    recipe = get_recipe("best", epochs=2, teacher=1, batch_size=32, hold_out=0.2, mixup=0.5)

    def stop(now: Progress) -> bool:
        return now.teaching or (now.epoch, now.step) != (2, 2)

    with pytest.raises(Stopped):
        train(data, recipe, tmp_path / "out", device="cuda", on_progress=stop)
    checkpoint = train(data, recipe, tmp_path / "out", device="cuda", resume=True)
    assert [row["epoch"] for row in checkpoint.history] == [1, 2]
    assert all(weight.isfinite().all() for weight in checkpoint.model.parameters())
