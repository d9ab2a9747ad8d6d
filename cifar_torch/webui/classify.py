"""The first tab: a picture in, its class out."""

import functools
import random
from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from cifar_torch.classifier import Answer
from cifar_torch.errors import UserError
from cifar_torch.webui.datasets import has_test_images, images_for
from cifar_torch.webui.page import (
    EVERY,
    PRIVATE,
    QUIET,
    Page,
    alert,
    get_classifier,
    told,
    without_paths,
)
from cifar_torch.webui.pictures import img
from cifar_torch.webui.upload import Picture
from cifar_torch.webui.words import Words, label

EXAMPLES = Path(__file__).parent / "examples"
DRAWN = 12
SHOWN_CLASSES = 3

# A click on a tile, or Enter on it, tells Python which one. Of tiles that stay chosen it is marked.
TILE_CLICK = """
element.addEventListener("click", (event) => {
    const tile = event.target.closest("[data-tile]");
    if (!tile) return;
    for (const other of element.querySelectorAll("[aria-pressed]"))
        other.setAttribute("aria-pressed", other === tile);
    trigger("click", { tile: tile.dataset.tile });
});
"""


def tab(page: Page) -> Picture:
    """Build the tab; the visitor's picture is what other tabs look at too."""
    picture = Picture(
        type="filepath",
        format="png",  # lossless: a test image must reach the network as it is
        sources=["upload", "webcam", "clipboard"],
        label=label("classify.picture"),
        placeholder=label("classify.drop"),  # type: ignore[arg-type]  # it is translated, too
        height=300,
        buttons=["fullscreen"],
        elem_id="picture",
        render=False,
    )
    sentence = gr.HTML(label("classify.hint"), elem_id="answer", render=False)
    bars = gr.Label(
        num_top_classes=SHOWN_CLASSES,
        label=label("classify.confidence"),
        show_heading=False,
        elem_id="confidences",
        render=False,
    )
    gr.Interface(
        functools.partial(answer, page),
        inputs=picture,
        outputs=[sentence, bars],
        additional_inputs=[page.model, page.language],
        additional_inputs_accordion=gr.Accordion(visible=False, render=False),
        live=True,
        clear_btn=None,
        flagging_mode="never",
        show_progress="minimal",
        deep_link=False,
        analytics_enabled=False,
        **PRIVATE,
    )
    page.back_into_head()
    _examples(page, picture)
    return picture


def answer(
    page: Page, picture: str | None, model: str, language: str
) -> tuple[str, dict[str, float] | None]:
    """The answer's card as HTML, and the confidences under the visitor's names of the classes."""
    words = Words(language)
    if picture is None:
        return words("classify.hint"), None
    try:
        found = get_classifier(page, model).classify(picture)
    except UserError as error:  # in the place of an answer, which would be of the picture before
        return alert(error, words), None
    named = {words.class_name(name): share for name, share in found.confidences.items()}
    return answer_card(found, words), named


def answer_card(found: Answer, words: Words) -> str:
    whole, *parts = found.views
    seen, caption = img(whole, words("classify.seen_alt")), words("classify.seen")
    if parts:
        caption = words("classify.seen_parts")
        small = "".join(img(part, words("classify.part_alt")) for part in parts)
        seen = f'<div class="parts">{seen}<div>{small}</div></div>'
    return (
        f'<div class="answer"><figure>{seen}<figcaption>{caption}</figcaption>'
        f'</figure><div role="status"><p class="sentence">{_sentence(found, words)}</p>'
        f"<p>{_reason(found, words)}</p></div></div>"
    )


def _sentence(found: Answer, words: Words) -> str:
    if found.class_name is None:
        return words("classify.none", count=words.count(len(found.confidences)))
    sure = "sure" if found.confidence >= 0.9 else "likely" if found.confidence >= 0.5 else "unsure"
    return words(f"classify.{sure}", a=escape(words.a(found.class_name)))


def _reason(found: Answer, words: Words) -> str:
    (first, share), (second, second_share) = list(found.confidences.items())[:2]
    key = "reason" if second_share >= 0.0005 else "reason_alone"
    return words(
        f"classify.none_{key}" if found.class_name is None else f"classify.{key}",
        first=escape(words.class_name(first)),
        first_share=escape(words.confidence(share)),
        second=escape(words.class_name(second)),
        second_share=words.confidence(second_share),
    )


# ------------------------------------------------------------------------------------ examples

Example = tuple[Path | np.ndarray, str]  # a picture, and its right answer


def _examples(page: Page, picture: Picture) -> None:
    gr.HTML(label("classify.examples"), elem_classes="section")
    drawn = gr.State([])  # of this visitor; empty: the shipped ones are shown
    tiles = gr.HTML(example_tiles([], "en"), js_on_load=TILE_CLICK, elem_id="examples")
    tiles.click(_chosen, drawn, picture, **EVERY)
    gr.on(
        [page.language.change, drawn.change],
        example_tiles,
        [drawn, page.language],
        tiles,
        **QUIET,
    )
    if has_test_images():
        draw = gr.Button(label("classify.draw"), elem_id="draw")
        draw.click(
            functools.partial(_draw, page),
            [page.model, page.language],
            drawn,
            **PRIVATE,
        )


@functools.cache
def shipped() -> list[tuple[Path, str]]:
    """The example pictures of the project: each file's name starts with its class, or «none»."""
    return [(path, path.stem) for path in sorted(EXAMPLES.glob("*.png"), key=_none_last)]


def _none_last(path: Path) -> tuple[bool, str]:
    return path.stem.startswith("none-"), path.stem


def example_tiles(drawn: Sequence[Example], language: str) -> str:
    """Buttons with a picture and its right answer each."""
    words = Words(language)
    tiles = "".join(
        f'<button type="button" data-tile="{i}">{_tile_image(picture)}<span>'
        f"{escape(words.class_name(name))}</span></button>"
        for i, (picture, name) in enumerate(drawn or shipped())
    )
    return f'<div class="tiles">{tiles}</div>'


def _tile_image(picture: Path | np.ndarray) -> str:
    # The caption below names what is in it, so the picture itself is silent to screen readers.
    return img(Image.open(picture) if isinstance(picture, Path) else picture, alt="")


def _chosen(drawn: Sequence[Example], click: gr.EventData) -> np.ndarray:
    picture = (drawn or shipped())[int(click.tile)][0]
    # Pixels, not a path: Gradio serves no file from outside the folder that it was started in.
    return np.asarray(Image.open(picture).convert("RGB") if isinstance(picture, Path) else picture)


def _draw(page: Page, model: str, language: str) -> list[Example]:
    """A dozen random test images."""
    words = Words(language)
    with told(words):
        classifier = get_classifier(page, model)
        with without_paths("test_images"):
            images = images_for(classifier)
    picked = random.sample(range(len(images)), min(DRAWN, len(images)))
    return [
        (images.images[i].permute(1, 2, 0).numpy(), classifier.class_names[images.labels[i]])
        for i in picked
    ]
