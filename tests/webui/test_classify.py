"""The first tab: a picture, its answer, and what is wrong with a file."""

import numpy as np
import pytest
from PIL import Image

from cifar_torch.classifier import Answer
from cifar_torch.data import CIFAR10_CLASSES
from cifar_torch.images import look
from cifar_torch.webui.classify import answer_card
from cifar_torch.webui.pictures import data_uri
from cifar_torch.webui.words import Words
from tests.conftest import EXAMPLES
from tests.webui.visitor import browser_test, choose_example


@browser_test
@pytest.mark.parametrize(
    ("language", "caption", "sentence"),
    [("en", "cat", "This is a cat."), ("vi", "mèo", "Đây là một con mèo.")],
)
def test_a_visitor_picks_an_example_and_reads_the_answer(visit, language, caption, sentence):
    page = visit(language)
    assert choose_example(page, caption) == sentence
    assert (
        page.locator("#confidences").inner_text().startswith(Words(language)("classify.confidence"))
    )
    assert caption in page.locator("#confidences").inner_text()
    seen = page.locator("#answer img").first
    assert seen.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [32, 32]
    assert seen.get_attribute("alt") == Words(language)("classify.seen_alt")


@browser_test
def test_the_list_of_models_closes_behind_the_tab_key(visit):
    page = visit()
    page.keyboard.press("Tab")
    page.get_by_role("listbox").wait_for()
    page.keyboard.press("Tab")
    page.get_by_role("listbox").wait_for(state="detached")
    assert page.get_by_role("radio", name="English").is_checked()
    page.wait_for_timeout(300)  # nor does it open again
    assert page.get_by_role("listbox").count() == 0


@browser_test
def test_an_uploaded_photo_is_answered_at_once(visit, tmp_path):
    photo = tmp_path / "my photo of a ship.jpg"
    Image.open(EXAMPLES / "ship.png").convert("RGB").resize((1600, 1200)).save(photo)
    page = visit()
    page.locator("#picture input[type=file]").set_input_files(photo)
    page.get_by_text("This is a ship.").wait_for()


@browser_test
def test_every_class_has_an_example_and_two_have_none(visit):
    captions = visit().locator("#examples button").all_inner_texts()
    assert set(CIFAR10_CLASSES) <= set(captions)
    assert sum("none of these" in caption for caption in captions) == 2


@browser_test
def test_of_two_quick_clicks_the_last_is_answered(visit):
    page = visit()
    tiles = page.locator("#examples").get_by_role("button")
    tiles.first.wait_for()
    slow = {"offline": False, "latency": 400, "downloadThroughput": 1e5, "uploadThroughput": 1e5}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", slow)
    tiles.first.click()
    tiles.filter(has_text="cat").click()
    page.get_by_text("This is a cat.").wait_for()


@browser_test
def test_an_example_can_be_chosen_by_keyboard_alone(visit):
    page = visit()
    page.locator("#examples button").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("This is an automobile.").wait_for()


@browser_test
@pytest.mark.parametrize(
    ("language", "name", "content", "reason"),
    [
        ("en", "notes.png", b"these are only words", "unreadable"),
        ("vi", "cut.jpg", None, "broken"),
        ("vi", "nothing.png", b"", "empty"),
    ],
)
def test_a_file_that_is_no_picture_gets_a_sentence(
    visit, tmp_path, language, name, content, reason
):
    file = tmp_path / name
    if content is None:
        Image.effect_noise((300, 300), 80).save(file)
        content = file.read_bytes()[:9000]
    file.write_bytes(content)
    page = visit(language)
    choose_example(page, Words(language).class_name("cat"))
    page.locator("#picture input[type=file]").set_input_files(file)
    page.locator("#answer").get_by_text(Words(language)(f"error.{reason}")).wait_for()
    assert page.locator("#answer img").count() == 0  # nothing is left of the picture before


@browser_test
def test_switching_the_model_answers_anew(visit):
    page = visit()
    assert choose_example(page, "cat") == "This is a cat."
    page.locator("#model input").click()
    page.get_by_role("option", name="swapped").click()
    page.get_by_text("This is a deer.").wait_for()
    assert page.locator("#model input").input_value() == "swapped"


@browser_test
def test_the_menu_has_best_first_with_its_accuracy(visit):
    page = visit()
    assert page.locator("#model input").input_value() == "best · 100%"


@browser_test
def test_test_images_can_be_drawn(visit):
    page = visit()
    page.locator("#draw").click()
    page.wait_for_function("document.querySelector('#examples img').naturalWidth === 32")
    captions = page.locator("#examples button").all_inner_texts()
    assert len(captions) == 12
    assert set(captions) <= set(CIFAR10_CLASSES)
    page.locator("#examples button").first.click()
    page.locator("#answer .sentence").wait_for()


@pytest.mark.parametrize(
    ("class_name", "confidence", "language", "sentence"),
    [
        ("cat", 0.97, "en", "This is <strong>a cat</strong>."),
        ("cat", 0.7, "en", "This is probably <strong>a cat</strong>."),
        ("cat", 0.3, "vi", "Khó nói chắc. Phải chăng là <strong>một con mèo</strong>?"),
        (None, 0.97, "en", "This is <strong>none of the 2 classes</strong>."),
        ("<my> cat", 0.97, "en", "This is <strong>&lt;my&gt; cat</strong>."),
    ],
)
def test_the_sentence_is_as_sure_as_the_network(class_name, confidence, language, sentence):
    confidences = {class_name or "cat": confidence, "dog": 1 - confidence}
    found = Answer(class_name, confidences, np.zeros((1, 32, 32, 3), np.uint8))
    card = answer_card(found, Words(language))
    assert sentence in card
    assert Words(language).percent(confidence) in card
    assert Words(language).class_name("dog") in card


def test_every_view_that_the_answer_is_of_is_shown():
    views = look(Image.effect_noise((60, 40), 100).convert("RGB"))
    card = answer_card(Answer("cat", {"cat": 0.9, "dog": 0.1}, views), Words("en"))
    assert len(views) == 3
    assert all(data_uri(view) in card for view in views)
    assert "and its middle" in card
    alone = answer_card(Answer("cat", {"cat": 0.9, "dog": 0.1}, views[:1]), Words("en"))
    assert alone.count("<img") == 1 and "middle" not in alone


def test_none_of_the_ten_is_said_in_words():
    found = Answer(None, dict.fromkeys(CIFAR10_CLASSES, 0.1), np.zeros((1, 32, 32, 3), np.uint8))
    assert "none of the ten classes" in answer_card(found, Words("en"))
    assert "không thuộc lớp nào trong mười lớp" in answer_card(found, Words("vi"))
