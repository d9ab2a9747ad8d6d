"""English and Vietnamese, widths, contrast, texts."""

import re
from typing import get_args

import pytest

from cifar_torch.summary import KERAS_KINDS
from cifar_torch.webui.runner import Phase
from cifar_torch.webui.words import LANGUAGES, TEXTS, Words
from tests.server import ROOT
from tests.webui.visitor import CONTENT, TABS, browser_test, choose_example, open_tab

# Whatever other tests have trained in the same app before.
TRAIN_STATE = re.compile("Chưa huấn luyện mô hình nào|đã sẵn sàng|Không huấn luyện được")


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
        ("train", TRAIN_STATE),
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
def test_a_tab_that_was_left_before_its_answer_came_does_not_count_as_open(visit):
    page, held = visit("en"), []
    page.route("**/gradio_api/**", lambda route: held.append(route))
    open_tab(page, "inside")
    page.wait_for_timeout(500)  # it has asked
    page.route("**/gradio_api/**", lambda route: route.continue_())
    open_tab(page, "train")
    page.locator(CONTENT["train"]).first.wait_for()
    for route in held:
        route.continue_()
    page.wait_for_timeout(500)
    page.get_by_text("Tiếng Việt").click()
    page.get_by_text(TRAIN_STATE).first.wait_for()
    assert held


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
    assert {f"train.{phase}" for phase in get_args(Phase)} <= set(TEXTS["en"])
    assert {f"kind.{kind}" for kind in (*KERAS_KINDS.values(), "softmax")} <= set(TEXTS["en"])


def test_every_reason_of_an_error_has_its_text():
    given = set()
    calls = r'(?:ReasonedError|ImageError|without_paths)\(\s*"([a-z_]+)"'
    for file in (ROOT / "cifar_torch").rglob("*.py"):
        given |= {f"error.{reason}" for reason in re.findall(calls, file.read_text("utf-8"))}
    assert len(given) > 15
    assert given <= set(TEXTS["en"])


def test_numbers_are_written_as_the_language_writes_them():
    assert Words("en").percent(0.7563, 2) == "75.63%"
    assert Words("vi").percent(0.7563, 2) == "75,63%"
    assert Words("vi").number(2915114) == "2.915.114"
    assert Words("en").number(-0.0001, 2) == "0.00"
    assert Words("en").number(-1.5, 1) == "\N{MINUS SIGN}1.5"
    assert Words("en").confidence(0.99999) == ">\N{NO-BREAK SPACE}99.9%"
    assert Words("vi").confidence(0.5) == "50,0%"
    assert Words("xx")("tab.classify") == "Classify"
