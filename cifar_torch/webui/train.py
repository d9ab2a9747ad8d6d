"""The fourth tab: train a model of one's own and watch it learn."""

import functools
import json
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from cifar_torch.data import Data
from cifar_torch.errors import ReasonedError
from cifar_torch.recipes import DEFAULT_RECIPE, RECIPES, get_recipe
from cifar_torch.webui.datasets import training_data
from cifar_torch.webui.drawings import learning_curves
from cifar_torch.webui.page import (
    QUIET,
    Page,
    explained,
    get_classifier,
    menu,
    told,
    without_paths,
)
from cifar_torch.webui.runner import Runner, Status
from cifar_torch.webui.words import Words, label
from cifar_torch.webui.zips import load_zip

POLL_SECONDS = 1.0


def tab(page: Page, gradio_tab: gr.Tab, runner: Runner | None) -> None:
    """Build the tab; without a runner training is not allowed, and it only says so."""
    if not runner:
        gr.HTML(label("train.off"), elem_classes="intro")
        return
    gr.HTML(label("train.intro"), elem_classes="intro")
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=330):
            name = gr.Textbox("my-model", label=label("train.name"), max_length=60, elem_id="name")
            recipe = gr.Dropdown(
                list(RECIPES),
                value=DEFAULT_RECIPE.name,
                label=label("train.recipe"),
                filterable=False,
            )
            knobs = _knobs()
            begin_with = gr.Checkbox(label=label("train.begin_with"), elem_id="begin-with")
            gr.HTML(label("train.zip_hint"), elem_classes="intro")
            archive = gr.File(
                label=label("train.zip"), file_types=[".zip"], height=190, elem_id="archive"
            )
            with gr.Row():
                start = gr.Button(label("train.start"), variant="primary", elem_id="start")
                stop = gr.Button(label("train.stop"), elem_id="stop")
        with gr.Column(scale=6, min_width=330, elem_classes="run"):
            state = gr.HTML(elem_id="training")
            timer = gr.Timer(POLL_SECONDS, active=False)

    show = functools.partial(_show, page, runner)
    seen, shown = [page.open_tab, page.model, page.language], [state, timer, page.model]
    looking = QUIET | {"concurrency_id": gradio_tab.id}  # as in page.on_view
    recipe.input(functools.partial(_values_of, list(knobs)), recipe, list(knobs.values()), **QUIET)
    started = start.click(
        functools.partial(_start, page, runner, list(knobs)),
        [page.language, page.model, name, begin_with, archive, recipe, *knobs.values()],
        **QUIET,
    )
    started.then(show, seen, shown, **looking)
    started.failure(show, seen, shown, **looking)  # Gradio's then waits for a success
    stop.click(runner.stop, **QUIET).then(show, seen, shown, **looking)
    timer.tick(show, seen, shown, **looking)
    page.on_view(gradio_tab, show, seen, shown)


def _knobs() -> dict[str, gr.components.Component]:
    """What of a recipe can be changed on the page, by the names of its fields."""
    return {
        "epochs": _slider("epochs", 200, low=1),
        "lr": gr.Number(DEFAULT_RECIPE.lr, label=label("train.lr"), step=0.001, elem_id="lr"),
        "flip": gr.Checkbox(DEFAULT_RECIPE.flip, label=label("train.flip")),
        "crop_padding": _slider("crop_padding", 8),
        "zoom": _slider("zoom", 0.5, step=0.05),
        "colour": _slider("colour", 1, step=0.05),
        "mixup": _slider("mixup", 1, step=0.05),
        "cutout": _slider("cutout", 16),
    }


def _slider(knob: str, high: float, low: int = 0, step: float = 1) -> gr.Slider:
    return gr.Slider(
        low, high, getattr(DEFAULT_RECIPE, knob), step=step, precision=0 if step == 1 else None,
        label=label(f"train.{knob}"), elem_id=knob,
        buttons=[],  # Gradio's own goes back to the first recipe's value
    )  # fmt: skip


def _values_of(knobs: list[str], recipe: str) -> list[Any]:
    return [getattr(get_recipe(recipe), knob) for knob in knobs]


def _start(
    page: Page,
    runner: Runner,
    knobs: list[str],
    language: str,
    model: str,
    name: str,
    begin_with: bool,
    archive: str | None,
    recipe: str,
    *values: Any,
) -> None:
    words = Words(language)
    with told(words):
        start_from = get_classifier(page, model).checkpoint if begin_with else None
        changes = dict(zip(knobs, values, strict=True))
        if not (changes["lr"] or 0) > 0:  # or it would be the recipe's own where the field is empty
            raise ReasonedError("rate", f"the learning rate cannot be {changes['lr']}.")
        chosen = get_recipe(recipe, **changes)
        load = functools.partial(_load, runner, archive)
        runner.start(name.strip(), chosen, load, start_from, archive)


def _load(runner: Runner, archive: str | None) -> Data:
    if archive:
        return load_zip(Path(archive), lambda: runner.stopping)
    with without_paths("images"):
        return training_data()


def _show(
    page: Page, runner: Runner, open_tab: str, model: str, language: str
) -> tuple[Any, Any, Any]:
    """Where the run is. The page asks until it has ended, and then has its model in the menu."""
    status = runner.status
    choices = gr.skip() if status.running else menu(page.classifiers, model)
    said = gr.skip()
    if open_tab == "train":
        said = status_html(status, Words(language), runner.stopping)
    return said, gr.Timer(active=status.running), choices


def status_html(status: Status, words: Words, stopping: bool = False) -> str:
    """The run in words, bars and curves; `stopping` while it has yet to end as asked."""
    name, progress = escape(status.name), status.progress
    error = explained(status.error, words) if status.error else ""
    early = status.phase == "stopped" and not status.learned
    ending = stopping and status.running
    phase = "stopping" if ending else "stopped_early" if early else status.phase
    said = words(f"train.{phase}", name=name, error=escape(error))
    if phase == "done" and progress and progress.history:
        share = words.percent(progress.history[-1]["val_accuracy"])
        said += f" {words('train.tested', accuracy=share)}"
    if status.unused:
        said += f" {words('train.unused', count=words.number(status.unused))}"
    if progress is None or (progress.teaching and not status.running):
        return f"<p role='status'>{said}</p>"
    if progress.teaching:
        taught = words("train.teacher", epoch=progress.epoch, epochs=progress.epochs)
        return f"<p role='status'>{said}</p><p>{taught}</p>"
    done = (progress.epoch - 1 + progress.step / max(progress.steps, 1)) / progress.epochs
    numbers = ""  # an epoch that has just begun has none yet, and one that failed none of worth
    if progress.step and status.phase != "failed":
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
    return learning_curves(json.loads(history), Words(language))
