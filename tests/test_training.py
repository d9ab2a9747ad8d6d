"""Training: it learns, stops, resumes bit for bit, and says what is wrong."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cifar_torch import checkpoint as checkpoint_module
from cifar_torch import training
from cifar_torch.checkpoint import STATE, load_checkpoint
from cifar_torch.data import Split, load_image_folder
from cifar_torch.errors import UserError
from cifar_torch.evaluation import acceptance_threshold, energy, fit_temperature, predict_logits
from cifar_torch.files import changed_folder, locked_folder
from cifar_torch.model import CifarNet
from cifar_torch.processes import Processes
from cifar_torch.recipes import get_recipe
from cifar_torch.run import Run, begun_with
from cifar_torch.training import Stopped, Trainer, train
from tests.pictures import KINDS, write_image_folder
from tests.server import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_image_folder(tmp_path_factory.mktemp("things"), 150)


@pytest.fixture
def data(folder):
    return load_image_folder(folder)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


def run_train(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "train.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


def test_a_short_run_beats_chance_by_far(data, tmp_path):
    recipe = get_recipe("report", epochs=8, lr=0.02, batch_size=20, standardise=True)
    checkpoint = train(data, recipe, tmp_path / "out", device="cpu")
    assert checkpoint.metrics["accuracy"] >= 0.7  # four classes: chance is 0.25
    assert checkpoint.history[-1]["loss"] < checkpoint.history[0]["loss"] / 2


def test_the_checkpoint_folder_is_whole(data, tmp_path):
    recipe = get_recipe("report", epochs=2, batch_size=64)
    train(data, recipe, tmp_path / "out", device="cpu", seed=3)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == set(
        "model.safetensors config.json metrics.json history.csv curves.png README.md".split()
    )
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["class_names"] == list(KINDS)
    assert (config["num_classes"], config["seed"], config["recipe"]["epochs"]) == (4, 3, 2)
    assert config["data"]["train_images"] == 540 and config["data"]["test_images"] == 60
    with (tmp_path / "out" / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert Image.open(tmp_path / "out" / "curves.png").size[0] > 600


def test_a_stopped_and_resumed_run_ends_with_the_same_weights_bit_for_bit(
    data, tmp_path, monkeypatch
):
    recipe = get_recipe(
        "fast", epochs=2, batch_size=32, lr=0.01, dropout=0.2, averaging=0.9, cutout=6,
        crop_padding=2, zoom=0.2, colour=0.2,
    )  # fmt: skip
    train(data, recipe, tmp_path / "whole", device="cpu")
    monkeypatch.setattr(training, "PROGRESS_EVERY", 0)  # before every step
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
    command = [sys.executable, "-u", "train.py", *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
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


def test_a_resumed_run_has_the_recipe_and_the_seed_that_it_was_begun_with(folder, tmp_path):
    out, data = tmp_path / "out", load_image_folder(folder, cache=tmp_path)
    recipe = get_recipe("fast", epochs=2, batch_size=32, lr=0.001)
    with pytest.raises(Stopped):
        train(
            data, recipe, out, device="cpu", precision="fp32", seed=7, on_progress=lambda p: False
        )
    done = run_train("--image-folder", folder, "--out", out, "--resume", "--seed", 8)
    assert done.returncode == 2 and "another seed (7, now 8)" in done.stderr
    done = run_train("--out", out, "--resume")
    assert done.returncode == 2 and "add --image-folder" in done.stderr
    done = run_train("--image-folder", folder, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    config = load_checkpoint(out).config
    assert (config["recipe"]["name"], config["recipe"]["lr"]) == ("fast", 0.001)
    assert (config["seed"], config["precision"]) == (7, "fp32")


def test_every_field_of_a_recipe_has_a_flag_with_help():
    text = run_train("--help").stdout
    from dataclasses import fields

    from cifar_torch.recipes import Recipe

    for field in fields(Recipe):
        if field.name != "name":
            assert f"--{field.name.replace('_', '-')}" in text
    assert "(default: 0.01)" in text


def test_training_prints_keras_lines_and_the_accuracy(folder, tmp_path):
    done = run_train(
        "--image-folder", folder, "--epochs", 1, "--batch-size", 90, "--out", tmp_path / "o"
    )
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"Epoch 1/1 - \d+s - accuracy: 0\.\d{4} - loss: \d\.\d{4} - val_accuracy: 0\.\d{4}"
        r" - val_loss: \d\.\d{4} - [\d,]+ images/s",
        done.stdout,
    )
    assert re.search(r"^Accuracy: \d+\.\d\d%$", done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image-folder", "nowhere"], "there is no folder nowhere"),
        (["--recipe", "fats"], "invalid choice: 'fats'"),
        (["--epochs", "0", "--image-folder", "x"], "epochs must be at least 1"),
        (["--device", "tpu", "--image-folder", "{folder}"], "unknown device 'tpu'"),
        (["--resume", "--image-folder", "{folder}", "--out", "{out}"], "holds no unfinished run"),
        (["--lr", "fast"], "invalid float value"),
        (["--seed", "-1"], "is not a whole number"),
        (["--nesterov", "--momentum", "0"], "nesterov needs a momentum"),
        (["--start-from", "nowhere", "--image-folder", "x"], "no checkpoint folder nowhere"),
        (["--device", "cpu:", "--image-folder", "{folder}"], "there is no device 'cpu:'"),
        (["--device", "cpu:x", "--image-folder", "{folder}"], "there is no device 'cpu:x'"),
    ],
)
def test_mistakes_end_with_a_sentence(arguments, message, folder, tmp_path):
    filled = [a.format(folder=folder, out=tmp_path / "none") for a in arguments]
    done = run_train(*filled)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_resuming_with_another_recipe_is_refused(data, tmp_path):
    recipe = get_recipe("report", epochs=50, batch_size=64)
    with pytest.raises(Stopped):
        train(data, recipe, tmp_path / "out", device="cpu", on_progress=lambda progress: False)
    other = get_recipe("report", epochs=50, batch_size=64, lr=0.02)
    with pytest.raises(UserError, match=r"begun with another lr \(0\.01, now 0\.02\)"):
        train(data, other, tmp_path / "out", device="cpu", resume=True)


def test_the_accuracy_of_metrics_json_is_what_evaluate_measures(tmp_path):
    folder = tmp_path / "things"
    write_image_folder(folder / "train", 60)
    write_image_folder(folder / "test", 20, first=60)
    out = tmp_path / "out"
    recipe = get_recipe("fast", epochs=3, batch_size=32, lr=0.02)
    trained = train(load_image_folder(folder), recipe, out, device="cpu").metrics
    command = [sys.executable, "-m", "cifar_torch", "evaluate", out, "--image-folder", folder]
    options = ["--json", "--out", str(tmp_path)]
    done = subprocess.run([*map(str, command), *options], cwd=ROOT, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["images"] == 80
    assert found["accuracy"] == trained["accuracy"] > 0.3
    assert found["confusion"] == trained["confusion"]
    assert found["loss"] == pytest.approx(trained["loss"], rel=1e-4)


def test_held_out_images_set_the_temperature(data, tmp_path):
    recipe = get_recipe("report", epochs=3, batch_size=32, hold_out=0.2, label_smoothing=0.3)
    checkpoint = train(data, recipe, tmp_path / "out", device="cpu")
    assert checkpoint.config["data"]["held_out_images"] == 108
    held_out = data.hold_out(0.2)[1]
    logits = predict_logits(checkpoint.model, held_out.images, recipe.mirror)
    temperature = fit_temperature(logits, held_out.labels)
    assert checkpoint.temperature == pytest.approx(temperature, rel=1e-3) != 1
    threshold = acceptance_threshold(energy(logits))
    assert checkpoint.none_below == pytest.approx(threshold, rel=1e-3)


def test_too_few_held_out_images_set_nothing(data, tmp_path):
    recipe = get_recipe("report", epochs=1, batch_size=64, hold_out=0.1)
    checkpoint = train(data, recipe, tmp_path / "out", device="cpu")
    assert checkpoint.config["data"]["held_out_images"] == 54
    assert checkpoint.config["temperature"] == 1 and "none_below" not in checkpoint.config


def test_a_run_of_a_few_steps_is_not_its_random_start(data, tmp_path):
    recipe = get_recipe("fast", epochs=1, batch_size=180, lr=0.01)
    checkpoint = train(data, recipe, tmp_path / "out", device="cpu")  # 3 steps
    torch.manual_seed(0)
    begun = training.make_model(data, recipe, None).state_dict()
    for name, weight in checkpoint.model.state_dict().items():
        assert not torch.equal(weight, begun[name]), name


def test_what_people_put_into_the_folder_stays(data, tmp_path):
    notes, out = "looks good so far", tmp_path / "out"

    def write_notes(progress):
        if out.exists() and not (out / "more").exists():
            (out / "notes.txt").write_text(notes)
            (out / "more").mkdir()
            (out / "more" / "notes.txt").write_text(notes)
        return True

    recipe = get_recipe("report", epochs=3, batch_size=64)
    train(data, recipe, out, device="cpu", on_progress=write_notes)
    assert (out / "notes.txt").read_text() == (out / "more" / "notes.txt").read_text() == notes


def test_a_finished_run_is_not_overwritten(data, tmp_path):
    train(data, get_recipe("report", epochs=1), tmp_path / "out", device="cpu")
    before = weights(tmp_path / "out")
    with pytest.raises(UserError, match="holds a finished run or other files"):
        train(data, get_recipe("report", epochs=1), tmp_path / "out", device="cpu", seed=1)
    assert all(torch.equal(w, before[name]) for name, w in weights(tmp_path / "out").items())


def test_a_restart_by_torchrun_does_not_begin_a_finished_run_anew(data, tmp_path, monkeypatch):
    train(data, get_recipe("report", epochs=1), tmp_path / "out", device="cpu")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(UserError, match="holds a finished run or other files"):
        train(data, get_recipe("report", epochs=1), tmp_path / "out", device="cpu", seed=1)


def test_the_cards_command_has_what_differs_from_the_recipe(data, tmp_path):
    recipe = get_recipe("fast", epochs=1, flip=False, batch_size=64, lr=0.01)
    train(data, recipe, tmp_path / "out", device="cpu", seed=7, precision="fp32")
    command = (
        "`python train.py --recipe fast --seed 7 --precision fp32 --epochs 1 --batch-size 64 "
        "--lr 0.01 --no-flip --image-folder DIR`"
    )
    assert command in (tmp_path / "out" / "README.md").read_text("utf-8")
    other_words = replace(data, origin="CIFAR-10 from a mirror", from_folder=False)
    train(other_words, get_recipe("fast", epochs=1), tmp_path / "mirror", device="cpu", seed=7)
    card = (tmp_path / "mirror" / "README.md").read_text("utf-8")
    assert "CIFAR-10 from a mirror" in card and "--image-folder" not in card


def test_a_run_can_start_from_the_weights_of_another(data, tmp_path):
    trained = train(
        data,
        get_recipe("fast", epochs=1, lr=0.01),
        tmp_path / "first",
        device="cpu",
        precision="fp32",
    )
    still = get_recipe("report", epochs=1, batch_size=64, lr=1e-12)
    again = train(
        data, still, tmp_path / "again", device="cpu", precision="fp32", start_from=trained
    )
    first, second = weights(tmp_path / "first"), weights(tmp_path / "again")
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    assert again.model.mean == trained.model.mean != [0, 0, 0]
    assert again.config["started_from"] == "first"
    card = (tmp_path / "again" / "README.md").read_text("utf-8")
    assert "--start-from FOLDER " in card and "weights of the checkpoint `first`" in card


def test_of_a_start_with_other_classes_the_last_layer_is_left_out(data, tmp_path):
    trained = train(data, get_recipe("report", epochs=1), tmp_path / "first", device="cpu")
    three = replace(
        data, train=data.train[data.train.labels < 3], test=data.test[data.test.labels < 3],
        class_names=data.class_names[:3],
    )  # fmt: skip
    still = get_recipe("report", epochs=1, batch_size=64, lr=1e-12)
    train(three, still, tmp_path / "three", device="cpu", start_from=trained)
    first, second = weights(tmp_path / "first"), weights(tmp_path / "three")
    for name in first:
        if name.startswith("layers.dense_2."):
            assert len(second[name]) == 3
        else:
            assert torch.allclose(first[name], second[name], atol=1e-6)


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


def test_other_files_and_unfinished_runs_are_not_overwritten(data, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "mine" / "config.json").write_text("{}")
    recipe = get_recipe("report", epochs=50, batch_size=64)
    with pytest.raises(UserError, match="holds a finished run or other files"):
        train(data, recipe, tmp_path / "mine", device="cpu")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(Stopped):
        train(data, recipe, tmp_path / "out", device="cpu", on_progress=lambda progress: False)
    with pytest.raises(UserError, match="unfinished run; --resume goes on"):
        train(data, recipe, tmp_path / "out", device="cpu")


def test_progress_is_reported_with_its_history(data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "PROGRESS_EVERY", 0)
    seen = []
    recipe = get_recipe("report", epochs=3, batch_size=32)
    checkpoint = train(
        data, recipe, tmp_path / "out", device="cpu", on_progress=lambda p: seen.append(p) or True
    )
    assert len(seen) == 3 * 17 and {(p.epochs, p.steps) for p in seen} == {(3, 17)}
    assert [(p.epoch, p.step) for p in seen] == [(e, i) for e in (1, 2, 3) for i in range(17)]
    assert all(len(p.history) == p.epoch - 1 for p in seen)
    for last, row in zip(seen[16::17], checkpoint.history, strict=True):  # all but a last step
        assert last.accuracy == pytest.approx(row["accuracy"], abs=0.06)
        assert last.loss == pytest.approx(row["loss"], abs=0.1)


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


def test_learning_rates():
    report = get_recipe("report")
    steps = 25 * 1563
    assert report.learning_rate(0, steps) == 0.01
    assert report.learning_rate(steps - 1, steps) == pytest.approx(0.01 / 16.6, rel=0.01)
    constant = get_recipe("report", decay="none")
    assert constant.learning_rate(steps - 1, steps) == 0.01
    cycle = get_recipe("fast", lr=0.04)
    rates = [cycle.learning_rate(i, 1000) for i in range(1000)]
    assert max(rates) == pytest.approx(0.04, rel=0.01)
    assert rates.index(max(rates)) == pytest.approx(1000 * cycle.warmup, abs=2)
    assert rates[0] < 0.001 and rates[-1] < 0.001


def test_a_run_whose_loss_is_no_number_ends_with_a_sentence(data, tmp_path):
    with pytest.raises(UserError, match=r"learning rate is too high\. Try a tenth of it, 0\.5\."):
        train(data, get_recipe("report", epochs=2, lr=5.0), tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_run_whose_weights_are_no_numbers_is_not_saved(data, tmp_path):
    recipe = get_recipe("report", epochs=1, batch_size=540, lr=1e38)  # one step: a finite loss
    with pytest.raises(UserError, match="no longer a number in epoch 1"):
        train(data, recipe, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_stopped_with_weights_that_are_no_numbers_is_not_saved(
    data, tmp_path, monkeypatch
):
    monkeypatch.setattr(training, "PROGRESS_EVERY", 0.0)
    recipe = get_recipe("report", epochs=1, batch_size=32, lr=1e6)
    with pytest.raises(UserError, match="no longer a number"):
        train(data, recipe, tmp_path / "out", device="cpu", on_progress=lambda p: p.step < 10)
    assert not (tmp_path / "out").exists()


def test_a_run_that_learned_nothing_says_so(data, tmp_path, capsys):
    train(data, get_recipe("report", epochs=1, lr=1e-9), tmp_path / "out", device="cpu")
    assert training.NOTHING_LEARNED in capsys.readouterr().out


@pytest.mark.parametrize(
    ("accuracy", "loss", "told"), [(0.26, 1.40, True), (0.26, 1.30, False), (0.8, 2.5, False)]
)
def test_one_that_is_right_is_not_told_that_it_guesses(data, tmp_path, accuracy, loss, told):
    """However wrong its confidence is: four classes, ln 4 = 1.39."""
    processes = Processes(torch.device("cpu"))
    trainer = Trainer(data, get_recipe("report"), tmp_path, processes, "fp32", 0, None)
    trainer.run.history.append({"val_accuracy": accuracy, "val_loss": loss})
    assert trainer.guesses() == told


def test_all_processes_must_train_alike(data, tmp_path, monkeypatch):
    processes = Processes(torch.device("cpu"), rank=1)
    trainer = Trainer(data, get_recipe("report"), tmp_path, processes, "fp32", 0, None)
    trainer.check_alike()
    first = Trainer(data, get_recipe("fast"), tmp_path, processes, "fp32", 0, None).settings()
    monkeypatch.setattr(Processes, "gather", lambda self, ours: [first, ours])
    with pytest.raises(UserError, match=r"process 1 has another recipe than the first \(report, "):
        trainer.check_alike()


def test_a_run_does_not_go_on_with_other_images(data, tmp_path):
    recipe = get_recipe("report", epochs=2, batch_size=50)
    with pytest.raises(Stopped):
        train(data, recipe, tmp_path / "out", device="cpu", on_progress=lambda progress: False)
    others = replace(data, train=Split(255 - data.train.images, data.train.labels))
    with pytest.raises(UserError, match="begun with another set of training images"):
        train(others, recipe, tmp_path / "out", device="cpu", resume=True)


def test_a_folder_is_written_by_one_at_a_time(data, tmp_path):
    recipe = get_recipe("report", epochs=1, batch_size=50)
    with (
        locked_folder(tmp_path / "out"),
        pytest.raises(UserError, match="another program is training or changing"),
    ):
        train(data, recipe, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()
    assert train(data, recipe, tmp_path / "out", device="cpu")
    with (
        locked_folder(tmp_path / "out"),
        pytest.raises(UserError, match="another program is training or changing"),
        changed_folder(tmp_path / "out"),
    ):
        pass


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


def test_a_file_that_vanishes_while_a_run_is_saved_does_not_end_it(data, tmp_path, monkeypatch):
    copy = checkpoint_module._copy

    def vanish(path, new):
        path.unlink()
        copy(path, new)

    monkeypatch.setattr(checkpoint_module, "_copy", vanish)
    recipe, out = get_recipe("report", epochs=1, batch_size=64), tmp_path / "out"
    with pytest.raises(Stopped):
        train(data, recipe, out, device="cpu", on_progress=lambda progress: False)
    (out / ".notes.swp").touch()
    assert train(data, recipe, out, device="cpu", resume=True).metrics["finished"]


def test_a_state_with_a_recipe_that_cannot_be_is_not_gone_on_with(tmp_path):
    settings = {"recipe": {}, "seed": 0, "precision": "fp32", "class_names": ["a", "b"]}
    save_file({}, tmp_path / STATE, {"settings": json.dumps(settings)})
    assert begun_with(tmp_path).recipe == get_recipe("report")
    settings["recipe"] = {"colour": 2.0}
    save_file({}, tmp_path / STATE, {"settings": json.dumps(settings)})
    assert begun_with(tmp_path) is None


def test_time_stands_in_the_history(data, tmp_path):
    started = time.perf_counter()
    checkpoint = train(
        data, get_recipe("report", epochs=1, batch_size=64), tmp_path / "o", device="cpu"
    )
    row = checkpoint.history[0]
    assert 0 < row["seconds"] < time.perf_counter() - started
    assert row["images_per_second"] == pytest.approx(540 / row["seconds"])
