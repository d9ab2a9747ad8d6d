"""The third tab: how good the model is, in pictures."""

import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from cifar_torch.checkpoint import Checkpoint
from cifar_torch.classifier import Classifier
from cifar_torch.data import CIFAR10_CLASSES, Split
from cifar_torch.errors import ReasonedError, UserError
from cifar_torch.webui.datasets import has_test_images, images_for
from cifar_torch.webui.drawings import (
    bars,
    confusion_table,
    learning_curves,
    reliability_diagrams,
)
from cifar_torch.webui.page import LATEST, PRIVATE, Page, alert, get_classifier, without_paths
from cifar_torch.webui.pictures import img
from cifar_torch.webui.words import Words, label

REPORT_ACCURACY = 0.7563
MISTAKES = 24
BATCH = 256


def tab(page: Page, gradio_tab: gr.Tab) -> None:
    """Build the tab."""
    report = gr.HTML(elem_id="results")
    inputs = [page.model, page.language]
    page.on_view(gradio_tab, functools.partial(_report, page), inputs, [report])
    if has_test_images():
        find = gr.Button(label("results.find"), elem_id="find-mistakes")
        gallery = gr.HTML(elem_id="mistakes")
        found = gr.State()  # a Search
        find.click(
            functools.partial(_search, page), inputs, found, show_progress_on=gallery, **PRIVATE
        )
        changes = [found.change, page.model.change, page.language.change]
        gr.on(changes, mistakes_html, [found, *inputs], gallery, **LATEST)


def _report(page: Page, model: str, language: str) -> str:
    try:
        classifier = get_classifier(page, model)
        try:
            return report_html(classifier, language)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # Unlike its config, what was measured is not checked when a checkpoint is read.
            print(f"app.py: {classifier.checkpoint.folder}: {error!r}", file=sys.stderr)
            raise ReasonedError("metrics", "its figures are damaged.") from error
    except UserError as error:
        return alert(error, Words(language))


@functools.lru_cache(maxsize=4)  # each keeps its network in memory
def report_html(classifier: Classifier, language: str) -> str:
    """The model card in pictures: whatever of it the checkpoint has figures for."""
    words, checkpoint = Words(language), classifier.checkpoint
    numbers = "".join(
        f"<div><b>{n}</b><span>{s}</span></div>" for n, s in _numbers(checkpoint, words)
    )
    sections = "".join(
        f'<section class="{name}"><h3>{words(f"results.{name}")}</h3>'
        f"<p>{words(f'results.{name}_about')}</p>{content}</section>"
        for name, content in _sections(checkpoint, words)
    )
    return f'<div class="numbers">{numbers}</div><div class="sections">{sections}</div>'


def _numbers(checkpoint: Checkpoint, words: Words) -> Iterator[tuple[str, str]]:
    """(number, what it says) of the main figures."""
    metrics = checkpoint.metrics
    if "accuracy_ci95" not in metrics:
        yield "?", words("results.unmeasured")
        return
    low, high = (words.percent(x, 2) for x in metrics["accuracy_ci95"])
    own = not metrics.get("measured_on")
    said = "results.accuracy" if own else "results.accuracy_elsewhere"
    yield words.percent(metrics["accuracy"], 2), words(said, low=low, high=high)
    if checkpoint.class_names == CIFAR10_CLASSES:
        yield words.percent(REPORT_ACCURACY, 2), words("results.of_the_report")
    if "ece" in metrics:
        yield words.percent(metrics["ece"], 2), words("results.ece")
    if checkpoint.history:
        yield words.number(len(checkpoint.history)), words("results.epochs")


def _sections(checkpoint: Checkpoint, words: Words) -> Iterator[tuple[str, str]]:
    """(name, content) of a section for all that the checkpoint has been measured for."""
    metrics = checkpoint.metrics
    if by_class := metrics.get("by_class"):
        shares = sorted(by_class.items(), key=lambda item: -item[1])
        yield "by_class", bars([(words.class_name(n), s, words.percent(s)) for n, s in shares])
    if confusion := metrics.get("confusion"):
        names = [words.class_name(name) for name in checkpoint.class_names]
        yield "confusion", confusion_table(confusion, names, words)
    if "reliability" in metrics:
        yield "reliability", reliability_diagrams(metrics, words)
    if checkpoint.history:
        yield "curves", learning_curves(checkpoint.history, words)


# ------------------------------------------------------------------------------------- mistakes


@dataclass(frozen=True)
class Mistake:
    """A test image that got the wrong answer."""

    pixels: np.ndarray  # (32, 32, 3)
    right: str
    said: str
    confidence: float


@dataclass(frozen=True, eq=False)  # Gradio asks whether it is another one
class Search:
    """What looking for the mistakes of a model came to."""

    model: str
    mistakes: Sequence[Mistake] = ()
    error: UserError | None = None


def _search(
    page: Page,
    model: str,
    language: str,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> Iterator[Any]:
    """Batch by batch, so that it ends when its visitor leaves the page."""
    try:
        classifier = get_classifier(page, model)
        with without_paths("test_images"):
            images = images_for(classifier)
    except UserError as error:
        yield Search(model, error=error)
        return
    probabilities = []
    batches = range(0, len(images), BATCH)
    for start in progress.tqdm(batches, desc=Words(language)("results.looking")):
        probabilities.append(classifier.probabilities(images.images[start : start + BATCH]))
        yield gr.skip()
    found = confident_mistakes(images, torch.cat(probabilities), classifier.class_names)
    yield Search(model, found)


def mistakes_html(found: Search | None, model: str, language: str) -> str:
    """The mistakes that were found, if they are those of the chosen model."""
    words = Words(language)
    if found is None or found.model != model:
        return ""
    if found.error:
        return alert(found.error, words)
    tiles = "".join(_tile(mistake, words) for mistake in found.mistakes)
    if not tiles:
        return f"<p>{words('results.no_mistakes')}</p>"
    return f'<div class="tiles mistakes">{tiles}</div>'


def confident_mistakes(
    images: Split, probabilities: Tensor, class_names: Sequence[str], count: int = MISTAKES
) -> list[Mistake]:
    """The wrong answers with the highest confidence; probabilities are (N, classes)."""
    confidence, answers = probabilities.max(dim=1)
    wrong = (answers != images.labels).nonzero().flatten()
    worst = wrong[confidence[wrong].argsort(descending=True)][:count].tolist()
    return [
        Mistake(
            images.images[i].permute(1, 2, 0).numpy(),
            class_names[int(images.labels[i])],
            class_names[int(answers[i])],
            confidence[i].item(),
        )
        for i in worst
    ]


def _tile(mistake: Mistake, words: Words) -> str:
    said, right = (words.class_name(n) for n in (mistake.said, mistake.right))
    picture = img(mistake.pixels, words("results.mistake_alt", name=right))
    share = escape(words.confidence(mistake.confidence))
    text = words("results.mistake", said=escape(said), share=share, right=escape(right))
    return f"<figure>{picture}<figcaption>{text}</figcaption></figure>"
