"""The fifth tab, and the calls that it offers."""

import inspect
import re
import shutil
import subprocess
import sys

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from cifar_torch.classifier import Answer
from cifar_torch.webui.code import AnswerLabel
from cifar_torch.webui.serve import remember_signatures
from cifar_torch.webui.upload import Picture
from tests.conftest import EXAMPLES
from tests.webui.visitor import browser_test, open_tab


def test_programs_are_told_none_of_these_with_every_confidence():
    answer = Answer(None, {"cat": 0.4, "dog": 0.3}, np.zeros((1, 32, 32, 3), np.uint8))
    told = AnswerLabel(render=False).postprocess(answer)
    assert told.label == "none of these"
    assert {c.label: c.confidence for c in told.confidences} == answer.confidences


def test_programs_get_english_class_names(app):
    client = Client(app.url, verbose=False)
    answer = client.predict(handle_file(EXAMPLES / "cat.png"), api_name="/classify")
    assert answer["label"] == "cat"
    assert len(answer["confidences"]) == 10
    assert sum(c["confidence"] for c in answer["confidences"]) == pytest.approx(1)
    other = client.predict(handle_file(EXAMPLES / "cat.png"), "swapped", api_name="/classify")
    assert other["label"] == "deer"
    with pytest.raises(AppError, match="no model 'nonsense'; there are: "):
        client.predict(handle_file(EXAMPLES / "cat.png"), "nonsense", api_name="/classify")


def test_programs_get_no_path_of_a_model_that_cannot_be_read(app):
    damaged = shutil.copytree(app.checkpoints / "swapped", app.checkpoints / "damaged")
    try:
        (damaged / "model.safetensors").write_bytes(b"")
        client = Client(app.url, verbose=False)
        with pytest.raises(AppError, match=r"^This model cannot be read at present"):
            client.predict(handle_file(EXAMPLES / "cat.png"), "damaged", api_name="/classify")
    finally:
        shutil.rmtree(damaged)


def test_programs_that_call_at_once_are_all_answered(app):
    client = Client(app.url, verbose=False)
    names = ["cat", "dog", "ship", "truck"] * 4
    jobs = [
        client.submit(handle_file(EXAMPLES / f"{name}.png"), api_name="/classify") for name in names
    ]
    alone = {
        name: client.predict(handle_file(EXAMPLES / f"{name}.png"), api_name="/classify")
        for name in set(names)
    }
    for name, job in zip(names, jobs, strict=True):
        assert job.result(60)["label"] == alone[name]["label"]


def test_remembered_signatures_change_nothing_that_gradio_sends():
    with gr.Blocks() as demo:
        components = [gr.HTML("a"), gr.Slider(0, 1), Picture(label="b"), AnswerLabel()]
    before = [component.get_config() for component in components]
    remember_signatures(demo)
    assert [component.get_config() for component in components] == before
    assert inspect.signature(gr.HTML.__init__) is inspect.signature(gr.HTML.__init__)


def test_classify_is_all_that_programs_are_offered(app):
    offered = Client(app.url, verbose=False).view_api(return_format="dict")
    assert list(offered["named_endpoints"]) == ["/classify"]
    assert offered["unnamed_endpoints"] == {}


@browser_test
def test_the_calls_to_copy_have_the_right_address_and_work(visit, app, tmp_path):
    page = visit()
    open_tab(page, "code")
    (tmp_path / "cat.jpg").write_bytes((EXAMPLES / "cat.png").read_bytes())
    calls = page.locator("#calls pre code")
    calls.first.wait_for()
    python, curl, *_ = calls.all()

    def answer_is(name: str) -> bool:
        commands = [sys.executable, "-c", python.inner_text()], ["sh", "-c", curl.inner_text()]
        said = re.compile(f'^{name} |"class":"{name}"', re.MULTILINE)
        return all(
            said.search(subprocess.run(c, cwd=tmp_path, capture_output=True, text=True).stdout)
            for c in commands
        )

    assert app.url in python.inner_text()
    assert answer_is("cat")
    page.locator("#model input").click()
    page.get_by_role("option", name=re.compile("^swapped")).click()
    page.locator("#calls").get_by_text("?model=swapped").wait_for()
    assert answer_is("deer")
