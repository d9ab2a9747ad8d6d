"""The field for a visitor's picture."""

import gradio as gr
from gradio.data_classes import ImageData


class Picture(gr.Image):
    """gr.Image that hands over the uploaded file as it is, so that all doors read it alike.

    Gradio's own opens it first, and an unreadable file ends there without a word to the visitor.
    """

    is_template = True  # the browser shows it as a gr.Image

    def preprocess(self, payload: ImageData | None) -> str | None:
        if payload is not None and payload.path is None:
            return super().preprocess(payload)  # type: ignore[return-value]
        return payload.path if payload else None
