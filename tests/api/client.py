"""What the tests ask of POST /api/classify, over real HTTP."""

import io

import gradio as gr
import httpx
import numpy as np
import pytest
from PIL import Image

from cifar_torch.api import app_kwargs
from cifar_torch.classifier import Answer, Classifiers
from cifar_torch.serving import Batcher

ACCOUNT = ("anna", "pässword: with a colon")


def serve(classifiers: Classifiers, **options):
    """A page with the API in its server; a generator for fixtures, which gives its address."""
    page = gr.Interface(
        lambda path: classifiers.get().classify(path).confidences,
        gr.Image(type="filepath"),
        gr.Label(),
        api_name="classify",
        analytics_enabled=False,
    )
    kwargs = app_kwargs(Batcher(classifiers))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, app_kwargs=kwargs, **options)
    yield url.rstrip("/")
    page.close()


def picture(seed: int = 0, kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    """A file with coarse coloured noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(file, kind)
    return file.getvalue()


def post_files(url: str, *files: tuple[str, bytes], **options) -> httpx.Response:
    return httpx.post(
        f"{url}/api/classify", files=[("file", file) for file in files], timeout=60, **options
    )


def post_raw(url: str, data: bytes, kind: str = "image/png", **options) -> httpx.Response:
    headers = {"Content-Type": kind} if kind else {}
    return httpx.post(f"{url}/api/classify", content=data, headers=headers, **options)


def assert_answer(given: dict, wanted: Answer) -> None:
    assert given["class"] == wanted.class_name
    assert given["confidence"] == pytest.approx(wanted.confidence, abs=1e-4)
    assert given["confidences"] == pytest.approx(wanted.confidences, abs=1e-4)


def refusal(response: httpx.Response, status: int) -> dict:
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"reason", "message"}
    return error
