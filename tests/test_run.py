"""A run that is stopped anywhere goes on as if it had not been."""

import json
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cifar_torch import progress
from cifar_torch.checkpoint import CONFIG, STATE, load_checkpoint, write_json
from cifar_torch.data import Split
from cifar_torch.errors import UserError
from cifar_torch.files import locked_folder
from cifar_torch.model import CifarNet
from cifar_torch.progress import Stopped
from cifar_torch.recipes import get_recipe
from cifar_torch.run import Run, begun_with
from cifar_torch.training import train
from tests.commands import begin_train, call_train


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


def test_a_stopped_and_resumed_run_ends_with_the_same_weights_bit_for_bit(
    data, tmp_path, monkeypatch
):
    recipe = get_recipe(
        "fast", epochs=2, batch_size=32, lr=0.01, dropout=0.2, averaging=0.9, cutout=6,
        crop_padding=2, zoom=0.2, colour=0.2, mixup=0.5,
    )  # fmt: skip
    train(data, recipe, tmp_path / "whole", device="cpu")
    monkeypatch.setattr(progress, "REPORT_EVERY", 0)  # before every step
    stops = [(1, 5), (2, 0), (2, 9)]  # before these steps, (epoch, step); one begins an epoch

    def stop(progress):
        return not stops or (progress.epoch, progress.step) != stops[0]

    for i in range(3):
        with pytest.raises(Stopped):
            train(data, recipe, tmp_path / "parts", device="cpu", resume=i > 0, on_progress=stop)
        assert (tmp_path / "parts" / STATE).exists()
        stops.pop(0)
    train(data, recipe, tmp_path / "parts", device="cpu", resume=True, on_progress=stop)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    same = [load_checkpoint(tmp_path / name) for name in ("whole", "parts")]
    for before, after in zip(same[0].history, same[1].history, strict=True):
        assert before["loss"] == after["loss"]
        assert before["val_accuracy"] == after["val_accuracy"]
    assert not (tmp_path / "parts" / STATE).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as a POSIX signal")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_go_on(folder, tmp_path, sent):
    out = tmp_path / "out"
    arguments = ["--image-folder", folder, "--epochs", 400, "--batch-size", 64, "--out", out]
    with begin_train(*arguments) as process:
        while not process.stdout.readline().startswith("Epoch 2/"):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(sent)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert re.search(
        r"Stopped in epoch \d+ of 400\. Go on with:\n  python train\.py .*--resume", errors
    )
    assert (out / STATE).exists() and (out / "model.safetensors").exists()


def test_a_run_goes_on_when_nobody_reads_what_it_says(folder, tmp_path):
    out = tmp_path / "out"
    arguments = ["--image-folder", folder, "--epochs", 3, "--batch-size", 64, "--out", out]
    with begin_train(*arguments) as process:
        assert process.stdout.readline().startswith("Training on cpu")
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 1
    assert load_checkpoint(out).metrics["epochs"] == 3


def test_a_resumed_run_has_the_recipe_and_the_seed_that_it_was_begun_with(data, folder, tmp_path):
    out = tmp_path / "out"
    recipe = get_recipe("fast", epochs=2, batch_size=32, lr=0.001)
    with pytest.raises(Stopped):
        train(
            replace(data, origin="a camera"), recipe, out, device="cpu", precision="fp32", seed=7,
            on_progress=lambda p: False,
        )  # fmt: skip
    cifar10 = replace(data, from_folder=False)
    with pytest.raises(UserError, match="begun with another --image-folder"):
        train(cifar10, recipe, out, device="cpu", precision="fp32", seed=7, resume=True)
    done = call_train("--image-folder", folder, "--out", out, "--resume", "--seed", 8)
    assert done.returncode == 2 and "another seed (7, now 8)" in done.stderr
    done = call_train("--out", out, "--resume")
    assert done.returncode == 2 and "add --image-folder" in done.stderr
    out.rename(tmp_path / ".out.old")  # as where a writer was killed
    done = call_train("--image-folder", folder, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    config = load_checkpoint(out).config
    assert (config["recipe"]["name"], config["recipe"]["lr"]) == ("fast", 0.001)
    assert (config["seed"], config["precision"]) == (7, "fp32")
    assert config["data"]["origin"] == "a camera"


def test_resuming_with_another_recipe_is_refused(data, tmp_path):
    recipe = get_recipe("report", epochs=50, batch_size=64)
    with pytest.raises(Stopped):
        train(data, recipe, tmp_path / "out", device="cpu", on_progress=lambda progress: False)
    other = get_recipe("report", epochs=50, batch_size=64, lr=0.02)
    with pytest.raises(UserError, match=r"begun with another lr \(0\.01, now 0\.02\)"):
        train(data, other, tmp_path / "out", device="cpu", resume=True)


def test_a_run_is_resumed_with_the_start_it_was_begun_with(data, tmp_path):
    trained = train(data, get_recipe("report", epochs=1), tmp_path / "first", device="cpu")
    recipe, out = get_recipe("report", epochs=2), tmp_path / "out"
    with pytest.raises(Stopped):
        train(
            data, recipe, out, device="cpu", start_from=trained, on_progress=lambda progress: False
        )
    with pytest.raises(UserError, match=r"another --start-from \(first, now None\)"):
        train(data, recipe, out, device="cpu", resume=True)
    train(data, recipe, out, device="cpu", start_from=trained, resume=True)


def test_the_moving_average_follows_at_the_distance_of_its_decay():
    """Of weights that grow by 1 a step it lags by decay / (1 - decay) steps, 99, and by a tenth of
    the run early on."""
    run, lags = Run(CifarNet(dropout=0), get_recipe("fast", averaging=0.99)), {}
    for vector in run.average.vectors:
        vector.zero_()
    for run.step in range(1, 1601):
        for vector in run.weights.vectors:
            vector.fill_(run.step)
        run.update_average(0.99)
        lags[run.step] = run.step - run.average.vectors[1][0].item()
    assert lags[80] == pytest.approx(8, abs=1)
    assert lags[400] == pytest.approx(40, abs=5)
    assert lags[1600] == pytest.approx(99, abs=5)


def test_a_run_does_not_go_on_with_other_images(data, tmp_path):
    recipe = get_recipe("report", epochs=2, batch_size=50)
    with pytest.raises(Stopped):
        train(data, recipe, tmp_path / "out", device="cpu", on_progress=lambda progress: False)
    others = replace(data, train=Split(255 - data.train.images, data.train.labels))
    with pytest.raises(UserError, match="begun with another set of training images"):
        train(others, recipe, tmp_path / "out", device="cpu", resume=True)


def test_a_run_whose_writer_was_killed_between_its_renames_goes_on(data, tmp_path):
    out, old = tmp_path / "out", tmp_path / ".out.old"
    recipe = get_recipe("report", epochs=2, batch_size=64)
    with pytest.raises(Stopped):
        train(data, recipe, out, device="cpu", on_progress=lambda progress: False)
    out.rename(old)
    with locked_folder(out), pytest.raises(UserError, match="another program"):
        train(data, recipe, out, device="cpu", resume=True)
    assert old.exists() and not out.exists()  # it is the writer's, who lives
    assert train(data, recipe, out, device="cpu", resume=True).metrics["finished"]


def test_a_state_with_a_recipe_that_cannot_be_is_not_gone_on_with(tmp_path):
    settings = {"recipe": {}, "seed": 0, "precision": "fp32", "class_names": ["a", "b"]}
    save_file({}, tmp_path / STATE, {"settings": json.dumps(settings)})
    write_json(tmp_path / CONFIG, {"data": {"origin": "a camera"}})
    assert begun_with(tmp_path).recipe == get_recipe("report")
    assert begun_with(tmp_path).origin == "a camera"
    assert begun_with(tmp_path).from_folder  # as its classes are not CIFAR-10's
    settings["recipe"] = {"colour": 2.0}
    save_file({}, tmp_path / STATE, {"settings": json.dumps(settings)})
    assert begun_with(tmp_path) is None
