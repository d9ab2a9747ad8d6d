"""The third tab: the figures of a checkpoint."""

import gradio as gr
import pytest

from cifar_torch.errors import UserError
from cifar_torch.webui import results
from cifar_torch.webui.words import Words
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


def test_a_search_where_there_are_no_images_ends_with_a_sentence(monkeypatch):
    def refuse(classifier):
        raise UserError("there are no test images")

    monkeypatch.setattr(results, "get_classifier", lambda page, model: None)
    monkeypatch.setattr(results, "images_for", refuse)
    said, _ = results._mistakes(None, "best", "vi")
    assert Words("vi")("error.test_images") in said


def test_mistakes_go_with_their_model_and_language_and_no_sooner():
    assert results.cleared(("best", "en"), "swapped", "en") == ""
    assert results.cleared(("best", "en"), "best", "vi") == ""
    assert results.cleared(None, "best", "vi") == ""
    assert results.cleared(("best", "en"), "best", "en") == gr.skip()
