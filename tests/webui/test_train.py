"""The fourth tab: training from the page."""

import json
import math
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from playwright.sync_api import expect

from cifar_torch.classifier import Classifiers
from cifar_torch.errors import ReasonedError, UserError
from cifar_torch.progress import Progress
from cifar_torch.recipes import RECIPES
from cifar_torch.webui import classify, inside, results, train
from cifar_torch.webui.page import explained, get_classifier
from cifar_torch.webui.runner import Status
from cifar_torch.webui.words import Words
from tests.conftest import EXAMPLES
from tests.pictures import write_zip, zipped_things
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
    accuracy = json.loads((app.checkpoints / "things" / "metrics.json").read_text())["accuracy"]
    page.get_by_text(f"kept out of training it gets {accuracy:.1%} right").wait_for()
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


def test_an_epoch_that_has_just_begun_has_no_figures():
    begun = Progress(2, 5, 0, 10, 0.0, 0.0, ())
    said = train.status_html(Status("training", "mine", begun), Words("en"))
    assert "Epoch 2 of 5" in said and "Loss" not in said and "not used" not in said
    said = train.status_html(Status("training", "mine", begun, unused=2), Words("en"))
    assert "or are in no folder of a class: 2." in said
    said = train.status_html(Status("training", "mine", replace(begun, step=1)), Words("en"))
    assert "Loss 0.000" in said
    nan = ReasonedError("no_number", "the loss is no longer a number")
    failed = Status("failed", "mine", replace(begun, step=1, loss=math.nan), nan)
    said = train.status_html(failed, Words("en"))
    assert Words("en")("error.no_number") in said and "Loss" not in said


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


@browser_test
@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [("#name input, #name textarea", "best", "taken"), ("#lr input", "", "rate")],
)
def test_a_form_that_cannot_be_trained_with_is_refused(visit, field, text, reason):
    page = visit("vi")
    open_tab(page, "train")
    page.locator(field).fill(text)
    page.locator("#start").click()
    page.get_by_text(Words("vi")(f"error.{reason}")).wait_for()
