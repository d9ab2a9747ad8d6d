"""The field for a visitor's picture."""

import gradio as gr
from gradio.data_classes import ImageData
from gradio.utils import get_upload_folder, is_in_or_equal


class Picture(gr.Image):
    """gr.Image that hands over the uploaded file as it is, so that all doors read it alike.

    Gradio's own opens it first, and an unreadable file ends there without a word to the visitor.
    """

    is_template = True  # the browser shows it as a gr.Image

    def preprocess(self, payload: ImageData | None) -> str | None:
        if payload is None:
            return None
        if payload.path is None:
            return super().preprocess(payload)  # type: ignore[return-value]
        # Gradio asks that only where a call calls its picture a file, which it may leave out.
        if not is_in_or_equal(payload.path, get_upload_folder()):
            raise gr.Error("This picture was not uploaded.", print_exception=False)
        return payload.path
