"""Several processes train as one does, and a killed one does not end the run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from cifar_torch import progress
from cifar_torch.checkpoint import load_checkpoint
from cifar_torch.data import load_image_folder
from cifar_torch.progress import Stopped
from cifar_torch.recipes import get_recipe
from cifar_torch.training import train
from tests.server import ROOT

EPOCHS = 2


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of noise in two classes: 40 and 41 to train on, so that of the last batch, one
    picture, one process has none."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, darkest, count in (("dark", 0, 44), ("light", 120, 45)):
        (folder / name).mkdir()
        for i in range(count):  # of which a tenth is the test
            pixels = rng.integers(darkest, darkest + 120, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


FAILING_LEAD = """
import os
from cifar_torch.errors import UserError
from cifar_torch.processes import join_processes

def load():
    if os.environ["LOCAL_RANK"] == "0":
        raise UserError("the disk is full")
    raise AssertionError("this process should have heard of it")

with join_processes("cpu") as processes:
    try:
        processes.one_a_machine_first(load)
    except UserError as error:
        open(f"{os.environ['OUT']}/{processes.rank}", "w").write(str(error))
"""


def run_in_two(job: str, out: Path, **variables: str) -> None:
    """Run a program in two processes, one thread each."""
    (out / "job.py").write_text(job)
    launcher = "-m torch.distributed.run --standalone --nproc-per-node=2"
    environment = {"OMP_NUM_THREADS": "1", "OUT": str(out), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *launcher.split(), out / "job.py"],
        env=os.environ | environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_what_fails_in_the_first_process_is_said_in_all(tmp_path):
    run_in_two(FAILING_LEAD, tmp_path)
    assert [(tmp_path / rank).read_text() for rank in "01"] == 2 * ["the disk is full"]


DIFFERING = """
import os
from pathlib import Path
from cifar_torch.data import load_image_folder
from cifar_torch.errors import UserError
from cifar_torch.recipes import get_recipe
from cifar_torch.training import train

out, rank = Path(os.environ["OUT"]), int(os.environ["RANK"])
data = load_image_folder(Path(os.environ["PICTURES"]))
lr = 0.02 if os.environ["LR"] == str(rank) else 0.01
recipe = get_recipe("report", epochs=2, batch_size=16, lr=lr, dropout=0)
try:
    train(data, recipe, out / "out", device="cpu", precision="fp32", resume=rank == 0)
    (out / str(rank)).write_text("done")
except UserError as error:
    (out / str(rank)).write_text(str(error))
"""


@pytest.fixture
def unfinished(pictures, tmp_path, monkeypatch) -> Path:
    """A folder with the run `out` of one process, stopped in the middle of its first epoch."""
    recipe = get_recipe("report", epochs=2, batch_size=16, dropout=0)
    monkeypatch.setattr(progress, "REPORT_EVERY", 0.0)
    options = {"device": "cpu", "precision": "fp32", "on_progress": lambda p: p.step < 3}
    with pytest.raises(Stopped):
        train(load_image_folder(pictures), recipe, tmp_path / "out", **options)
    return tmp_path


def test_a_difference_between_processes_is_said_in_all(pictures, unfinished):
    run_in_two(DIFFERING, unfinished, PICTURES=str(pictures), LR="1")
    first, second = ((unfinished / rank).read_text() for rank in "01")
    assert first == second
    assert first.startswith("process 1 has another lr than the first (0.02, there 0.01)")


def test_processes_go_on_together_though_only_the_first_was_asked_to(pictures, unfinished):
    run_in_two(DIFFERING, unfinished, PICTURES=str(pictures), LR="none")
    assert [(unfinished / rank).read_text() for rank in "01"] == ["done", "done"]
    resumed = load_checkpoint(unfinished / "out")
    assert resumed.metrics["finished"]
    recipe = get_recipe("report", epochs=2, batch_size=16, dropout=0)
    whole = train(load_image_folder(pictures), recipe, unfinished / "whole", device="cpu")
    for row, undisturbed in zip(resumed.history, whole.history, strict=True):
        assert row["loss"] == pytest.approx(undisturbed["loss"], rel=1e-3)
        assert row["accuracy"] == pytest.approx(undisturbed["accuracy"])


TAUGHT = """
import os
from pathlib import Path
from cifar_torch.data import load_image_folder
from cifar_torch import teacher
from cifar_torch.recipes import get_recipe
from cifar_torch.teacher import Teachers
from cifar_torch.training import train

teacher.MIN_STEPS = teacher.VIEWS = 1
out, rank, answers = Path(os.environ["OUT"]), os.environ["RANK"], Teachers.answers

def noted(teachers):
    (out / f"taught by {rank}").touch()
    return answers(teachers)

Teachers.answers = noted
data = load_image_folder(Path(os.environ["PICTURES"]))
train(data, get_recipe("report", epochs=1, batch_size=16, teacher=1), out / "out", device="cpu")
"""


def test_teachers_are_trained_once_for_all_processes(pictures, tmp_path):
    run_in_two(TAUGHT, tmp_path, PICTURES=str(pictures), XDG_CACHE_HOME="/dev/null")
    assert [path.name for path in tmp_path.glob("taught by *")] == ["taught by 0"]
    assert load_checkpoint(tmp_path / "out").metrics["finished"]


def start(pictures: Path, out: Path, processes: int = 1) -> subprocess.Popen:
    """A training run in processes of their own, one thread each; it prints into log.txt."""
    launcher = (
        f"-m torch.distributed.run --standalone --nproc-per-node={processes} --max-restarts=1"
    )
    environment = {
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "XDG_CACHE_HOME": str(out.parent),
    }
    with (out.parent / "log.txt").open("w") as log:
        return subprocess.Popen(
            [
                sys.executable, *(launcher.split() if processes > 1 else []), ROOT / "train.py",
                "--image-folder", pictures, "--out", out, "--device", "cpu", "--precision", "fp32",
                "--batch-size", "16", "--epochs", str(EPOCHS), "--dropout", "0", "--lr", "0.001",
                "--mixup", "0.5", "--averaging", "0.9",
            ],
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip


def finish(run: subprocess.Popen, out: Path) -> None:
    """Wait until a run has ended, as it should."""
    try:
        run.wait(timeout=120)
    finally:
        run.kill()
    assert run.returncode == 0, (out.parent / "log.txt").read_text()
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["finished"]
    assert metrics["epochs"] == EPOCHS


def largest_difference(a: Path, b: Path) -> float:
    """Of the weights of two checkpoints."""
    a_weights, b_weights = (load_file(folder / "model.safetensors") for folder in (a, b))
    return max((a_weights[name] - b_weights[name]).abs().max().item() for name in a_weights)


@pytest.fixture(scope="module")
def out_of_two(pictures, tmp_path_factory) -> Path:
    """The checkpoint folder of two undisturbed processes."""
    out = tmp_path_factory.mktemp("two") / "out"
    finish(start(pictures, out, processes=2), out)
    return out


def test_two_processes_train_as_one_does(pictures, out_of_two, tmp_path):
    out = tmp_path / "out"
    finish(start(pictures, out), out)
    assert largest_difference(out, out_of_two) < 1e-5
    assert (out / "history.csv").read_text().count("\n") == EPOCHS + 1


def kill_a_worker(launcher: subprocess.Popen) -> None:
    """Kill the first of the processes that torchrun has started, the one that writes."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)


def wait_until(happened: Callable[[], bool], run: subprocess.Popen) -> None:
    while not happened():
        assert run.poll() is None, "the run ended too early"
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_worker_comes_back_from_the_last_checkpoint(pictures, out_of_two, tmp_path, epoch):
    out, log = tmp_path / "out", tmp_path / "log.txt"
    run = start(pictures, out, processes=2)
    if epoch == 1:  # no checkpoint yet
        wait_until(lambda: "Training on" in log.read_text(), run)
    else:
        wait_until((out / "metrics.json").exists, run)
    time.sleep(0.1)  # into the epoch
    kill_a_worker(run)
    finish(run, out)
    assert ("Going on after step 6 of 12" in log.read_text()) == (epoch == 2)
    assert largest_difference(out, out_of_two) < 1e-6
