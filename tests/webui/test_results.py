"""The third tab: the figures of a checkpoint."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cifar_torch.classifier import Classifiers
from cifar_torch.data import Split
from cifar_torch.errors import UserError
from cifar_torch.webui import results
from cifar_torch.webui.words import Words
from tests.server import ROOT
from tests.webui.visitor import browser_test, open_tab


@browser_test
def test_the_results_are_those_of_the_checkpoint(visit):
    page = visit()
    open_tab(page, "results")
    table = page.get_by_role("table", name="Confusion matrix")
    table.get_by_role("rowheader", name="cat").wait_for()
    counts = table.locator("tr").nth(4).locator("td").all_inner_texts()
    assert counts == [""] * 3 + ["100"] + [""] * 6
    text = page.locator("#results").inner_text()
    assert "100.00%" in text
    assert "75.63%" in text
    assert page.locator("#results .bars li").count() == 10
    for image in page.locator("#results img").all():
        assert image.evaluate("image => image.complete && image.naturalWidth > 100")
        assert image.get_attribute("alt")


@browser_test
@pytest.mark.parametrize("language", ["en", "vi"])
def test_nothing_is_cut_off_on_a_phone(visit, language):
    page = visit(language, 390)
    open_tab(page, "results")
    page.locator("#results .curves img").first.wait_for()
    for section in page.locator("#results section").all():
        assert section.evaluate("section => section.scrollWidth - section.clientWidth") <= 0


@browser_test
def test_the_most_confident_mistakes_are_found(visit):
    page = visit()
    page.locator("#model input").click()
    page.get_by_role("option", name="swapped").click()
    open_tab(page, "results")
    # So that it is `swapped` that is asked.
    page.get_by_text("has not been measured yet").wait_for()
    page.locator("#find-mistakes").click()
    page.locator("#mistakes figure").first.wait_for()
    assert page.locator("#mistakes figure").count() >= 10
    assert "said deer" in page.locator("#mistakes").inner_text()
    page.get_by_role("radio", name="Tiếng Việt").check()
    page.locator("#mistakes figure", has_text="hươu").first.wait_for()


def test_damaged_figures_are_said_to_be_damaged(tmp_path, capsys):
    copy = shutil.copytree(ROOT / "checkpoints" / "report", tmp_path / "report")
    metrics = json.loads((copy / "metrics.json").read_text())
    page = SimpleNamespace(classifiers=Classifiers(tmp_path))
    for damage in ({"confusion": [[1]]}, {"accuracy_ci95": None}, {"by_class": "x"}):
        (copy / "metrics.json").write_text(json.dumps(metrics | damage))
        os.utime(copy)  # as if the folder were another one
        assert "bị hỏng" in results._report(page, "report", "vi"), damage
        assert "report" in capsys.readouterr().err


def test_a_search_can_be_ended_after_every_batch(monkeypatch):
    class Looking:
        class_names = ("cat", "deer")
        looks = 0

        def probabilities(self, images):
            self.looks += 1
            return torch.full((len(images), 2), 0.5)

    classifier, count = Looking(), 3 * results.BATCH
    images = Split(torch.zeros(count, 3, 32, 32, dtype=torch.uint8), torch.ones(count).long())
    monkeypatch.setattr(results, "get_classifier", lambda page, model: classifier)
    monkeypatch.setattr(results, "images_for", lambda classifier: images)
    search = results._search(None, "best", "en")
    next(search)
    search.close()  # as Gradio does when the visitor has left
    assert classifier.looks == 1
    *_, found = results._search(None, "best", "en")
    assert len(found.mistakes) == results.MISTAKES


def test_a_search_where_there_are_no_images_ends_with_a_sentence(monkeypatch):
    def refuse(classifier):
        raise UserError("there are no test images")

    monkeypatch.setattr(results, "get_classifier", lambda page, model: None)
    monkeypatch.setattr(results, "images_for", refuse)
    (found,) = results._search(None, "best", "en")
    said = results.mistakes_html(found, "best", "vi")
    assert Words("vi")("error.test_images") in said


def test_mistakes_go_with_their_model_and_stay_in_another_language():
    mistake = results.Mistake(np.zeros((32, 32, 3), np.uint8), "cat", "deer", 0.9)
    found = results.Search("best", [mistake])
    assert results.mistakes_html(None, "best", "en") == ""
    assert results.mistakes_html(found, "swapped", "en") == ""
    assert "said <b>deer" in results.mistakes_html(found, "best", "en")
    assert "hươu" in results.mistakes_html(found, "best", "vi")
    assert Words("en")("results.no_mistakes") in results.mistakes_html(
        results.Search("best"), "best", "en"
    )
