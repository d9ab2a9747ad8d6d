"""Training: it learns, keeps what it made, and says what is wrong."""

import csv
import json
import re
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cifar_torch import progress, training
from cifar_torch.batches import Batches
from cifar_torch.data import load_image_folder
from cifar_torch.errors import UserError
from cifar_torch.evaluation import acceptance_threshold, energy, fit_temperature, predict_logits
from cifar_torch.files import changed_folder, locked_folder
from cifar_torch.processes import Processes
from cifar_torch.progress import Stopped, Watch
from cifar_torch.recipes import Recipe, choices, get_recipe
from cifar_torch.training import Trainer, train
from tests.commands import call_cifar_torch, call_train, run_train
from tests.pictures import KINDS, write_image_folder
from train import parser as train_parser


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


def test_a_short_run_beats_chance_by_far(data, tmp_path):
    recipe = get_recipe("report", epochs=5, lr=0.02, batch_size=20, standardise=True)
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


@pytest.mark.parametrize("field", fields(Recipe)[1:], ids=lambda field: field.name)
def test_every_field_of_a_recipe_can_be_changed_by_a_flag(field):
    flag, usual = "--" + field.name.replace("_", "-"), field.default
    if isinstance(usual, bool):
        words, value = [flag], True
    else:
        allowed = choices(field.type)
        value = allowed[-1] if allowed else type(usual)(usual + 3)
        words = [flag, str(value)]
    found = getattr(train_parser().parse_args(words), field.name)
    assert found == value != usual and type(found) is type(usual)
    assert getattr(train_parser().parse_args([]), field.name) is None  # the recipe's own
    text = train_parser().format_help()
    assert flag in text and "(default: 0.01)" in text


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
        (["--epochs", "99999999999999", "--image-folder", "x"], "at most 2^31"),
        (["--max-norm", "1e39", "--image-folder", "x"], "max_norm must be in [0, 1e+38]"),
        (["--image-folder", ""], "argument --image-folder: it is empty"),
        (["--image-folder", "{folder}", "--out", "{folder}/x"], "would be taken for a class"),
        (["--image-folder", "{folder}", "--out", "README.md"], "README.md is a file"),
        (["--device", "tpu", "--image-folder", "{folder}"], "unknown device 'tpu'"),
        (["--resume", "--image-folder", "{folder}", "--out", "{out}"], "holds no unfinished run"),
        (["--resume", "--image-folder", "nowhere", "--out", "{out}"], "holds no unfinished run"),
        (["--image-folder", "{folder}", "--out", "/"], "is no place for a checkpoint"),
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
    done = call_train(*filled)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_accuracy_of_metrics_json_is_what_evaluate_measures(tmp_path):
    folder = tmp_path / "things"
    write_image_folder(folder / "train", 60)
    write_image_folder(folder / "test", 20, first=60)
    out = tmp_path / "out"
    recipe = get_recipe("fast", epochs=3, batch_size=32, lr=0.02)
    checkpoint = train(load_image_folder(folder), recipe, out, device="cpu", precision="fp32")
    trained, last = checkpoint.metrics, checkpoint.history[-1]
    assert last["val_accuracy"] == pytest.approx(trained["accuracy"])
    assert last["val_loss"] == pytest.approx(trained["loss"], rel=1e-4)
    done = call_cifar_torch("evaluate", out, "--image-folder", folder, "--json", "--out", tmp_path)
    found = json.loads(done.stdout)
    assert found["images"] == 80
    assert found["accuracy"] == trained["accuracy"] > 0.3
    assert found["confusion"] == trained["confusion"]
    assert found["loss"] == pytest.approx(trained["loss"], rel=1e-4)


def test_another_seed_is_another_run(data):
    recipe = get_recipe("report", batch_size=30)
    networks, batches = [], []
    for seed in (0, 1):
        networks.append(training.make_model(data, recipe, seed).layers.conv2d.weight)
        seen = Batches(data.train, recipe, seed, Processes(torch.device("cpu")))
        seen.prepare(4, networks[0].float, torch.float32, lambda epoch: None)
        batches.append(next(seen.epoch(0, 0))[0])
    assert not torch.equal(*networks)
    assert not torch.equal(*batches)


def test_a_run_writes_no_more_often_than_save_every_allows(data, tmp_path, monkeypatch):
    written, save = [], training.save_checkpoint
    monkeypatch.setattr(
        training, "save_checkpoint", lambda c, *rest: written.append(c.metrics) or save(c, *rest)
    )
    monkeypatch.setattr(training, "SAVE_EVERY", 3600)
    train(data, get_recipe("report", epochs=3, batch_size=180), tmp_path / "out", device="cpu")
    assert [metrics["epochs"] for metrics in written] == [1, 3]


def test_each_step_has_its_rate_its_count_and_its_epochs_own_order(data, tmp_path):
    recipe = get_recipe("fast", epochs=2, batch_size=64)  # of 540 images: the last batch has 28
    trainer = Trainer(data, recipe, tmp_path, Processes(torch.device("cpu")), "fp32", 0)
    trainer.prepare(Watch())
    asked = []
    trainer.take_step = lambda *arguments: asked.append(arguments) or torch.zeros(2)
    for epoch in (0, 1):
        trainer.train_epoch(epoch, Watch())
    _, _, labels, counts, rates, _ = zip(*asked, strict=True)
    assert list(rates) == [recipe.learning_rate(i, 18) for i in range(18)]
    assert list(counts) == 2 * [*8 * [64], 28]
    first, second = torch.cat(labels[:9]), torch.cat(labels[9:])
    assert torch.equal(first.bincount(), second.bincount()) and not torch.equal(first, second)


def test_a_resumed_epoch_that_stops_while_teachers_learn_keeps_its_sums(
    data, tmp_path, monkeypatch
):
    def stop(*arguments):
        raise Stopped

    trainer = Trainer(
        data, get_recipe("report"), tmp_path, Processes(torch.device("cpu")), "fp32", 0
    )
    trainer.processes = Processes(torch.device("cpu"), count=2)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda *arguments: None)
    monkeypatch.setattr(trainer.batches, "prepare", stop)
    trainer.run.sums += 10
    with pytest.raises(Stopped):
        trainer.prepare(Watch())
    assert trainer.run.sums.tolist() == [10, 10]


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
    begun = training.make_model(data, recipe, seed=0).state_dict()
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
    with pytest.raises(UserError, match=r"--start-from .*out trains its weights on"):
        train(data, get_recipe("report", epochs=2), tmp_path / "out", device="cpu", resume=True)
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
    monkeypatch.setattr(progress, "REPORT_EVERY", 0)
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
    with pytest.raises(UserError, match=r"is too high\. Try a rate of 0\.01\."):
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
    monkeypatch.setattr(progress, "REPORT_EVERY", 0.0)
    recipe = get_recipe("report", epochs=1, batch_size=32, lr=1e6)
    with pytest.raises(UserError, match="no longer a number"):
        train(data, recipe, tmp_path / "out", device="cpu", on_progress=lambda p: p.step < 10)
    assert not (tmp_path / "out").exists()


def test_a_run_that_learned_nothing_says_so(data, tmp_path, capsys):
    recipe, out = get_recipe("report", epochs=1, lr=1e-9), tmp_path / "out"
    first = train(data, recipe, out, device="cpu")
    assert training.NOTHING_LEARNED + training.START_FROM in capsys.readouterr().out
    train(data, recipe, tmp_path / "more", device="cpu", start_from=first)
    assert f"{training.NOTHING_LEARNED}." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("accuracy", "loss", "told"), [(0.26, 1.40, True), (0.26, 1.30, False), (0.8, 2.5, False)]
)
def test_one_that_is_right_is_not_told_that_it_guesses(data, tmp_path, accuracy, loss, told):
    """However wrong its confidence is: four classes, ln 4 = 1.39."""
    processes = Processes(torch.device("cpu"))
    trainer = Trainer(data, get_recipe("report"), tmp_path, processes, "fp32", 0)
    trainer.run.history.append({"val_accuracy": accuracy, "val_loss": loss})
    assert trainer.guesses() == told


@pytest.mark.skipif(not Path("/proc").exists(), reason="there is no /proc")
def test_a_folder_where_nothing_can_be_made_is_not_called_busy(data):
    out = Path("/proc/nothing-can-be-made-here")
    with pytest.raises(UserError, match=f"cannot write {out}"):
        train(data, get_recipe("report", epochs=1), out, device="cpu")


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


def test_time_stands_in_the_history(data, tmp_path):
    started = time.perf_counter()
    checkpoint = train(
        data, get_recipe("report", epochs=1, batch_size=64), tmp_path / "o", device="cpu"
    )
    row = checkpoint.history[0]
    assert 0 < row["seconds"] < time.perf_counter() - started
    assert row["images_per_second"] == pytest.approx(540 / row["seconds"])


def test_each_process_drops_units_of_its_own(data, tmp_path):
    drawn = []
    for rank in (0, 1):
        processes = Processes(torch.device("cpu"), rank)
        trainer = Trainer(data, get_recipe("report"), tmp_path / "out", processes, "fp32", 0)
        trainer.prepare(Watch())
        trainer.take_step = lambda *arguments: drawn.append(arguments[-1]) or torch.zeros(2)
        trainer.train_epoch(0, Watch())
    assert len(drawn) == len(set(drawn)) == 2 * trainer.steps
