"""What all tabs share: the head of the page with the model menu and the language, and errors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from cifar_torch.classifier import Classifier, Classifiers
from cifar_torch.errors import UserError
from cifar_torch.images import ImageError
from cifar_torch.webui.words import LANGUAGES, Words, label

PRIVATE = "private"  # events of the page itself; what programs may call is in code.py

# Gradio follows the browser's language, but knows neither Vietnamese nor a switch. Its own settings
# page changes the language with changeLocale; this calls the same function.
CHANGE_LOCALE = """
async (language) => {
    const files = performance.getEntriesByType("resource").map((entry) => entry.name);
    const core = files.find((name) => /\\/assets\\/core-[^/]+\\.js$/.test(name));
    if (core) (await import(core)).changeLocale(language);
    document.documentElement.lang = language;
    document.title = { en: "%(en)s", vi: "%(vi)s" }[language];
    return language;
}
""" % {language: Words(language)("page.title") for language in LANGUAGES}

SWITCH = f"""
async (language) => {{
    try {{ localStorage.setItem("language", language); }} catch {{}}
    return await ({CHANGE_LOCALE})(language);
}}
"""

# ?lang=vi in the address, the visitor's last choice, the browser's languages, English.
DETECT = f"""
async () => {{
    let saved = null;
    try {{ saved = localStorage.getItem("language"); }} catch {{}}
    const asked = new URLSearchParams(location.search).get("lang");
    const wishes = [asked, saved, ...navigator.languages].map((l) => (l || "").split("-")[0]);
    const language = wishes.find((l) => {list(LANGUAGES)}.includes(l)) || "en";
    return await ({CHANGE_LOCALE})(language);
}}
"""


@dataclass(frozen=True)
class Page:
    """The classifiers, and the components that every tab reads."""

    classifiers: Classifiers
    model: gr.Dropdown
    language: gr.Radio
    open_tab: gr.State

    def on_view(
        self,
        tab: gr.Tab,
        show: Callable[..., Any],
        inputs: Sequence[gr.components.Component],
        outputs: Sequence[gr.components.Component],
    ) -> None:
        """Call `show` when the visitor opens the tab, and while it is open whenever the model or
        the language changes. What nobody looks at is not computed."""

        def show_if_open(open_tab: str, *values: Any) -> Any:
            return show(*values) if open_tab == tab.id else gr.skip()

        opened = tab.select(
            lambda: tab.id, outputs=self.open_tab, queue=False, api_visibility=PRIVATE
        )
        opened.then(show, inputs, outputs, api_visibility=PRIVATE)
        gr.on(
            [self.model.change, self.language.change],
            show_if_open,
            [self.open_tab, *inputs],
            outputs,
            api_visibility=PRIVATE,
            trigger_mode="always_last",
        )


def header(demo: gr.Blocks, classifiers: Classifiers) -> Page:
    """The head of the page, inside `demo`."""
    with gr.Row(elem_classes="head"):
        gr.HTML(label("page.heading"), elem_classes="heading", min_width=280, scale=3)
        model = gr.Dropdown(
            model_choices(classifiers),
            value=classifiers.names()[0],
            label=label("page.model"),
            filterable=False,
            min_width=200,
            elem_id="model",
        )
        language = gr.Radio(
            [(name, code) for code, name in LANGUAGES.items()],
            value="en",
            label=label("page.language"),
            min_width=180,
            elem_id="language",
        )
    page = Page(classifiers, model, language, gr.State("classify"))
    demo.load(None, outputs=language, js=DETECT, api_visibility=PRIVATE)
    demo.load(
        lambda name: menu(classifiers, name), model, model, queue=False, api_visibility=PRIVATE
    )
    language.input(None, language, language, js=SWITCH, api_visibility=PRIVATE)
    return page


def menu(classifiers: Classifiers, chosen: str | None) -> dict[str, Any]:
    """The model menu as it is now: checkpoints come and go while the app runs."""
    names = classifiers.names()
    return gr.update(
        choices=model_choices(classifiers), value=chosen if chosen in names else names[0]
    )


def model_choices(classifiers: Classifiers) -> list[tuple[str, str]]:
    """(title and accuracy, name) of every checkpoint."""
    accuracies = {name: classifiers.accuracy(name) for name in classifiers.names()}
    return [(f"{name} · {a:.1%}" if a else name, name) for name, a in accuracies.items()]


@contextmanager
def told(words: Words) -> Iterator[None]:
    """Errors for the visitor become a note on the page, in the visitor's language."""
    try:
        yield
    except ImageError as error:
        raise _note(words(f"error.{error.reason}"), words) from error
    except UserError as error:
        raise _note(words("error.other", reason=error), words) from error


def _note(message: str, words: Words) -> gr.Error:
    return gr.Error(message, title=words("error.title"), print_exception=False)


def get_classifier(page: Page, model: str | None, words: Words) -> Classifier:
    """The classifier of the menu's entry; the first one where that is gone by now."""
    with told(words):
        return page.classifiers.get(model if model in page.classifiers.names() else None)
