"""The fourth tab: train a model of one's own and watch it learn."""

import functools
import json
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from cifar_torch.data import Data
from cifar_torch.recipes import RECIPES, get_recipe
from cifar_torch.webui.datasets import training_data
from cifar_torch.webui.page import QUIET, Page, explained, get_classifier, menu, told
from cifar_torch.webui.runner import Runner, Status, load_zip
from cifar_torch.webui.words import Words, label

# Of the recipe, which the page offers:
KNOBS = ("epochs", "lr", "flip", "crop_padding", "zoom", "colour", "cutout")
POLL_SECONDS = 1.0


def tab(page: Page, gradio_tab: gr.Tab, allowed: bool) -> None:
    """Build the tab; where training is not allowed, only a note that says so."""
    if not allowed:
        gr.HTML(label("train.off"), elem_classes="intro")
        return
    runner = Runner(page.classifiers.folder)
    gr.HTML(label("train.intro"), elem_classes="intro")
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=330):
            recipe, knobs, go_on, archive, name = _form()
            with gr.Row():
                start = gr.Button(label("train.start"), variant="primary", elem_id="start")
                stop = gr.Button(label("train.stop"), elem_id="stop")
        with gr.Column(scale=6, min_width=330):
            state = gr.HTML(elem_id="training")
            timer = gr.Timer(POLL_SECONDS, active=False)

    show = functools.partial(_show, page, runner)
    seen, shown = [page.open_tab, page.model, page.language], [state, timer, page.model]
    looking = QUIET | {"concurrency_id": gradio_tab.id}  # as in page.on_view
    recipe.input(_knobs_of, recipe, knobs, **QUIET)
    start.click(
        functools.partial(_start, page, runner),
        [page.language, page.model, name, go_on, archive, recipe, *knobs],
        **QUIET,
    ).success(show, seen, shown, **looking)
    stop.click(runner.stop, **QUIET)
    timer.tick(show, seen, shown, **looking)
    page.on_view(gradio_tab, show, seen, shown)


def _form() -> tuple[gr.Dropdown, list[gr.components.Component], gr.Checkbox, gr.File, gr.Textbox]:
    first = next(iter(RECIPES.values()))
    name = gr.Textbox("my-model", label=label("train.name"), max_length=60, elem_id="name")
    recipe = gr.Dropdown(
        list(RECIPES), value=first.name, label=label("train.recipe"), filterable=False
    )
    knobs: list[gr.components.Component] = [
        gr.Slider(1, 200, first.epochs, step=1, label=label("train.epochs"), elem_id="epochs"),
        gr.Number(first.lr, label=label("train.lr"), minimum=1e-6, step=0.001),
        gr.Checkbox(first.flip, label=label("train.flip")),
        gr.Slider(0, 8, first.crop_padding, step=1, label=label("train.crop_padding")),
        gr.Slider(0, 0.5, first.zoom, step=0.05, label=label("train.zoom")),
        gr.Slider(0, 1, first.colour, step=0.05, label=label("train.colour")),
        gr.Slider(0, 16, first.cutout, step=1, label=label("train.cutout")),
    ]
    go_on = gr.Checkbox(label=label("train.go_on"), elem_id="go-on")
    archive = gr.File(label=label("train.zip"), file_types=[".zip"], height=150, elem_id="archive")
    return recipe, knobs, go_on, archive, name


def _knobs_of(recipe: str) -> list[Any]:
    values = asdict(get_recipe(recipe))
    return [values[knob] for knob in KNOBS]


def _start(
    page: Page,
    runner: Runner,
    language: str,
    model: str,
    name: str,
    go_on: bool,
    archive: str | None,
    recipe: str,
    *knobs: Any,
) -> None:
    words = Words(language)
    start = get_classifier(page, model, words).checkpoint if go_on else None
    with told(words):
        chosen = get_recipe(recipe, **dict(zip(KNOBS, knobs, strict=True)))
        runner.start(name.strip(), chosen, functools.partial(_load, archive), start)


def _load(archive: str | None) -> Data:
    return load_zip(Path(archive)) if archive else training_data()


def _show(
    page: Page, runner: Runner, open_tab: str, model: str, language: str
) -> tuple[str, Any, Any]:
    """Where the run is; the page asks again as long as there is something to see."""
    status = runner.status
    watched = status.running and open_tab == "train"
    choices = gr.skip() if status.running else menu(page.classifiers, model)
    return status_html(status, Words(language)), gr.Timer(active=watched), choices


def status_html(status: Status, words: Words) -> str:
    """The run in words, bars and curves."""
    name, progress = escape(status.name), status.progress
    error = explained(status.error, words) if status.error else ""
    early = status.phase == "stopped" and not status.learned
    phase = "stopped_early" if early else status.phase
    said = words(f"train.{phase}", name=name, error=escape(error))
    if progress is None or (progress.teaching and not status.running):
        return f"<p role='status'>{said}</p>"
    if progress.teaching:
        taught = words("train.teacher", epoch=progress.epoch, epochs=progress.epochs)
        return f"<p role='status'>{said}</p><p>{taught}</p>"
    done = progress.step / max(progress.steps, 1)
    numbers = words(
        "train.now",
        loss=words.number(progress.loss, 3),
        accuracy=words.percent(progress.accuracy),
    )
    of_epochs = words("train.epoch_of", epoch=progress.epoch, epochs=progress.epochs)
    curves = _curves(json.dumps(progress.history), words.language) if progress.history else ""
    return (
        f"<p role='status'>{said}</p><p>{of_epochs}</p>"
        f'<progress max="1" value="{done:.4f}" aria-label="{of_epochs}">{done:.0%}</progress>'
        f"<p>{numbers}</p>{curves}"
    )


@functools.lru_cache(maxsize=4)
def _curves(history: str, language: str) -> str:
    from cifar_torch.figures import curves  # here: matplotlib is slow to import
    from cifar_torch.webui.pictures import drawing

    words = Words(language)
    return drawing(
        curves(json.loads(history), words.section("figure")), words("results.curves_alt")
    )
