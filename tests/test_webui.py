"""The web app, as its visitors meet it: a real server, a real browser, real files."""

import inspect
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import expect

from cifar_torch.classifier import Answer
from cifar_torch.data import CIFAR10_CLASSES
from cifar_torch.errors import UserError
from cifar_torch.recipes import RECIPES
from cifar_torch.training import Progress
from cifar_torch.webui import train
from cifar_torch.webui.classify import answer_card
from cifar_torch.webui.code import AnswerLabel
from cifar_torch.webui.options import read_options
from cifar_torch.webui.pictures import colours, overlay
from cifar_torch.webui.runner import MAX_BYTES, Status, TrainingError, unpack_images
from cifar_torch.webui.serve import remember_signatures
from cifar_torch.webui.upload import Picture
from cifar_torch.webui.words import LANGUAGES, TEXTS, Words
from tests.conftest import EXAMPLES
from tests.pictures import write_image_folder
from tests.server import ROOT

TABS = ("classify", "inside", "results", "train", "code")
CONTENT = {  # what is there once a tab has all it shows
    "classify": "#answer img",
    "inside": "#steps table",
    "results": "#results .curves img",
    "train": "#training p",
    "code": "#calls pre",
}
browser_test = pytest.mark.browser


def open_tab(page, name: str) -> None:
    """Go to a tab as a visitor does, through the menu of tabs where the page is narrow."""
    language = page.evaluate("document.documentElement.lang")
    label = Words(language)(f"tab.{name}")
    tab = page.get_by_role("tab", name=label, exact=True)
    if tab.is_visible():
        tab.click()
    else:
        page.get_by_role("button", name="More tabs").click()
        page.locator(".overflow-dropdown").get_by_text(label).click()


def choose_example(page, caption: str) -> str:
    """Click on an example, and read the answer."""
    before = page.locator("#answer").inner_text()
    page.locator("#examples").get_by_role("button", name=caption, exact=True).click()
    page.wait_for_function(
        "before => document.querySelector('#answer').innerText !== before", arg=before
    )
    return page.locator("#answer .sentence").inner_text()


# ------------------------------------------------------------------------------------- classify


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
    seen = page.locator("#answer img")
    assert seen.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [32, 32]
    assert seen.get_attribute("alt") == Words(language)("classify.seen_alt")


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
    assert sum("none of the ten" in caption for caption in captions) == 2


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
    page.locator("#picture input[type=file]").set_input_files(file)
    page.get_by_text(Words(language)(f"error.{reason}")).first.wait_for()


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
    assert page.locator("#model input").input_value() == "best · 100.0%"


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
        (None, 0.97, "en", "This is <strong>none of the 2</strong>."),
        ("<my> cat", 0.97, "en", "This is <strong>&lt;my&gt; cat</strong>."),
    ],
)
def test_the_sentence_is_as_sure_as_the_network(class_name, confidence, language, sentence):
    confidences = {class_name or "cat": confidence, "dog": 1 - confidence}
    found = Answer(class_name, confidences, np.zeros((32, 32, 3), np.uint8))
    card = answer_card(found, Words(language))
    assert sentence in card
    assert Words(language).percent(confidence) in card
    assert Words(language).class_name("dog") in card


def test_none_of_the_ten_is_said_in_words():
    found = Answer(None, dict.fromkeys(CIFAR10_CLASSES, 0.1), np.zeros((32, 32, 3), np.uint8))
    assert "none of the ten" in answer_card(found, Words("en"))
    assert "không thuộc lớp nào trong mười lớp" in answer_card(found, Words("vi"))


# ------------------------------------------------------------------------------------ languages


@browser_test
def test_the_switch_keeps_the_picture_and_its_answer(visit):
    page = visit("vi")
    assert "Thả ảnh vào đây" in page.locator("#picture").inner_text()
    choose_example(page, "ngựa")
    page.get_by_text("English").click()
    page.get_by_text("This is a horse.").wait_for()
    assert page.title() == Words("en")("page.title")
    tabs = [tab.inner_text() for tab in page.get_by_role("tab").all()]
    assert tabs == [Words("en")(f"tab.{name}") for name in TABS]
    again = page.context.new_page()  # the choice is remembered
    again.goto(page.url)
    again.get_by_role("tab", name="Look inside").wait_for()


@browser_test
@pytest.mark.parametrize(
    ("tab", "text"),
    [
        ("inside", "tích chập và ReLU"),
        ("results", "Độ chính xác theo lớp"),
        ("train", "Chưa huấn luyện mô hình nào"),
        ("code", "Dòng lệnh"),
    ],
)
def test_the_switch_reaches_the_open_tab(visit, tab, text):
    page = visit("en")
    open_tab(page, tab)
    page.locator(CONTENT[tab]).first.wait_for()
    page.get_by_text("Tiếng Việt").click()
    page.get_by_text(text).first.wait_for()
    assert page.locator("[data-testid=toast-text]").count() == 0


@browser_test
def test_the_address_can_ask_for_a_language(visit):
    page = visit("en", path="?lang=vi")
    page.get_by_role("tab", name="Nhận dạng").wait_for()


@browser_test
def test_other_languages_read_english_throughout(visit):
    page = visit("fr")
    assert page.evaluate("document.documentElement.lang") == "en"
    assert "or click to choose one" in page.locator("#picture").inner_text()


@browser_test
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_tab_speaks_the_language_and_fits_the_screen(visit, language, width):
    page = visit(language, width)
    choose_example(page, Words(language).class_name("frog"))
    other = {"en": "vi", "vi": "en"}[language]
    foreign = {t for k, t in TEXTS[other].items() if t != TEXTS[language][k] and len(t) > 12}
    for name in TABS:
        open_tab(page, name)
        page.locator(CONTENT[name]).first.wait_for()
        text = page.locator("main").inner_text()
        assert not re.findall(rf"\b(?:{'|'.join(sections())})\.[a-z_]+\b", text)
        assert "__i18n__" not in text
        assert [f for f in foreign if f in text] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@browser_test
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(visit, mode):
    """WCAG 2.1 AA: a contrast of 4.5, or 3 for large letters."""
    page = visit("en", color_scheme=mode)
    choose_example(page, "cat")
    for name in TABS:
        open_tab(page, name)
        page.locator(CONTENT[name]).first.wait_for()
        page.wait_for_timeout(500)  # tabs fade in
        assert page.evaluate(FAINT_TEXTS) == [], name


FAINT_TEXTS = """() => {
  const parse = c => {
    const n = c.match(/[\\d.]+/g).map(Number), scale = c.startsWith("color(srgb") ? 255 : 1;
    return [...n.slice(0, 3).map(v => v * scale), n[3] ?? 1];
  };
  const over = (top, below) =>
    [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat([1]);
  const luminance = c => {
    const [r, g, b] = c.slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement)
      layers.unshift(parse(getComputedStyle(e).backgroundColor));
    return layers.reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const faint = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    const {width, height} = e.getBoundingClientRect();
    const seen = e.checkVisibility({opacityProperty: true, visibilityProperty: true});
    if (!text || !seen || width < 2 || height < 2) continue;
    if (["SCRIPT", "STYLE"].includes(e.tagName) || e.closest("[aria-hidden=true]")) continue;
    const style = getComputedStyle(e), below = ground(e);
    const [dark, light] = [luminance(over(parse(style.color), below)), luminance(below)]
      .sort((a, b) => a - b);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < (large ? 3 : 4.5)) faint.push(`${text.slice(0, 40)} ${contrast.toFixed(2)}`);
  }
  return [...new Set(faint)];
}"""


def sections() -> set[str]:
    return {key.split(".")[0] for key in TEXTS["en"]}


def test_both_languages_have_the_same_keys_and_blanks():
    assert list(TEXTS["en"]) == list(TEXTS["vi"])
    for key, text in TEXTS["en"].items():
        blanks = [set(re.findall(r"{(\w*)}", t)) for t in (text, TEXTS["vi"][key])]
        assert blanks[0] == blanks[1], key
        assert text.strip(), key
        assert TEXTS["vi"][key].strip(), key


def test_every_text_that_the_pages_ask_for_is_there():
    asked = set()
    for file in (ROOT / "cifar_torch" / "webui").glob("*.py"):
        asked |= set(
            re.findall(r'(?:label|words)\(\s*"([a-z_]+[.][a-z_.]+)"', file.read_text("utf-8"))
        )
    assert len(asked) > 50
    assert asked <= set(TEXTS["en"])


def test_numbers_are_written_as_the_language_writes_them():
    assert Words("en").percent(0.7563, 2) == "75.63%"
    assert Words("vi").percent(0.7563, 2) == "75,63%"
    assert Words("vi").number(2915114) == "2.915.114"
    assert Words("en").number(-0.0001, 2) == "0.00"
    assert Words("en").number(-1.5, 1) == "\N{MINUS SIGN}1.5"
    assert Words("en").confidence(0.99999) == ">\N{NO-BREAK SPACE}99.9%"
    assert Words("vi").confidence(0.5) == "50,0%"
    assert Words("xx")("tab.classify") == "Classify"


# ---------------------------------------------------------------------------------- look inside


@browser_test
def test_a_visitor_follows_the_picture_through_the_network(visit):
    page = visit()
    choose_example(page, "dog")
    open_tab(page, "inside")
    page.get_by_text("what speaks for dog").wait_for()
    rows = page.locator("#layers label").all_inner_texts()
    assert len(rows) == 19
    assert rows[0].split() == ["conv2d", "32", "×", "32", "×", "32", "896"]
    assert page.locator("#layer [data-tile]").count() == 32

    page.locator("#layers label", has_text="conv2d_5").click()
    page.get_by_role("heading", name="conv2d_5: convolution and ReLU").wait_for()
    assert page.locator("#layer [data-tile]").count() == 128

    page.locator("#layers label", has_text="dense_2").click()
    page.get_by_role("heading", name="dense_2").wait_for()
    assert page.locator("#layer .bars li").first.inner_text().startswith("dog")
    assert page.locator("#place").is_hidden()


@browser_test
def test_the_arithmetic_follows_a_click_into_the_picture(visit):
    page = visit()
    choose_example(page, "truck")
    open_tab(page, "inside")
    place = page.locator("#steps .place").first
    box = place.bounding_box()
    place.click(position={"x": box["width"] * 20.5 / 32, "y": box["height"] * 9.5 / 32})
    page.get_by_text("at row 9, column 20").wait_for()
    assert page.locator("#place input[type=number]").first.input_value() == "9"

    patch, kernel, products = (
        np.array([float(n.replace("\N{MINUS SIGN}", "-")) for n in table.inner_text().split()])
        for table in page.locator("#steps .product").first.locator("table").all()
    )
    np.testing.assert_allclose(patch * kernel, products, atol=0.02)


@browser_test
def test_a_pooling_shows_its_window_and_another_map_can_be_chosen(visit):
    page = visit("vi")
    open_tab(page, "inside")
    page.locator("#layers label", has_text="max_pooling2d_1").click()
    page.locator("#steps .marked").first.wait_for()
    cells = page.locator("#steps .matrix td").all_inner_texts()
    values = [float(c.replace(",", ".")) for c in cells]
    marked = page.locator("#steps .marked").first.inner_text()
    assert float(marked.replace(",", ".")) == max(values)
    tile = page.locator("#layer [data-tile]").nth(5)
    tile.focus()
    page.keyboard.press("Enter")
    page.get_by_text(f"bản đồ đặc trưng {tile.get_attribute('data-tile')} được tính").wait_for()
    assert tile.get_attribute("aria-pressed") == "true"


@browser_test
def test_grad_cam_can_be_asked_for_another_class(visit):
    page = visit()
    choose_example(page, "ship")
    open_tab(page, "inside")
    page.get_by_text("what speaks for ship").wait_for()
    page.locator("#cam-class input").click()
    page.get_by_role("option", name="frog").click()
    page.get_by_text("what speaks for frog").wait_for()


def test_what_counts_is_lit_and_the_rest_is_dark_and_grey():
    pixels = np.full((4, 4, 3), (200, 100, 0), np.uint8)
    heat = np.zeros((4, 4))
    heat[1, 1] = 1
    lit = overlay(pixels, heat)
    assert tuple(lit[1, 1]) == (200, 100, 0)
    assert tuple(lit[0, 0]) == (35, 35, 35)


def test_colours_run_from_dark_to_light():
    light = colours(np.linspace(0, 1, 50)).astype(int).sum(axis=1)
    assert light[0] < light[25] < light[-1]
    assert tuple(colours(np.array([1.0]))[0]) == (253, 231, 37)


# -------------------------------------------------------------------------------------- results


@browser_test
def test_the_results_are_those_of_the_checkpoint(visit):
    page = visit()
    open_tab(page, "results")
    page.locator("#results .confusion img").wait_for()
    text = page.locator("#results").inner_text()
    assert "100.00%" in text
    assert "75.63%" in text
    assert page.locator("#results .bars li").count() == 10
    for image in page.locator("#results img").all():
        assert image.evaluate("image => image.complete && image.naturalWidth > 100")
        assert image.get_attribute("alt")


@browser_test
def test_the_most_confident_mistakes_are_found(visit):
    page = visit()
    page.locator("#model input").click()
    page.get_by_role("option", name="swapped").click()
    open_tab(page, "results")
    page.locator("#find-mistakes").click()
    page.locator("#mistakes figure").first.wait_for()
    assert page.locator("#mistakes figure").count() >= 10
    assert "said deer" in page.locator("#mistakes").inner_text()


# ---------------------------------------------------------------------------------------- train


@browser_test
def test_a_visitor_trains_on_pictures_of_their_own(visit, app, tmp_path):
    pictures = write_image_folder(tmp_path / "things", per_class=12)
    archive = tmp_path / "things.zip"
    with zipfile.ZipFile(archive, "w") as zip_file:
        for file in pictures.rglob("*.png"):
            zip_file.write(file, file.relative_to(tmp_path))
    page = visit()
    open_tab(page, "train")
    page.locator("#name input, #name textarea").fill("things")
    page.locator("#epochs input[type=number]").fill("2")
    page.locator("#epochs input[type=number]").press("Tab")
    page.get_by_label(Words("en")("train.go_on")).check()
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
        _, knobs, *_ = train._form()
    for recipe in RECIPES:
        for field, value in zip(knobs, train._knobs_of(recipe), strict=True):
            assert field.preprocess(value) == value


def test_programs_are_told_none_of_these_with_every_confidence():
    answer = Answer(None, {"cat": 0.4, "dog": 0.3}, np.zeros((32, 32, 3), np.uint8))
    told = AnswerLabel(render=False).postprocess(answer)
    assert told.label == "none of these"
    assert {c.label: c.confidence for c in told.confidences} == answer.confidences


@browser_test
def test_a_name_that_is_taken_is_refused(visit):
    page = visit("vi")
    open_tab(page, "train")
    page.locator("#name input, #name textarea").fill("best")
    page.locator("#start").click()
    page.get_by_text(Words("vi")("error.taken")).wait_for()


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


# ----------------------------------------------------------------------------------- from code


def test_programs_get_english_class_names(app):
    client = Client(app.url, verbose=False)
    answer = client.predict(handle_file(EXAMPLES / "cat.png"), api_name="/classify")
    assert answer["label"] == "cat"
    assert len(answer["confidences"]) == 10
    assert sum(c["confidence"] for c in answer["confidences"]) == pytest.approx(1)
    other = client.predict(handle_file(EXAMPLES / "cat.png"), "swapped", api_name="/classify")
    assert other["label"] == "deer"
    with pytest.raises(AppError, match="no checkpoint 'nonsense'"):
        client.predict(handle_file(EXAMPLES / "cat.png"), "nonsense", api_name="/classify")


def test_programs_that_call_at_once_are_all_answered(app):
    client = Client(app.url, verbose=False)
    names = ["cat", "dog", "ship", "truck"] * 4
    jobs = [
        client.submit(handle_file(EXAMPLES / f"{name}.png"), api_name="/classify") for name in names
    ]
    alone = {
        name: client.predict(handle_file(EXAMPLES / f"{name}.png"), api_name="/classify")
        for name in set(names)
    }
    for name, job in zip(names, jobs, strict=True):
        assert job.result(60)["label"] == alone[name]["label"]


def test_remembered_signatures_change_nothing_that_gradio_sends():
    with gr.Blocks() as demo:
        components = [gr.HTML("a"), gr.Slider(0, 1), Picture(label="b"), AnswerLabel()]
    before = [component.get_config() for component in components]
    remember_signatures(demo)
    assert [component.get_config() for component in components] == before
    assert inspect.signature(gr.HTML.__init__) is inspect.signature(gr.HTML.__init__)


def test_classify_is_all_that_programs_are_offered(app):
    offered = Client(app.url, verbose=False).view_api(return_format="dict")
    assert list(offered["named_endpoints"]) == ["/classify"]
    assert offered["unnamed_endpoints"] == {}


@browser_test
def test_the_calls_to_copy_have_the_right_address_and_work(visit, app, tmp_path):
    page = visit()
    open_tab(page, "code")
    code = page.locator("#calls pre code").first.inner_text()
    assert app.url in code
    (tmp_path / "cat.jpg").write_bytes((EXAMPLES / "cat.png").read_bytes())
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "cat" in run.stdout


# -------------------------------------------------------------------------------------- options


def run_app(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "app.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoints", "nowhere"], "there is no checkpoint in nowhere"),
        (["--checkpoint", "nowhere/best"], "there is no checkpoint folder nowhere/best"),
    ],
)
def test_mistakes_end_with_a_sentence(arguments, message):
    ended = run_app(*arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_ends_with_a_sentence(app, checkpoints):
    port = app.url.rsplit(":", 1)[1]
    ended = run_app("--checkpoints", checkpoints, "--port", port)
    assert ended.returncode == 2
    assert f"port {port} is in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_options_come_from_the_environment_and_flags_win(monkeypatch):
    monkeypatch.setenv("CIFAR_TORCH_PORT", "8000")
    monkeypatch.setenv("CIFAR_TORCH_AUTH", "anna:a:b")
    monkeypatch.setenv("CIFAR_TORCH_MCP", "1")
    options = read_options([])
    assert (options.port, options.auth, options.mcp) == (8000, ("anna", "a:b"), True)
    assert read_options(["--port", "9000"]).port == 9000
    monkeypatch.setenv("CIFAR_TORCH_SHARE", "perhaps")
    with pytest.raises(UserError, match="CIFAR_TORCH_SHARE is 'perhaps'"):
        read_options([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "many"], "the port is 'many'"),
        (["--port", "70000"], "from 1 to 65535"),
        (["--auth", "anna"], "--auth takes a name and a password"),
        (["--auth", ":secret"], "--auth takes a name and a password"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        read_options(arguments)


def test_training_is_off_wherever_strangers_can_reach_the_page(monkeypatch):
    assert read_options([]).training
    assert not read_options(["--share"]).training
    assert not read_options(["--host", "0.0.0.0"]).training
    assert read_options(["--host", "0.0.0.0", "--allow-training"]).training
    monkeypatch.setenv("SPACE_ID", "somebody/space")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7000")
    options = read_options([])
    assert (options.host, options.port, options.training) == ("0.0.0.0", 7000, False)
