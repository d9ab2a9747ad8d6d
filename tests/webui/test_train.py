"""The fourth tab: training from the page, and the zips that come with it."""

import functools
import json
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from playwright.sync_api import expect

from cifar_torch import kernels, training
from cifar_torch.checkpoint import STATE
from cifar_torch.classifier import Classifiers
from cifar_torch.data import Data, load_image_folder
from cifar_torch.errors import UserError
from cifar_torch.progress import Progress, Stopped
from cifar_torch.recipes import RECIPES, get_recipe
from cifar_torch.webui import classify, inside, results, train
from cifar_torch.webui.page import explained, get_classifier
from cifar_torch.webui.runner import (
    MAX_BYTES,
    Runner,
    Status,
    TrainingError,
    load_zip,
    unpack_images,
)
from cifar_torch.webui.words import Words
from tests.conftest import EXAMPLES
from tests.pictures import write_image_folder
from tests.server import ROOT
from tests.webui.visitor import browser_test, choose_example, open_tab


@browser_test
def test_a_visitor_trains_on_pictures_of_their_own(visit, app, tmp_path):
    archive = write_zip(tmp_path / "things.zip", zipped_things(tmp_path, per_class=12))
    page = visit()
    open_tab(page, "train")
    page.locator("#name input, #name textarea").fill("things")
    page.locator("#epochs input[type=number]").fill("2")
    page.locator("#epochs input[type=number]").press("Tab")
    page.get_by_label(Words("en")("train.begin_with")).check()
    page.locator("input[type=file]").last.set_input_files(archive)
    page.locator("#archive .file-preview").wait_for()
    page.locator("#start").click()
    page.get_by_text("things is ready").wait_for(timeout=90_000)
    assert (app.checkpoints / "things" / "model.safetensors").exists()
    config = json.loads((app.checkpoints / "things" / "config.json").read_text())
    assert config["started_from"] == "best" and config["recipe"]["name"] == "report"

    page.locator("#model input").click()
    page.get_by_role("option", name=re.compile("^things")).click()
    open_tab(page, "classify")
    choose_example(page, "cat")
    assert re.search("cross|disc|ring|square", page.locator("#answer").inner_text())


@browser_test
def test_who_may_not_start_sees_the_run_that_is_in_the_way(visit, tmp_path):
    archive = write_zip(tmp_path / "z.zip", zipped_things(tmp_path, per_class=12))
    mine, other = visit(), visit()
    open_tab(other, "train")
    other.locator("#training p").first.wait_for()
    open_tab(mine, "train")
    mine.locator("#name input, #name textarea").fill("long")
    mine.locator("#epochs input[type=number]").fill("200")
    mine.locator("#epochs input[type=number]").press("Tab")
    mine.locator("input[type=file]").last.set_input_files(archive)
    mine.locator("#archive .file-preview").wait_for()
    mine.locator("#start").dblclick()
    mine.get_by_text("long is learning").wait_for()
    assert mine.locator("[data-testid=toast-text]").count() == 0
    other.locator("#start").click()
    other.get_by_text(Words("en")("error.busy")).wait_for()
    other.get_by_text("long is learning").wait_for()
    other.locator("#stop").click()
    for page in (mine, other):
        expect(page.locator("#training")).to_contain_text("long was stopped", timeout=60_000)


@browser_test
def test_a_broken_zip_is_explained_in_the_visitors_language(visit, tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and nothing more")
    page = visit("vi")
    open_tab(page, "train")
    page.locator("#name input, #name textarea").fill("broken")
    page.locator("input[type=file]").last.set_input_files(tmp_path / "broken.zip")
    page.locator("#archive .file-preview").wait_for()
    page.locator("#start").click()
    expect(page.locator("#training")).to_contain_text(Words("vi")("error.zip"), timeout=20_000)


@browser_test
def test_nobody_starts_before_their_pictures_have_arrived(visit, tmp_path):
    (tmp_path / "large.zip").write_bytes(bytes(8_000_000))
    page = visit()
    open_tab(page, "train")
    assert page.locator("#start").is_visible()
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 4e6}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", slow)
    page.locator("input[type=file]").last.set_input_files(tmp_path / "large.zip")
    page.locator("#start").wait_for(state="hidden")
    page.locator("#archive .file-preview").wait_for()
    page.locator("#start").wait_for()


def test_a_run_says_whether_it_learned_anything_before_it_was_stopped():
    early = train.status_html(Status("stopped", "mine"), Words("en"))
    assert "before it learned anything" in early
    progress = Progress(2, 5, 3, 10, 1.5, 0.4, ())
    assert "learned so far" in train.status_html(Status("stopped", "mine", progress), Words("en"))
    teaching = Progress(3, 20, 0, 10, 0.0, 0.0, (), teaching=True)
    said = train.status_html(Status("stopped", "mine", teaching), Words("en"))
    assert "before it learned anything" in said and "teachers" not in said
    said = train.status_html(Status("training", "mine", teaching), Words("vi"))
    assert "các mạng thầy" in said and "vòng 3 trên 20" in said


def test_the_forms_fields_take_every_recipes_values():
    with gr.Blocks():
        knobs = train._knobs()
    for recipe in RECIPES:
        values = train._values_of(list(knobs), recipe)
        for field, value in zip(knobs.values(), values, strict=True):
            assert field.preprocess(value) == value
    assert knobs["epochs"].preprocess(2.5) == 2  # as a visitor can type


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
    with pytest.raises(TrainingError, match="there is a checkpoint 'report' already"):
        runner.start("report", get_recipe("report"), lambda: pytest.fail("it began"))


def test_a_second_click_is_none_if_it_is_for_other_pictures(tmp_path):
    runner = Runner(Classifiers(tmp_path, default=ROOT / "checkpoints" / "report"))
    ended = threading.Event()

    def load():
        ended.wait(60)
        raise Stopped

    runner.start("mine", get_recipe("report"), load, images="a.zip")
    runner.start("mine", get_recipe("report"), load, images="a.zip")
    with pytest.raises(TrainingError, match="mine is being trained already"):
        runner.start("mine", get_recipe("report"), load, images="b.zip")
    ended.set()
    wait_until(lambda: not runner.status.running)


def test_a_run_that_cannot_even_begin_makes_room_for_another(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "prepare", lambda: 1 / 0)
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


def test_unpacking_ends_when_it_is_asked_to(tmp_path):
    archive = write_zip(tmp_path / "my.zip", {f"{c}/{i}.png": b"1" for c in "ab" for i in range(9)})
    answers = iter([False, False, True])
    with pytest.raises(Stopped):
        unpack_images(archive, tmp_path / "out", lambda: next(answers))
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_an_upload_that_is_gone_is_asked_for_again(tmp_path):
    with pytest.raises(TrainingError) as found:
        load_zip(tmp_path / "deleted.zip")
    assert explained(found.value, Words("en")) == Words("en")("error.zip_gone")


def test_an_epoch_that_has_just_begun_has_no_figures():
    begun = Progress(2, 5, 0, 10, 0.0, 0.0, ())
    said = train.status_html(Status("training", "mine", begun), Words("en"))
    assert "Epoch 2 of 5" in said and "Loss" not in said
    said = train.status_html(Status("training", "mine", replace(begun, step=1)), Words("en"))
    assert "Loss 0.000" in said


def test_a_run_that_has_yet_to_stop_says_that_it_was_heard():
    reading = Status("reading", "mine")
    assert "is being stopped" in train.status_html(reading, Words("en"), stopping=True)
    ended = Status("stopped", "mine", resumed=True)
    assert "was stopped" in train.status_html(ended, Words("en"), stopping=True)


def test_visitors_get_no_path_of_a_model_that_cannot_be_read(tmp_path, capsys):
    shutil.copytree(ROOT / "checkpoints" / "report", tmp_path / "report")
    page = SimpleNamespace(classifiers=Classifiers(tmp_path))
    (tmp_path / "report" / "model.safetensors").write_bytes(b"")
    for name in ("report", "gone"):
        with pytest.raises(UserError) as found:
            get_classifier(page, name)
        assert explained(found.value, Words("vi")) == Words("vi")("error.model")
    assert str(tmp_path) in capsys.readouterr().err  # its owner does
    # What is known of another model does not stay in sight.
    said = Words("en")("error.model")
    picture = str(EXAMPLES / "cat.png")
    assert said in classify.answer(page, picture, "report", "en")[0]
    assert said in results._report(page, "report", "en")
    assert said in inside._show(page, "report", "en", picture, None, "conv2d", None, 0, 0)[1]


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
    assert fail(lambda: None) == "cannot write mine: No space left on device."
    assert capsys.readouterr().err.count("mine could not be trained: ") == 2


def test_a_zip_is_called_by_its_name_and_its_errors_say_nothing_of_this_machine(tmp_path):
    entries = zipped_things(tmp_path, per_class=3)
    assert load_zip(write_zip(tmp_path / "my.zip", entries)).origin == "images of my.zip"
    one_each = {name: content for name, content in entries.items() if name.endswith("/000.png")}
    with pytest.raises(UserError, match=r"^my.zip has one image of each class"):
        load_zip(write_zip(tmp_path / "my.zip", one_each))


@pytest.mark.parametrize("name", ["1.png", "a/1.png", "my set/a/1.png"])
def test_a_zip_without_a_folder_for_each_class_is_refused(tmp_path, name):
    with pytest.raises(TrainingError) as found:
        load_zip(write_zip(tmp_path / "flat.zip", {name: b"1"}))
    assert found.value.reason == "zip_flat"


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")


@browser_test
def test_a_name_that_is_taken_is_refused(visit):
    page = visit("vi")
    open_tab(page, "train")
    page.locator("#name input, #name textarea").fill("best")
    page.locator("#start").click()
    page.get_by_text(Words("vi")("error.taken")).wait_for()


@browser_test
def test_a_rate_that_is_missing_is_asked_for(visit):
    page = visit("vi")
    open_tab(page, "train")
    page.locator("#lr input").fill("")
    page.locator("#start").click()
    page.get_by_text(Words("vi")("error.rate")).wait_for()


def zipped_things(folder: Path, per_class: int) -> dict[str, bytes]:
    """What a zip of a folder of images holds: the names, and what is in them."""
    things = write_image_folder(folder / "things", per_class)
    files = things.rglob("*.png")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def write_zip(file: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file


def test_a_zip_leaves_nothing_outside_its_folder_and_only_images_in_it(tmp_path):
    entries = {"../../evil.png": b"1", "/etc/evil.png": b"1", "a/.hidden.png": b"1"}
    entries |= {
        "a/run.sh": b"1",
        "__MACOSX/a/._1.png": b"1",
        "set/a/1.png": b"1",
        "set/b/1.jpg": b"",
    }
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    unpack_images(write_zip(tmp_path / "x.zip", entries), inside)
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {
        "x.zip",
        *(f"deep/inside/{name}" for name in ("etc/evil.png", "set/a/1.png", "set/b/1.jpg")),
    }


def test_the_classes_of_a_zipped_folder_are_found(tmp_path):
    archive = write_zip(tmp_path / "x.zip", {"my set/a/1.png": b"1", "my set/b/1.png": b"1"})
    (tmp_path / "out").mkdir()
    assert unpack_images(archive, tmp_path / "out") == tmp_path / "out" / "my set"


def test_a_class_of_a_zip_without_images_is_not_dropped_in_silence(tmp_path):
    entries = {"a/1.png": b"1", "b/1.png": b"1", "c/1.heic": b"1"}
    with pytest.raises(UserError, match=r"the class folder x\.zip/c has no images in it"):
        load_zip(write_zip(tmp_path / "x.zip", entries))


def test_a_zip_bomb_and_a_file_that_is_no_zip_are_refused(tmp_path):
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("a/1.png", b"")
        archive.infolist()[0].file_size = MAX_BYTES + 1  # what its directory claims
    with pytest.raises(TrainingError) as found:
        unpack_images(bomb, tmp_path)
    assert found.value.reason == "zip_large"
    (tmp_path / "no.zip").write_bytes(b"not a zip")
    with pytest.raises(TrainingError) as found:
        unpack_images(tmp_path / "no.zip", tmp_path)
    assert found.value.reason == "zip"
