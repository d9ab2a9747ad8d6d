"""The second tab: what the network does with the visitor's picture, layer by layer."""

import functools
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from torch import Tensor

from cifar_torch.classifier import Answer, Classifier
from cifar_torch.errors import UserError
from cifar_torch.explain import (
    INPUT,
    convolution_at,
    grad_cam,
    inputs_of,
    layer_outputs,
    window_at,
)
from cifar_torch.model import LAST
from cifar_torch.summary import LayerRow, layer_rows
from cifar_torch.webui import drawings
from cifar_torch.webui.classify import TILE_CLICK, shipped
from cifar_torch.webui.page import EVERY, LATEST, Page, alert, get_classifier, told
from cifar_torch.webui.pictures import colours, img, overlay
from cifar_torch.webui.upload import Picture
from cifar_torch.webui.words import Words, label

FIRST_LAYER = "conv2d"
DEFAULT_PICTURE = "cat"  # of the examples, until the visitor has chosen a picture
AT_A_PLACE = ("Conv2D", "MaxPooling2D")  # the kinds whose arithmetic is shown

# A click on a framed picture tells Python which place of the layer's output it stands for.
PLACE_CLICK = """
element.addEventListener("click", (event) => {
    const place = event.target.closest("[data-rows]");
    if (!place) return;
    const box = place.getBoundingClientRect();
    const share = (offset, length) => Math.min(Math.max(offset / length, 0), 0.999);
    trigger("click", {
        row: Math.floor(share(event.clientY - box.top, box.height) * place.dataset.rows),
        column: Math.floor(share(event.clientX - box.left, box.width) * place.dataset.columns),
    });
});
"""


class Position(gr.Slider):
    """gr.Slider whose box may hold anything for a moment: the nearest row or column counts."""

    is_template = True  # the browser shows it as a gr.Slider

    def preprocess(self, payload: float | None) -> int:
        return round(min(max(payload or 0, self.minimum), self.maximum))


def tab(page: Page, gradio_tab: gr.Tab, picture: Picture) -> None:
    """Build the tab."""
    first = page.classifiers.get()
    words = Words()
    gr.HTML(label("inside.intro"), elem_classes="intro")
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=390):
            cam = gr.HTML(elem_id="cam")
            wanted = gr.Dropdown(
                _class_choices(first, words),
                value=None,
                label=label("inside.cam_class"),
                filterable=False,
                elem_id="cam-class",
            )
            layer = gr.Radio(
                _layer_choices(first, words),
                value=FIRST_LAYER,
                label=label("inside.layer"),
                elem_id="layers",
            )
        with gr.Column(scale=7, min_width=330):
            detail = gr.HTML(elem_id="layer", js_on_load=TILE_CLICK)
            with gr.Row(elem_id="place"):
                row = Position(0, 31, 12, step=1, label=label("inside.row"), min_width=220)
                column = Position(0, 31, 12, step=1, label=label("inside.column"), min_width=220)
            steps = gr.HTML(elem_id="steps", js_on_load=PLACE_CLICK)
    channel = gr.State(None)  # None: the strongest one

    looked_at = [page.model, page.language, picture]
    place = [layer, channel, row, column]
    shown_steps = (functools.partial(_show_steps, page), [*looked_at, *place], steps)
    page.on_view(
        gradio_tab,
        functools.partial(_show, page),
        [*looked_at, wanted, *place],
        [wanted, cam, layer, detail, steps, row, column],
    )
    picture.change(lambda: (None, None), None, [wanted, channel], **LATEST)
    wanted.input(functools.partial(_show_cam, page), [*looked_at, wanted], [wanted, cam], **LATEST)
    layer.input(lambda: None, None, channel, **LATEST).then(
        functools.partial(_show_layer, page),
        [*looked_at, *place],
        [detail, steps, row, column],
        **LATEST,
    )
    detail.click(_chosen_channel, None, channel, **EVERY).then(*shown_steps, **LATEST)
    steps.click(_chosen_place, None, [row, column], **EVERY).then(*shown_steps, **LATEST)
    gr.on([row.input, column.input], *shown_steps, **LATEST)


def _chosen_channel(click: gr.EventData) -> int:
    return int(click.tile)


def _chosen_place(click: gr.EventData) -> tuple[int, int]:
    return int(click.row), int(click.column)


@dataclass(frozen=True)
class Place:
    """One value of a layer's output: in this row and column of this feature map."""

    layer: LayerRow
    channel: int
    row: int
    column: int


@dataclass(frozen=True)
class View:
    """The picture in the network of the model menu, and the words to speak of it."""

    classifier: Classifier
    answer: Answer
    outputs: dict[str, Tensor]
    words: Words
    example: bool  # the visitor has chosen no picture

    def place(self, name: str, channel: int | None, row: int, column: int) -> Place:
        """What is asked for, or the next to it that the layer has; of the strongest channel where
        none is named."""
        layer = next(x for x in layer_rows(self.classifier.model.num_classes) if x.name == name)
        if len(layer.shape) == 1:
            return Place(layer, 0, 0, 0)
        height, width, channels = layer.shape
        if channel is None or channel >= channels:
            channel = drawings.strongest_first(self.outputs[name])[0]
        return Place(layer, channel, min(row, height - 1), min(column, width - 1))

    def before(self, layer: LayerRow) -> Tensor:
        """What the layer gets."""
        return self.outputs[inputs_of(self.classifier.model, layer.name)]


def _look(page: Page, model: str, words: Words, picture: str | None) -> View:
    """Raises UserError: the model or the picture cannot be read."""
    classifier = get_classifier(page, model)
    answer = classifier.classify(picture or _default_picture())
    outputs = layer_outputs(classifier.model, answer.pixels)
    return View(classifier, answer, outputs, words, example=not picture)


def _default_picture() -> Path:
    return next(path for path, name in shipped() if name == DEFAULT_PICTURE)


def _show(
    page: Page, model: str, language: str, picture: str | None, wanted: str | None, *place: Any
) -> tuple[Any, ...]:
    """Everything on the tab."""
    words, no_slider = Words(language), gr.update(visible=False)
    try:
        view = _look(page, model, words, picture)
    except UserError as error:
        return gr.skip(), alert(error, words), gr.skip(), "", "", no_slider, no_slider
    menu = gr.update(choices=_layer_choices(view.classifier, view.words))
    return *_cam(view, wanted), menu, *_layer(view, view.place(*place))


def _show_cam(
    page: Page, model: str, language: str, picture: str | None, wanted: str | None
) -> tuple[Any, ...]:
    with told(words := Words(language)):
        return _cam(_look(page, model, words, picture), wanted)


def _show_layer(
    page: Page, model: str, language: str, picture: str | None, *place: Any
) -> tuple[Any, ...]:
    with told(words := Words(language)):
        view = _look(page, model, words, picture)
        return _layer(view, view.place(*place))


def _show_steps(page: Page, model: str, language: str, picture: str | None, *place: Any) -> str:
    with told(words := Words(language)):
        view = _look(page, model, words, picture)
        return _steps(view, view.place(*place))


# ------------------------------------------------------------------------------------ Grad-CAM


def _cam(view: View, wanted: str | None) -> tuple[Any, str]:
    """The menu of classes, and where in the picture the network sees the one that is wanted."""
    answer, words = view.answer, view.words
    name = wanted if wanted in answer.confidences else next(iter(answer.confidences))
    class_index = view.classifier.class_names.index(name)
    heat = grad_cam(view.classifier.model, answer.pixels, class_index)
    named = words.class_name(name)
    caption = words(
        "inside.cam", name=escape(named), share=escape(words.confidence(answer.confidences[name]))
    )
    seen = words("inside.example" if view.example else "classify.seen")
    seen = _figure(answer.pixels, seen, words("classify.seen_alt"))
    lit = _figure(overlay(answer.pixels, heat), caption, words("inside.cam_alt", name=named))
    menu = gr.update(choices=_class_choices(view.classifier, words), value=name)
    return menu, f'<div class="pair">{seen}{lit}</div>'


def _class_choices(classifier: Classifier, words: Words) -> list[tuple[str, str]]:
    return [(words.class_name(name), name) for name in classifier.class_names]


def _figure(picture: np.ndarray, caption: str, alt: str) -> str:
    return f"<figure>{img(picture, alt)}<figcaption>{caption}</figcaption></figure>"


# --------------------------------------------------------------------------------------- layers


def _layer_choices(classifier: Classifier, words: Words) -> list[tuple[str, str]]:
    """The report's table, a row a choice."""
    return [
        (f"{x.name:<15} {_shape(x.shape):>12} {words.number(x.parameters):>10}", x.name)
        for x in layer_rows(classifier.model.num_classes)
    ]


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _layer(view: View, place: Place) -> tuple[Any, ...]:
    """What the layer is and its feature maps, its arithmetic, and the two sliders."""
    sliders = [gr.update(visible=False)] * 2
    if place.layer.kind in AT_A_PLACE:
        sliders = [
            gr.update(maximum=side - 1, value=value, visible=True)
            for side, value in zip(place.layer.shape, (place.row, place.column), strict=False)
        ]
    return _detail(view, place), _steps(view, place), *sliders


def _detail(view: View, place: Place) -> str:
    layer, words = place.layer, view.words
    values = view.outputs[layer.name]
    kind = "softmax" if layer.name == LAST else layer.kind
    if kind == "softmax":
        names = [words.class_name(name) for name in view.classifier.class_names]
        drawing = drawings.probability_bars(values, names, words)
    elif values.ndim == 1:
        drawing = drawings.unit_strip(values, words)
    else:
        drawing = drawings.feature_maps(values, place.channel, words)
    facts = words(
        "inside.facts",
        before=_shape(tuple(view.before(layer).movedim(0, -1).shape)),
        after=_shape(layer.shape),
        parameters=words.number(layer.parameters),
    )
    dropout = words.percent(view.classifier.model.dropout)
    return (
        f"<h3>{layer.name}: {words(f'kind.{kind}')}</h3><p class='facts'>{facts}</p>"
        f"<p>{words(f'about.{kind}', dropout=dropout)}</p>{drawing}"
    )


# --------------------------------------------------------------------------------- arithmetic


def _steps(view: View, place: Place) -> str:
    """How that value comes about; empty for layers without places."""
    if place.layer.kind not in AT_A_PLACE:
        return ""
    words, output = view.words, view.outputs[place.layer.name]
    draw = _convolution if place.layer.kind == "Conv2D" else _pooling
    source, box, arithmetic = draw(view, place)
    channel, row, column = place.channel, place.row, place.column
    before = drawings.place_on(
        source, box, output.shape[1:], words("inside.before"), words("inside.before_alt")
    )
    after = drawings.place_on(
        _map(output, channel),
        (row, column, 1, 1),
        output.shape[1:],
        words("inside.after", channel=channel),
        words("inside.map_alt", channel=channel),
    )
    value = words.number(output[channel, row, column].item(), 3)
    title = words("inside.steps", channel=channel, row=row, column=column, value=value)
    return f"<h4>{title}</h4><div class='pair'>{before}<span>→</span>{after}</div>{arithmetic}"


Box = tuple[float, float, float, float]


def _convolution(view: View, place: Place) -> tuple[np.ndarray, Box, str]:
    """What the kernel looks at, where it lies, and its sum."""
    model, words, name = view.classifier.model, view.words, place.layer.name
    step = convolution_at(model, view.outputs, name, place.channel, place.row, place.column)
    if inputs_of(model, name) == INPUT:
        source, shown = view.answer.pixels, [0, 1, 2]
        names = [words(f"inside.{colour}") for colour in ("red", "green", "blue")]
    else:
        strongest = int(step.products.sum(dim=(1, 2)).abs().argmax())
        source, shown = _map(view.before(place.layer), strongest), [strongest]
        names = [words("inside.from_map", channel=strongest)]
    arithmetic = drawings.convolution_steps(step, dict(zip(shown, names, strict=True)), words)
    return source, (place.row - 1, place.column - 1, 3, 3), arithmetic


def _pooling(view: View, place: Place) -> tuple[np.ndarray, Box, str]:
    """The map that is pooled, the window on it, and its largest value."""
    model, name = view.classifier.model, place.layer.name
    window = window_at(model, view.outputs, name, place.channel, place.row, place.column)
    source = _map(view.before(place.layer), place.channel)
    box = (2 * place.row, 2 * place.column, 2, 2)
    return source, box, drawings.pooling_steps(window, view.words)


def _map(maps: Tensor, channel: int) -> np.ndarray:
    return colours((maps[channel] / maps.max().clamp(min=1e-12)).numpy())
