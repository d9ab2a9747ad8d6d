"""What strangers must not get from the web app, as `python app.py` serves it."""

import io
import os
from pathlib import Path

import httpx
import pytest
from PIL import Image

from cifar_torch.checkpoint import Checkpoint, save_checkpoint
from cifar_torch.data import CIFAR10_CLASSES
from cifar_torch.model import CifarNet
from tests.server import ROOT, Running, running_app

ACCOUNT = ("anna", "open-sesame")


def picture(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "best"
    config = {"num_classes": 10, "class_names": CIFAR10_CLASSES}
    save_checkpoint(Checkpoint(CifarNet(), config), folder)
    return folder


@pytest.fixture(scope="module")
def temporary(tmp_path_factory) -> Path:
    """Where the app under test keeps what visitors send."""
    return tmp_path_factory.mktemp("gradio")


@pytest.fixture(scope="module")
def app(checkpoint, temporary):
    env = {**os.environ, "GRADIO_TEMP_DIR": str(temporary)}
    with running_app("--checkpoints", checkpoint.parent, "--mcp", env=env) as app:
        yield app


@pytest.fixture(scope="module")
def guarded(checkpoint):
    options = ("--checkpoints", checkpoint.parent, "--mcp", "--auth", ":".join(ACCOUNT))
    with running_app(*options) as app:
        yield app


def classify(app: Running, **options) -> httpx.Response:
    files = {"file": ("x.png", picture())}
    return httpx.post(f"{app.url}/api/classify", files=files, timeout=60, **options)


def test_the_page_and_the_api_answer(app):
    assert "gradio" in httpx.get(app.url).text
    assert classify(app).json()["answers"][0]["class"] in CIFAR10_CLASSES


def test_no_file_of_the_server_can_be_fetched(app, checkpoint):
    files = [
        Path("/etc/passwd"),
        Path("/proc/self/environ"),
        ROOT / "app.py",
        ROOT / "requirements.txt",
        ROOT / "cifar_torch" / "images.py",
        checkpoint / "config.json",
        checkpoint / "model.safetensors",
    ]
    relative = [Path("app.py"), Path("requirements.txt"), Path("cifar_torch/images.py")]
    routes = ("gradio_api/file=", "gradio_api/file/", "file=", "file/", "static/", "assets/")
    with httpx.Client() as client:
        for path in [*files, *relative]:
            for route in routes:
                for way in (path, f"../../../../../..{path}", str(path).replace("/", "%2F")):
                    response = client.get(f"{app.url}/{route}{way}")
                    assert response.status_code >= 400, (route, way)


def test_a_call_cannot_name_a_file_of_the_server(app, checkpoint):
    """Neither as an uploaded file of Gradio's API, nor by an address of this machine."""
    for named in (
        {"path": "/etc/passwd"},
        {"path": str(checkpoint / "config.json")},
        {"path": "app.py"},
        {"path": None, "url": "file:///etc/passwd"},
    ):
        data = {**named, "meta": {"_type": "gradio.FileData"}}
        base = f"{app.url}/gradio_api/call/classify"
        started = httpx.post(base, json={"data": [data, ""]})
        if started.status_code == 200:
            events = httpx.get(f"{base}/{started.json()['event_id']}", timeout=30).text
            assert "event: error" in events, named
            assert "root:" not in events


def test_a_stranger_gets_nothing_without_the_password(guarded):
    assert classify(guarded).status_code == 401
    assert classify(guarded, auth=("anna", "wrong")).status_code == 401
    for path in ("config", "openapi.json", "gradio_api/info", "gradio_api/mcp/schema"):
        assert httpx.get(f"{guarded.url}/{path}").status_code == 401, path
    page = httpx.get(guarded.url).text.replace(" ", "")
    assert '"auth_required":true' in page
    assert '"components":[]' in page


def test_the_password_opens_page_and_api_alike(guarded):
    assert classify(guarded, auth=ACCOUNT).status_code == 200
    with httpx.Client(base_url=guarded.url) as browser:
        browser.post("/login", data={"username": ACCOUNT[0], "password": ACCOUNT[1]})
        assert browser.get("/config").status_code == 200
        assert browser.post("/api/classify", content=picture()).status_code == 200


def test_nothing_is_recorded_or_sent(app):
    config = httpx.get(f"{app.url}/config").json()
    assert config["analytics_enabled"] is False
    for path in ("gradio_api/runs", "monitoring", "monitoring/summary"):
        assert httpx.get(f"{app.url}/{path}").status_code in (403, 404), path
