"""What strangers must not get from the web app, as `python app.py` serves it."""

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from cifar_torch.checkpoint import Checkpoint, save_checkpoint
from cifar_torch.data import CIFAR10_CLASSES
from cifar_torch.model import CifarNet
from cifar_torch.webui.code import WITH_PASSWORD
from cifar_torch.webui.start import LOCK
from cifar_torch.webui.words import Words
from tests.conftest import EXAMPLES
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


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]


def test_the_page_and_the_api_answer_and_the_api_writes_nothing(app, temporary):
    assert "gradio" in httpx.get(app.url).text
    assert classify(app).json()["answers"][0]["class"] in CIFAR10_CLASSES
    assert not files_in(temporary)


def test_uploads_are_deleted_when_the_app_is_ended(checkpoint, tmp_path):
    env = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path)}
    with running_app("--checkpoints", checkpoint.parent, env=env) as app:
        httpx.post(f"{app.url}/gradio_api/upload", files={"files": ("x.png", picture())})
        assert len(files_in(tmp_path)) == 1
        with httpx.stream("GET", f"{app.url}/gradio_api/heartbeat/visitor") as page:
            lines = page.iter_lines()  # which keeps the page open
            assert "ALIVE" in next(lines)
            app.process.terminate()
            assert app.process.wait(60) == 0
    assert not any(tmp_path.iterdir())


def test_uploads_of_an_app_that_was_killed_go_when_the_next_one_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    program = "from cifar_torch.webui.start import *; print(use_own_temporary_folder(), flush=True)"
    alive = [sys.executable, "-c", f"{program}; input()"]
    process = subprocess.Popen(alive, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    used = Path(process.stdout.readline().decode().strip())
    left = tmp_path / "cifar_torch-left"
    not_ours = tmp_path / "cifar_torch-0.1.0"  # as an unpacked release is called
    for folder in (used, left, not_ours):
        folder.mkdir(exist_ok=True)
        (folder / "x.png").write_bytes(picture())
    (left / LOCK).touch()
    for path in (used / LOCK, left / LOCK, not_ours):
        os.utime(path, (0, 0))
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert (used / "x.png").exists() and not left.exists()
    process.communicate(b"\n")
    assert list(tmp_path.iterdir()) == [not_ours] and (not_ours / "x.png").exists()


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
        sent = client.post(f"{app.url}/gradio_api/upload", files={"files": ("x.png", picture())})
        assert client.get(f"{app.url}/gradio_api/file={sent.json()[0]}").content == picture()
        for path in [*files, *relative]:
            for route in routes:
                up = "%2e%2e/" * 9  # which a client would resolve itself, were it plain
                for way in (path, f"{up}{path}", f"{up}{path}".replace("/", "%2F")):
                    response = client.get(f"{app.url}/{route}{way}")
                    assert response.status_code >= 400, (route, way)


def test_a_call_cannot_name_a_file_of_the_server(app, checkpoint):
    """Neither as an uploaded file of Gradio's API, nor by an address of this machine; all of these
    are pictures, which would be classified."""
    (checkpoint / "curves.png").write_bytes(picture())
    sent = httpx.post(f"{app.url}/gradio_api/upload", files={"files": ("x.png", picture())})
    for named, ending in (
        ({"path": sent.json()[0]}, "event: complete"),
        ({"path": str(checkpoint / "curves.png")}, "event: error"),
        ({"path": str(EXAMPLES / "cat.png")}, "event: error"),
        ({"path": "docs/app.png"}, "event: error"),
        ({"path": f"{sent.json()[0]}/../../../../etc/passwd"}, "event: error"),
        ({"path": None, "url": (EXAMPLES / "cat.png").as_uri()}, "event: error"),
    ):
        for meta in ({"meta": {"_type": "gradio.FileData"}}, {}):
            base = f"{app.url}/gradio_api/call/classify"
            started = httpx.post(base, json={"data": [named | meta, ""]})
            assert started.status_code == 200, named
            events = httpx.get(f"{base}/{started.json()['event_id']}", timeout=30).text
            assert ending in events, (named, meta)


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


def test_the_calls_that_the_page_tells_work_with_the_password(guarded, tmp_path):
    url = guarded.url
    values = WITH_PASSWORD | {"address": url, "door": f"{url}/api/classify", "of_model": ""}
    told = {
        key: Words("en")(f"code.{key}", **values)
        .replace("USER", ACCOUNT[0])
        .replace('"PASSWORD"', f'"{ACCOUNT[1]}"')
        for key in ("python", "curl", "mcp")
    }
    (tmp_path / "cat.jpg").write_bytes(picture())
    program = told["python"].split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "curl -u anna:PASSWORD -F file=@cat.jpg" in told["curl"]
    server = json.loads(told["mcp"].split("```json\n")[1].split("```")[0])["mcpServers"]
    account = base64.b64encode(":".join(ACCOUNT).encode()).decode()
    headers = dict.fromkeys(server["cifar-torch"]["headers"], f"Basic {account}")
    assert httpx.get(server["cifar-torch"]["url"], headers=headers).status_code != 401
    assert httpx.get(server["cifar-torch"]["url"]).status_code == 401


def test_nothing_is_recorded_or_sent(app):
    config = httpx.get(f"{app.url}/config").json()
    assert config["analytics_enabled"] is False
    for path in ("gradio_api/runs", "monitoring", "monitoring/summary"):
        assert httpx.get(f"{app.url}/{path}").status_code in (403, 404), path
