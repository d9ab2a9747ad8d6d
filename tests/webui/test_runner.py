"""Training runs in a thread of the server."""

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from cifar_torch import training
from cifar_torch.checkpoint import STATE
from cifar_torch.classifier import Classifiers
from cifar_torch.data import Data, load_image_folder
from cifar_torch.errors import ReasonedError, UserError
from cifar_torch.progress import Progress, Stopped
from cifar_torch.recipes import get_recipe
from cifar_torch.webui import train
from cifar_torch.webui.page import explained
from cifar_torch.webui.runner import Runner, Status
from cifar_torch.webui.words import Words
from tests.pictures import write_image_folder
from tests.server import ROOT


def test_a_run_that_has_ended_is_shown_with_its_last_epoch(tmp_path):
    data = load_image_folder(write_image_folder(tmp_path / "things", per_class=12))
    runner = Runner(Classifiers(tmp_path, default=ROOT / "checkpoints" / "report"))
    runner.start("mine", get_recipe("report", epochs=2), lambda: data)
    wait_until(lambda: not runner.status.running)
    progress = runner.status.progress
    assert runner.status.phase == "done" and progress.epoch == progress.epochs == 2
    assert progress.step == progress.steps and [row["epoch"] for row in progress.history] == [1, 2]


def test_no_model_is_trained_under_the_name_of_another(tmp_path):
    runner = Runner(Classifiers(tmp_path, default=ROOT / "checkpoints" / "report"))
    with pytest.raises(ReasonedError, match="there is a checkpoint 'report' already"):
        runner.start("report", get_recipe("report"), lambda: pytest.fail("it began"))


def test_a_second_click_is_none_if_it_is_for_other_pictures(tmp_path):
    runner = Runner(Classifiers(tmp_path, default=ROOT / "checkpoints" / "report"))
    ended = threading.Event()

    def load():
        ended.wait(60)
        raise Stopped

    runner.start("mine", get_recipe("report"), load, images="a.zip")
    runner.start("mine", get_recipe("report"), load, images="a.zip")
    with pytest.raises(ReasonedError, match="mine is being trained already"):
        runner.start("mine", get_recipe("report"), load, images="b.zip")
    ended.set()
    wait_until(lambda: not runner.status.running)


def test_a_run_that_cannot_even_begin_makes_room_for_another(tmp_path, monkeypatch):
    monkeypatch.setattr("cifar_torch.webui.runner.prepare_cpu", lambda: 1 / 0)
    monkeypatch.setattr(threading, "excepthook", lambda failure: None)
    runner = Runner(Classifiers(tmp_path, default=ROOT / "checkpoints" / "report"))
    runner.start("mine", get_recipe("report"), lambda: pytest.fail("it began"))
    wait_until(lambda: not runner.status.running)
    assert runner.status.phase == "failed" and "ZeroDivisionError" in str(runner.status.error)


def test_a_run_that_had_ended_when_it_was_stopped_is_done(tmp_path, monkeypatch):
    data = load_image_folder(write_image_folder(tmp_path / "things", per_class=12))
    runner = Runner(Classifiers(tmp_path, default=ROOT / "checkpoints" / "report"))
    trained = training.train

    def train_then_stop(*arguments, **options):
        checkpoint = trained(*arguments, **options)
        runner.stop()
        return checkpoint

    monkeypatch.setattr(training, "train", train_then_stop)
    runner.start("mine", get_recipe("report", epochs=1), lambda: data)
    wait_until(lambda: not runner.status.running)
    assert runner.status.phase == "done"


def test_a_run_that_is_stopped_before_its_first_step_leaves_nothing(tmp_path, monkeypatch):
    data = load_image_folder(write_image_folder(tmp_path / "things", per_class=12))
    runner = Runner(Classifiers(tmp_path, default=ROOT / "checkpoints" / "report"))

    def load():
        (tmp_path / "mine" / "another program's").mkdir(parents=True)
        runner.stop()
        return data

    runner.start("mine", get_recipe("report", epochs=2), load)
    wait_until(lambda: not runner.status.running)
    assert runner.status.phase == "stopped"
    assert (tmp_path / "mine" / "another program's").exists()
    trained = training.train

    def stop_then_train(*arguments, **options):
        runner.stop()
        return trained(*arguments, **options)

    monkeypatch.setattr(training, "train", stop_then_train)
    runner.start("other", get_recipe("report", epochs=2), lambda: data)
    wait_until(lambda: not runner.status.running)
    assert runner.status.phase == "stopped"
    assert not (tmp_path / "other").exists()
    step = Progress(1, 2, 0, 3, 0.0, 0.0, ())
    assert not Status("stopped", "mine", step).learned
    assert Status("stopped", "mine", replace(step, step=1)).learned
    assert Status("stopped", "mine", replace(step, epoch=2)).learned


def test_a_run_that_was_stopped_goes_on_under_its_name(tmp_path):
    data = load_image_folder(write_image_folder(tmp_path / "things", per_class=12))
    classifiers = Classifiers(tmp_path, default=ROOT / "checkpoints" / "report")
    recipe = get_recipe("report", epochs=40)
    runner = Runner(classifiers)
    runner.start("mine", recipe, lambda: data)
    wait_until(lambda: runner.status.learned)
    runner.stop()
    wait_until(lambda: not runner.status.running)
    assert runner.status.phase == "stopped" and len(runner.status.progress.history) < 40

    runner = Runner(classifiers)  # as after the app was started again
    runner.start("mine", get_recipe("report", epochs=40, lr=0.02), lambda: data)
    wait_until(lambda: not runner.status.running)
    assert runner.status.phase == "failed"
    assert explained(runner.status.error, Words("vi")) == Words("vi")("error.other_run")

    def load():
        runner.stop()
        return data

    runner.start("mine", recipe, load)
    wait_until(lambda: not runner.status.running)
    assert "learned so far" in train.status_html(runner.status, Words("en"))
    runner.start("mine", recipe, lambda: data)
    wait_until(lambda: not runner.status.running)
    assert runner.status.phase == "done"
    assert [row["epoch"] for row in runner.status.progress.history] == list(range(1, 41))


def test_a_run_under_way_is_saved_when_the_app_ends(tmp_path):
    data = load_image_folder(write_image_folder(tmp_path / "things", per_class=12))
    runner = Runner(Classifiers(tmp_path, default=ROOT / "checkpoints" / "report"))
    runner.start("mine", get_recipe("report", epochs=500), lambda: data)
    wait_until(lambda: runner.status.learned)
    runner.end()
    assert runner.status.phase == "stopped" and (tmp_path / "mine" / STATE).exists()


def test_visitors_get_no_folder_of_the_server_when_a_run_fails(tmp_path, monkeypatch, capsys):
    runner = Runner(Classifiers(tmp_path, default=ROOT / "checkpoints" / "report"))

    def fail(load: Callable[[], Data]) -> str:
        runner.start("mine", get_recipe("report"), load)
        wait_until(lambda: not runner.status.running)
        return explained(runner.status.error, Words("en"))

    monkeypatch.setenv("CIFAR_TORCH_IMAGE_FOLDER", str(tmp_path / "pictures"))
    assert fail(functools.partial(train._load, runner, None)) == Words("en")("error.images")

    def full(*arguments, **options):
        raise UserError(f"cannot write {tmp_path / 'mine'}: No space left on device.")

    monkeypatch.setattr(training, "train", full)
    data = load_image_folder(write_image_folder(tmp_path / "things", per_class=2))
    assert fail(lambda: data) == "cannot write mine: No space left on device."
    assert capsys.readouterr().err.count("mine could not be trained: ") == 2


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(1800):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")
