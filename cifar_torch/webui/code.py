"""The last tab: the same classifier from Python, from the command line, from a language model."""

import shlex
from urllib.parse import quote

import gradio as gr
from gradio.components.label import LabelConfidence, LabelData

from cifar_torch.classifier import Answer
from cifar_torch.errors import UserError
from cifar_torch.serving import Batcher
from cifar_torch.webui.options import Options
from cifar_torch.webui.page import PRIVATE, QUIET, Page, told, without_paths
from cifar_torch.webui.upload import Picture
from cifar_torch.webui.words import Words

NONE = "none of these"
# How each call of a guarded app gives the password
WITH_PASSWORD = {
    "in_python": ', auth=("USER", "PASSWORD")',
    "in_curl": "-u USER:PASSWORD ",
    "in_mcp": ', "headers": {"Authorization": "Basic BASE64-OF-USER:PASSWORD"}',
}


class AnswerLabel(gr.Label):
    """gr.Label whose label can be «none of these», with every class's confidence all the same."""

    is_template = True

    def postprocess(self, value: Answer | None) -> LabelData | None:  # type: ignore[override]
        if value is None:
            return None
        confidences = [
            LabelConfidence(label=name, confidence=share)
            for name, share in value.confidences.items()
        ]
        return LabelData(label=value.class_name or NONE, confidences=confidences)


def tab(
    page: Page, gradio_tab: gr.Tab, picture: Picture, batcher: Batcher, options: Options
) -> None:
    """Build the tab, and the function that programs call."""

    def calls(model: str, language: str, request: gr.Request) -> str:
        # Only the browser knows at which address the page is reached.
        origin = request.headers.get("origin", "http://127.0.0.1:7860")
        scope = request.request.scope if request.request else {}
        address = origin + scope.get("root_path", "").rstrip("/")
        words = Words(language)
        keys = ("code.python", "code.curl", "code.mcp" if options.mcp else "code.no_mcp")
        password = WITH_PASSWORD if options.auth else dict.fromkeys(WITH_PASSWORD, "")
        door, of_model = f"{address}/api/classify", ""
        if model and model not in batcher.classifiers.names()[:1]:
            door, of_model = f"{door}?model={quote(model)}", f", model={model!r}"
        values = password | {"address": address, "of_model": of_model, "door": shlex.quote(door)}
        return "\n\n".join(words(key, **values) for key in keys)

    async def classify(image: str, model: str = "") -> Answer:
        """The answer for one picture.

        Args:
            image: the picture, of any size: JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF
            model: name of one of the app's checkpoints; empty for the first one
        """
        with told(Words("en")):
            if not image:
                raise UserError("Send a picture.")
            if model:
                batcher.classifiers.check(model)
            with without_paths("model"):
                return (await batcher.classify(image, model or None))[1]

    names = batcher.classifiers.get().class_names
    about = (
        f"Say which of {Words().count(len(names))} classes a picture shows, or '{NONE}', with the "
        f"confidence in each class: {', '.join(names)}."
    )
    text = gr.Markdown(elem_id="calls")
    shown_for = [page.model, page.language]
    page.opened(gradio_tab).then(calls, shown_for, text, **PRIVATE)
    gr.on([page.model.change, page.language.change], calls, shown_for, text, **QUIET)
    model = gr.Textbox("", visible=False)
    gr.on(
        [],
        classify,
        [picture, model],
        AnswerLabel(visible=False),
        api_name="classify",
        api_description=about,
        concurrency_limit=None,  # it only waits for the batcher, which takes all that have come
    )
