"""What all tabs share: the head of the page with the model menu and the language, and errors."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr

from cifar_torch.classifier import Classifier, Classifiers
from cifar_torch.errors import ReasonedError, UserError
from cifar_torch.images import ImageError
from cifar_torch.webui.words import LANGUAGES, Words, label

# Options of the page's own events; what programs may call is in code.py.
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = PRIVATE | {"show_progress": "hidden"}
# Gradio would drop a click that comes while the one before is being answered.
LATEST: dict[str, Any] = QUIET | {"trigger_mode": "always_last"}
# Where a click says on what, the last of always_last would come with what the first was on.
EVERY: dict[str, Any] = QUIET | {"trigger_mode": "multiple"}

# Gradio follows the browser's language, but knows neither Vietnamese nor a switch. Its own settings
# page changes the language with changeLocale; this calls the same function. Tabs that were never
# open do not follow it, so they get their labels as updates.
CHANGE_LANGUAGE = """
async (language) => {
    const files = performance.getEntriesByType("resource").map((entry) => entry.name);
    const core = files.find((name) => /\\/assets\\/core-[^/]+\\.js$/.test(name));
    if (core) (await import(core)).changeLocale(language);
    document.documentElement.lang = language;
    const said = %s[language];
    document.title = said.title;
    return [language, ...said.tabs.map((label) => ({ __type__: "update", label }))];
}
"""

SWITCH = """
async (language) => {
    try { localStorage.setItem("language", language); } catch {}
    return await (%s)(language);
}
"""

# ?lang=vi in the address, the visitor's last choice, the browser's languages, English.
DETECT = """
async () => {
    let saved = null;
    try { saved = localStorage.getItem("language"); } catch {}
    const asked = new URLSearchParams(location.search).get("lang");
    const wishes = [asked, saved, ...navigator.languages].map((l) => (l || "").split("-")[0]);
    return await (%s)(wishes.find((l) => l === "en" || l === "vi") || "en");
}
"""

# Gradio's dropdown opens its list again at the Tab key that has just left it.
LEAVE_DROPDOWN = """
() => document.addEventListener("keydown", (event) => {
    if (event.key === "Tab" && event.target.matches("[role=combobox]")) event.stopPropagation();
}, true)
"""


@dataclass(frozen=True)
class Page:
    """The classifiers, and the components that every tab reads."""

    classifiers: Classifiers
    head: gr.Row
    model: gr.Dropdown
    language: gr.Radio
    open_tab: gr.Textbox
    tabs: list[gr.Tab] = field(default_factory=list)

    def tab(self, name: str) -> gr.Tab:
        """A new tab, to be filled in a `with`."""
        self.tabs.append(gr.Tab(label(f"tab.{name}"), id=name))
        return self.tabs[-1]

    def follow_language(self, demo: gr.Blocks) -> None:
        """Speak the visitor's language from the start, and change it with the switch. To be called
        when all tabs are there."""
        said = {
            code: {"title": words("page.title"), "tabs": [words(f"tab.{t.id}") for t in self.tabs]}
            for code, words in ((code, Words(code)) for code in LANGUAGES)
        }
        change = CHANGE_LANGUAGE % json.dumps(said)
        outputs = [self.language, *self.tabs]
        demo.load(None, None, outputs, js=DETECT % change, **QUIET)
        demo.load(None, None, None, js=LEAVE_DROPDOWN, **QUIET)
        self.language.input(None, self.language, outputs, js=SWITCH % change, **QUIET)

    def back_into_head(self) -> None:
        """A gr.Interface takes its inputs into its own column; put these two back here."""
        with self.head:
            for component in (self.model, self.language):
                component.unrender()
                component.render()

    def opened(self, tab: gr.Tab) -> gr.events.Dependency:
        """The event that the visitor has opened the tab."""
        return tab.select(None, None, self.open_tab, js=f"() => {json.dumps(tab.id)}", **QUIET)

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

        # One at a time, so that what was computed earlier never arrives later.
        one_by_one = PRIVATE | {"concurrency_id": tab.id, "trigger_mode": "always_last"}
        self.opened(tab).then(show, inputs, outputs, **one_by_one)
        gr.on(
            [self.model.change, self.language.change],
            show_if_open,
            [self.open_tab, *inputs],
            outputs,
            **one_by_one,
        )


def header(demo: gr.Blocks, classifiers: Classifiers) -> Page:
    """The head of the page, inside `demo`."""
    with gr.Row(elem_classes="head") as head:
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
    # Hidden in the browser instead of a gr.State on the server, where the answers to two clicks can
    # overtake each other.
    open_tab = gr.Textbox("classify", visible=False)
    page = Page(classifiers, head, model, language, open_tab)
    demo.load(lambda name: menu(classifiers, name), model, model, queue=False, **PRIVATE)
    return page


def menu(classifiers: Classifiers, chosen: str | None) -> dict[str, Any]:
    """The model menu as it is now: checkpoints come and go while the app runs."""
    names = classifiers.names()
    return gr.update(
        choices=model_choices(classifiers),
        value=chosen if chosen in names else next(iter(names), None),
    )


def model_choices(classifiers: Classifiers) -> list[tuple[str, str]]:
    """(title and accuracy, name) of every checkpoint."""
    accuracies = {name: classifiers.accuracy(name) for name in classifiers.names()}
    return [(f"{name} · {a:.0%}" if a else name, name) for name, a in accuracies.items()]


@contextmanager
def told(words: Words) -> Iterator[None]:
    """Errors for the visitor become a note on the page, in the visitor's language."""
    try:
        yield
    except UserError as error:
        raise gr.Error(explained(error, words), print_exception=False) from error


@contextmanager
def without_paths(reason: str) -> Iterator[None]:
    """Errors with names of this machine's folders are for its owner alone: they are printed, and
    the visitor gets the sentence of `reason`. Those of the visitor's own picture name none."""
    try:
        yield
    except ImageError:
        raise
    except UserError as error:
        print(f"app.py: {error}", file=sys.stderr)
        raise ReasonedError(reason, str(error)) from error


def explained(error: UserError, words: Words) -> str:
    """What went wrong, in the visitor's language where it is one of the foreseen reasons."""
    reason, name = getattr(error, "reason", "other"), getattr(error, "name", "")
    return words(f"error.{reason}", message=error, name=name)


def alert(error: UserError, words: Words) -> str:
    """What went wrong, in the place of what was to be shown there."""
    return f'<p class="sentence" role="alert">{escape(explained(error, words))}</p>'


def get_classifier(page: Page, model: str | None) -> Classifier:
    """The classifier of the menu's entry. Raises ReasonedError, also where it is gone by now."""
    with without_paths("model"):
        return page.classifiers.get(model)
