"""The third tab: how good the model is, in pictures."""

import base64
import functools
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from cifar_torch.checkpoint import Checkpoint
from cifar_torch.data import Split
from cifar_torch.webui.page import PRIVATE, Page, get_classifier, told
from cifar_torch.webui.pictures import img
from cifar_torch.webui.testset import has_test_images, images_for
from cifar_torch.webui.words import Words, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_ACCURACY = 0.7563
MISTAKES = 24
BATCH = 250


def tab(page: Page, gradio_tab: gr.Tab) -> None:
    """Build the tab."""
    report = gr.HTML(elem_id="results")
    inputs = [page.model, page.language]
    page.on_view(gradio_tab, functools.partial(_report, page), inputs, [report])
    if has_test_images():
        find = gr.Button(label("results.find"), elem_id="find-mistakes")
        gallery = gr.HTML(elem_id="mistakes")
        find.click(functools.partial(_mistakes, page), inputs, gallery, api_visibility=PRIVATE)
        gr.on([x.change for x in inputs], lambda: "", None, gallery, api_visibility=PRIVATE)


def _report(page: Page, model: str, language: str) -> str:
    words = Words(language)
    return report_html(get_classifier(page, model, words).checkpoint, words)


def report_html(checkpoint: Checkpoint, words: Words) -> str:
    """The model card in pictures: whatever of it the checkpoint has figures for."""
    sections = "".join(
        f"<section><h3>{words(f'results.{name}')}</h3><p>{words(f'results.{name}_about')}</p>"
        f"{drawing}</section>"
        for name, drawing in _drawings(checkpoint, words)
    )
    return f"{_numbers(checkpoint, words)}<div class='sections'>{sections}</div>"


def _numbers(checkpoint: Checkpoint, words: Words) -> str:
    """The main figures as large numbers."""
    metrics = checkpoint.metrics
    accuracy, interval = metrics.get("accuracy"), metrics.get("accuracy_ci95")
    if accuracy is None:
        return f"<p>{words('results.unmeasured')}</p>"
    facts = [(words.percent(accuracy, 2), words("results.accuracy"))]
    if interval:
        low, high = (words.percent(share, 2) for share in interval)
        facts[0] = (facts[0][0], words("results.accuracy_between", low=low, high=high))
    facts.append((words.percent(REPORT_ACCURACY, 2), words("results.of_the_report")))
    if "ece" in metrics:
        facts.append((words.percent(metrics["ece"], 2), words("results.ece")))
    if checkpoint.history:
        facts.append((words.number(len(checkpoint.history)), words("results.epochs")))
    cards = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in facts)
    return f'<div class="numbers">{cards}</div>'


def _drawings(checkpoint: Checkpoint, words: Words) -> Iterator[tuple[str, str]]:
    """(name of the section, its drawing) for all that the checkpoint has figures for."""
    from cifar_torch import figures  # here: matplotlib would double the time to start

    metrics, said = checkpoint.metrics, words.section("figure")
    names = [words.class_name(name) for name in checkpoint.class_names]
    if by_class := metrics.get("by_class"):
        named = dict(zip(by_class, map(words.class_name, by_class), strict=True))
        figure = figures.accuracy_by_class(by_class, said, named)
        yield "by_class", _drawing(figure, words("results.by_class_alt"))
    if confusion := metrics.get("confusion"):
        figure = figures.confusion_matrix(confusion, names, said)
        yield "confusion", _drawing(figure, words("results.confusion_alt"))
    if checkpoint.history:
        figure = figures.curves(checkpoint.history, said)
        yield "curves", _drawing(figure, words("results.curves_alt"))
    if bins := metrics.get("reliability"):
        figure = figures.reliability({"": bins}, said)
        yield "reliability", _drawing(figure, words("results.reliability_alt"))


def _drawing(figure: "Figure", alt: str) -> str:
    """The figure as an <img> that is sharp at any size and lets the page's ground show through."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True)
    source = f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
    return f'<img class="figure" alt="{escape(alt, quote=True)}" src="{source}">'


# ------------------------------------------------------------------------------------- mistakes


@dataclass(frozen=True)
class Mistake:
    """A test image that got the wrong answer."""

    pixels: np.ndarray  # (32, 32, 3)
    right: str
    said: str
    confidence: float


def _mistakes(
    page: Page, model: str, language: str, progress: gr.Progress = gr.Progress()  # noqa: B008
) -> str:
    words = Words(language)
    classifier = get_classifier(page, model, words)
    with told(words):
        images = images_for(classifier)
    batches = range(0, len(images), BATCH)
    probabilities = torch.cat(
        [
            classifier.probabilities(images.images[start : start + BATCH])
            for start in progress.tqdm(batches, desc=words("results.looking"))
        ]
    )
    found = confident_mistakes(images, probabilities, classifier.class_names)
    return f'<div class="tiles mistakes">{"".join(_tile(m, words) for m in found)}</div>'


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
            class_names[images.labels[i]],
            class_names[answers[i]],
            confidence[i].item(),
        )
        for i in worst
    ]


def _tile(mistake: Mistake, words: Words) -> str:
    said, right = (escape(words.class_name(n)) for n in (mistake.said, mistake.right))
    picture = img(mistake.pixels, words("results.mistake_alt", name=right))
    share = words.percent(mistake.confidence, 0)
    text = words("results.mistake", said=said, share=share, right=right)
    return f"<figure>{picture}<figcaption>{text}</figcaption></figure>"
