"""Checkpoint folders: whole or not at all, never unpickled, and clear when damaged."""

import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_torch.card import write_card
from cifar_torch.checkpoint import (
    Checkpoint,
    check_destination,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from cifar_torch.classifier import Classifier, Classifiers
from cifar_torch.errors import UserError
from cifar_torch.files import changed_folder, folder_identity, locked_folder
from cifar_torch.images import look
from cifar_torch.model import CifarNet
from cifar_torch.summary import layer_rows
from tests.server import ROOT

NAMES = ["cat", "dog", "frog"]


def make_checkpoint(value: float = 0.0) -> Checkpoint:
    model = CifarNet(num_classes=3)
    for parameter in model.parameters():
        parameter.data.fill_(value)
    return Checkpoint(model, {"class_names": NAMES, "value": value}, {"accuracy": value})


def test_round_trip(tmp_path):
    torch.manual_seed(0)
    model = CifarNet(num_classes=3, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.1))
    history = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    saved = Checkpoint(model, {"class_names": NAMES}, {"accuracy": 0.5}, history)
    save_checkpoint(saved, tmp_path / "c")
    again = load_checkpoint(tmp_path / "c")
    assert (again.config, again.metrics, again.history) == (
        saved.config,
        {"accuracy": 0.5},
        history,
    )
    assert again.model.settings() == model.settings()  # its normalisation, for one
    for before, after in zip(model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(before, after)
    assert not again.model.training
    for file in (tmp_path / "c").iterdir():
        assert file.stat().st_mode & 0o044 == 0o044, file  # whoever serves it may be another user


def test_a_folder_with_the_inode_of_another_is_not_that_one(tmp_path):
    before = folder_identity(tmp_path)
    os.utime(tmp_path, ns=(1, 1))
    assert folder_identity(tmp_path) != before


def test_the_folder_that_one_is_in_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "c").mkdir()
    monkeypatch.chdir(tmp_path / "c")
    for out in (".", "../c"):
        with pytest.raises(UserError, match="is the folder that you are in"):
            check_destination(Path(out))
    check_destination(Path("../d"))


def test_it_is_a_hub_folder(tmp_path):
    save_checkpoint(make_checkpoint(0.25), tmp_path / "c")
    model = CifarNet.from_pretrained(tmp_path / "c")
    assert model.num_classes == 3 and model.layers.dense.weight[0, 0].item() == 0.25


def test_no_reader_ever_sees_half_of_a_checkpoint(tmp_path):
    folder, ended, mixed, read = tmp_path / "c", threading.Event(), [], []
    save_checkpoint(make_checkpoint(0.0), folder)

    def keep_reading():
        while not ended.is_set():
            found = load_checkpoint(folder)
            weight = found.model.layers.dense_2.weight[0, 0].item()
            read.append(weight)
            if not weight == found.config["value"] == found.metrics["accuracy"]:
                mixed.append((weight, found.config["value"], found.metrics["accuracy"]))

    errors = []

    def guarded():
        try:
            keep_reading()
        except Exception as error:
            errors.append(error)

    readers = [threading.Thread(target=guarded) for _ in range(2)]
    for reader in readers:
        reader.start()
    deadline, i = time.monotonic() + 60, 0
    while i < 24 or (len(set(read)) < 4 and time.monotonic() < deadline):
        i += 1
        save_checkpoint(make_checkpoint(i / 64), folder)
    ended.set()
    for reader in readers:
        reader.join()
    assert not errors and not mixed
    assert len(set(read)) > 3  # the readers did see several versions
    assert [path.name for path in tmp_path.iterdir()] == ["c"]  # nothing is left behind


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    save_checkpoint(make_checkpoint(0.5), tmp_path / "c")

    def disk_full(folder):
        raise OSError(28, "No space left on device")

    for left_by_a_killed_writer in (tmp_path / "c", tmp_path / ".c.old"):
        (tmp_path / "c").rename(left_by_a_killed_writer)
        with pytest.raises(UserError, match="No space left"):
            save_checkpoint(make_checkpoint(1.0), tmp_path / "c", disk_full)
        assert load_checkpoint(tmp_path / "c").config["value"] == 0.5
        assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on the size of files is POSIX's")
def test_a_full_disk_is_told_in_a_sentence(tmp_path):
    save_checkpoint(make_checkpoint(0.25), tmp_path / "c")
    program = (
        "import resource, signal\n"
        "from tests.test_checkpoint import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n    save_checkpoint(make_checkpoint(0.5), sys.argv[1])\n"
        "except UserError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "c")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("cannot write "), done.stderr
    assert load_checkpoint(tmp_path / "c").config["value"] == 0.25
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_failed_swap_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(make_checkpoint(0.5), tmp_path / "c")
    rename = os.rename

    def held_open(source, target):
        if str(source).endswith(".new"):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", held_open)
    with pytest.raises(UserError, match="Permission denied"):
        save_checkpoint(make_checkpoint(1.0), tmp_path / "c")
    assert load_checkpoint(tmp_path / "c").config["value"] == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("name", ["*", "../*", "**", "c/../.."])
def test_a_name_that_is_none_of_the_checkpoints_is_refused_at_once(tmp_path, monkeypatch, name):
    save_checkpoint(make_checkpoint(0.5), tmp_path / "c")
    (tmp_path / ".hidden.new").mkdir()
    classifiers = Classifiers(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits for a writer"))
    with pytest.raises(UserError, match="There is no model"):
        classifiers.get(name)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def truncate(folder):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])


def change_config(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (truncate, "is damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(pickle.dumps(Bomb())), "is damaged"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json is damaged"),
        (change_config(num_classes=4), "class_names are not num_classes"),
        (change_config(num_classes=4, class_names=list("abcd")), "holds another network"),
        (change_config(num_classes="x"), "does not describe a CifarNet"),
        (change_config(class_names="abc"), "class_names is not a list of names"),
        (change_config(class_names=[0, 1, 2]), "class_names is not a list of names"),
        (change_config(class_names=["a"], num_classes=1), "fewer than 2 classes"),
        (change_config(mean=[0, 0, math.nan]), "mean and std are not numbers"),
        (
            change_config(class_names=["a", "a", "b", "c"]),
            "class_names are not num_classes different",
        ),
        (change_config(temperature=0), "temperature is not a number between"),
        (change_config(temperature=1e-300), "temperature is not a number between"),
        (change_config(temperature="x"), "does not describe a CifarNet"),
        (change_config(none_below="x"), "does not describe a CifarNet"),
        (change_config(none_below=10**400), "none_below is not a number between"),
        (change_config(std=[0, 0, 0]), "std is not above 0"),
        (lambda f: (f / "config.json").write_text("{}"), "lacks mean and std"),
        (change_config(data=None), "data is not an object"),
        (change_config(notes=1), "notes is not a text"),
        (lambda f: save_checkpoint(make_checkpoint(math.nan), f), "weights that are no numbers"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    save_checkpoint(make_checkpoint(), tmp_path / "c")
    damage(tmp_path / "c")
    with pytest.raises(UserError, match=message):
        load_checkpoint(tmp_path / "c")


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint folder"):
        load_checkpoint(tmp_path / "c")
    with pytest.raises(UserError, match="there is no checkpoint in"):
        Classifiers(tmp_path)


def test_a_link_to_a_folder_stays_and_what_it_leads_to_is_replaced(tmp_path):
    save_checkpoint(make_checkpoint(0.25), tmp_path / "there")
    link = tmp_path / "link"
    try:
        link.symlink_to(tmp_path / "there", target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    for value in (0.5, 0.75):
        save_checkpoint(make_checkpoint(value), link)
    assert link.is_symlink() and load_checkpoint(tmp_path / "there").config["value"] == 0.75
    assert {path.name for path in tmp_path.iterdir()} == {"there", "link"}


def test_two_checkpoints_of_one_name_are_both_in_the_menu(tmp_path):
    save_checkpoint(make_checkpoint(0.25), tmp_path / "checkpoints" / "best")
    save_checkpoint(make_checkpoint(0.5), tmp_path / "runs" / "best")
    other = tmp_path / "runs" / "best"
    classifiers = Classifiers(tmp_path / "checkpoints", default=other)
    assert classifiers.names() == ["best (2)", "best"]
    assert classifiers.get().checkpoint.config["value"] == 0.5
    assert classifiers.get("best").checkpoint.config["value"] == 0.25
    same = Classifiers(tmp_path / "checkpoints", default=tmp_path / "checkpoints" / "best")
    assert same.names() == ["best"]


def test_a_checkpoint_of_the_hub_alone_can_get_a_card(tmp_path):
    CifarNet(num_classes=3).save_pretrained(tmp_path / "c")
    write_card(load_checkpoint(tmp_path / "c"), tmp_path)
    assert "# CifarNet\n" in (tmp_path / "README.md").read_text("utf-8")


def test_a_trained_checkpoint_without_figures_can_get_a_card(tmp_path):
    shutil.copytree(ROOT / "checkpoints" / "report", tmp_path / "c")
    (tmp_path / "c" / "metrics.json").unlink()
    write_card(load_checkpoint(tmp_path / "c"), tmp_path / "c")
    assert "CifarNet, recipe report" in (tmp_path / "c" / "README.md").read_text()


def test_a_checkpoint_whose_writer_was_killed_is_put_back_by_who_reads_it(tmp_path):
    save_checkpoint(make_checkpoint(3.0), tmp_path / "c")
    (tmp_path / "c").rename(tmp_path / ".c.old")
    with locked_folder(tmp_path / "c"), pytest.raises(UserError, match="no checkpoint folder"):
        load_checkpoint(tmp_path / "c")  # its writer lives
    assert Classifiers(tmp_path).get("c").checkpoint.config["value"] == 3.0
    assert list_checkpoints(tmp_path) == [tmp_path / "c"] and (tmp_path / "c").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows moves no folder with an open file")
def test_a_log_that_is_open_in_a_checkpoint_is_written_on(tmp_path):
    folder = tmp_path / "c"
    save_checkpoint(make_checkpoint(), folder)
    with (folder / "log.txt").open("a") as log:
        for write in (lambda: save_checkpoint(make_checkpoint(), folder), lambda: None):
            log.write("a line\n")
            log.flush()
            write()
    assert (folder / "log.txt").read_text() == "a line\na line\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
@pytest.mark.parametrize("links", [True, False])
def test_what_vanishes_or_is_no_file_stops_neither_a_save_nor_a_change(
    tmp_path, monkeypatch, links
):
    folder, link = tmp_path / "c", os.link

    def vanishing(source, target, **options):
        if source.name == "swap":
            source.unlink()
        if not links:
            raise OSError("this file system has no hard links")
        return link(source, target, **options)

    save_checkpoint(make_checkpoint(), folder)
    (tmp_path / "weights").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "notes").mkdir()
    (folder / "link").symlink_to("nowhere")
    os.mkfifo(folder / "notes" / "pipe")
    monkeypatch.setattr(os, "link", vanishing)
    for write in (lambda: save_checkpoint(make_checkpoint(), folder), lambda: change(folder)):
        for name in ("mine.txt", "swap"):
            (folder / "notes" / name).write_text("of a person")
        write()
        left = {path.name for path in (folder / "notes").iterdir()}
        assert left == ({"mine.txt", "pipe"} if links else {"mine.txt"})
        assert os.readlink(folder / "link") == "nowhere"
        if not links:
            os.mkfifo(folder / "notes" / "pipe")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(tmp_path / "weights")  # as in the Hub's cache
    change(folder)
    assert not (folder / "model.safetensors").is_symlink()
    load_checkpoint(folder)


def change(folder):
    with changed_folder(folder):
        pass


def test_a_figure_of_other_images_is_none_of_its_accuracy(tmp_path):
    for name, where in (("own", None), ("other", "of the folder other")):
        save_checkpoint(make_checkpoint(), tmp_path / name)
        metrics = {"accuracy": 0.5, "measured_on": where}
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    classifiers = Classifiers(tmp_path)
    assert (classifiers.accuracy("own"), classifiers.accuracy("other")) == (0.5, None)


def test_best_comes_first_and_new_folders_appear(tmp_path):
    for name in ("zebra", "best", "alpha"):
        save_checkpoint(make_checkpoint(), tmp_path / name)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["best", "alpha", "zebra"]
    classifiers = Classifiers(tmp_path)
    assert classifiers.get() is classifiers.get("best")
    save_checkpoint(make_checkpoint(0.5), tmp_path / "mine")
    assert "mine" in classifiers.names()
    assert classifiers.get("mine").checkpoint.config["value"] == 0.5
    save_checkpoint(make_checkpoint(0.75), tmp_path / "mine")
    assert classifiers.get("mine").checkpoint.config["value"] == 0.75
    save_checkpoint(make_checkpoint(0.25), tmp_path / "other-place" / "c")
    shutil.copytree(tmp_path / "other-place" / "c", tmp_path / "mine", dirs_exist_ok=True)
    assert classifiers.get("mine").checkpoint.config["value"] == 0.25
    with pytest.raises(UserError, match="There is no model 'other'"):
        classifiers.get("other")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such name")
def test_a_folder_whose_name_is_no_text_is_no_checkpoint(tmp_path):
    save_checkpoint(make_checkpoint(), tmp_path / "c")
    os.rename(shutil.copytree(tmp_path / "c", tmp_path / "d"), os.fsencode(tmp_path) + b"/bad\xff")
    assert Classifiers(tmp_path).names() == ["c"]


def test_a_new_folder_does_not_become_the_one_that_answers(tmp_path):
    save_checkpoint(make_checkpoint(0.5), tmp_path / "cats")
    classifiers = Classifiers(tmp_path)
    save_checkpoint(make_checkpoint(), tmp_path / "a-visitors")
    assert classifiers.names() == ["cats", "a-visitors"]
    assert classifiers.get().checkpoint.config["value"] == 0.5


def test_a_checkpoint_that_is_just_being_replaced_is_not_missing(tmp_path, monkeypatch):
    for name in ("best", "mine"):
        save_checkpoint(make_checkpoint(), tmp_path / name)
    classifiers, rename, seen = Classifiers(tmp_path), os.rename, []

    def look_then_rename(source, target):
        seen.append(classifiers.names())
        rename(source, target)
        seen.append(classifiers.names())

    monkeypatch.setattr(os, "rename", look_then_rename)
    save_checkpoint(make_checkpoint(0.5), tmp_path / "best")
    assert seen == 4 * [["best", "mine"]]
    (tmp_path / "best").rename(tmp_path / ".best.old")
    (tmp_path / "mine").rename(tmp_path / "mine too")
    assert classifiers.names() == ["best", "mine too"]


def test_loading_draws_no_random_numbers(tmp_path):
    save_checkpoint(make_checkpoint(), tmp_path / "c")
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    load_checkpoint(tmp_path / "c")
    layer_rows(7)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_loaded_network_is_not_the_file_itself(tmp_path):
    save_checkpoint(make_checkpoint(), tmp_path / "c")
    model, weights = load_checkpoint(tmp_path / "c").model, tmp_path / "c" / "model.safetensors"
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights.write_bytes(bytes(weights.stat().st_size))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_answers_are_sorted_probabilities(tmp_path):
    torch.manual_seed(0)
    model = CifarNet(num_classes=3)
    save_checkpoint(
        Checkpoint(model, {**model.settings(), "class_names": NAMES, "temperature": 0.5}),
        tmp_path / "c",
    )
    classifier = Classifier.load(tmp_path / "c", precision="fp32")
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8).numpy()
    logits = model.eval()(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    for answer, wanted in zip(
        classifier.classify_views(pixels[:, None]), (logits / 0.5).softmax(1), strict=True
    ):
        values = list(answer.confidences.values())
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1, abs=1e-6)
        assert values == pytest.approx(sorted(wanted.tolist(), reverse=True), abs=1e-5)
        assert answer.class_name == next(iter(answer.confidences)) == NAMES[int(wanted.argmax())]


def test_in_bf16_the_answers_are_nearly_the_same(tmp_path):
    torch.manual_seed(0)
    model = CifarNet(num_classes=3)
    save_checkpoint(Checkpoint(model, {**model.settings(), "class_names": NAMES}), tmp_path / "c")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32, 3), np.uint8)
    exact, fast = (
        Classifier.load(tmp_path / "c", precision).classify_views(pixels)
        for precision in ("fp32", "bf16")
    )
    for a, b in zip(exact, fast, strict=True):
        assert a.confidences != b.confidences  # another network computed it
        assert b.confidences == pytest.approx(a.confidences, abs=0.01)


def test_the_answer_is_the_mean_over_the_views_of_a_picture(tmp_path):
    torch.manual_seed(0)
    model = CifarNet(num_classes=3).eval()
    save_checkpoint(Checkpoint(model, {**model.settings(), "class_names": NAMES}), tmp_path / "c")
    large = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    views = look(Image.fromarray(large))
    wanted = model(torch.from_numpy(views).permute(0, 3, 1, 2)).mean(dim=0).softmax(dim=0)
    classifier = Classifier.load(tmp_path / "c", precision="fp32")
    answer = classifier.classify(large)
    assert [answer.confidences[n] for n in NAMES] == pytest.approx(wanted.tolist(), abs=1e-5)
    assert np.array_equal(answer.pixels, views[0])
    together = classifier.classify_views([views, views[:1], views])
    assert together[0].confidences == pytest.approx(answer.confidences, abs=1e-5)
    assert together[1].confidences == pytest.approx(
        classifier.classify(views[0]).confidences, abs=1e-5
    )


def test_unfamiliar_pictures_are_answered_none_with_their_runners_up(tmp_path):
    torch.manual_seed(0)
    model = CifarNet(num_classes=3)
    config = {**model.settings(), "class_names": NAMES, "none_below": 1e6}
    save_checkpoint(Checkpoint(model, config), tmp_path / "c")
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    for answer in Classifier.load(tmp_path / "c").classify_views(pixels[:, None]):
        assert answer.class_name is None
        assert set(answer.confidences) == set(NAMES) and answer.confidence > 1 / 3
