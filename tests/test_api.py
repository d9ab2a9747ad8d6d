"""POST /api/classify over real HTTP, beside a Gradio page in the same server."""

import io
import json
import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import httpx
import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

from cifar_torch.api import MAX_UPLOAD, app_kwargs, routes, uploads
from cifar_torch.api.schema import PictureAnswer
from cifar_torch.api.uploads import MAX_PICTURES
from cifar_torch.checkpoint import Checkpoint, save_checkpoint
from cifar_torch.classifier import Answer, Classifiers
from cifar_torch.data import CIFAR10_CLASSES
from cifar_torch.model import CifarNet
from cifar_torch.serving import Batcher

ACCOUNT = ("anna", "pässword: with a colon")


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory) -> Classifiers:
    """Two networks that know nothing, but say it loudly: every picture has an answer of its own."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, name in enumerate(("best", "other")):
        torch.manual_seed(seed)
        model = CifarNet()
        with torch.no_grad():
            model.layers.get_submodule("dense_2").weight.mul_(60)
        config = {"num_classes": 10, "class_names": CIFAR10_CLASSES}
        save_checkpoint(Checkpoint(model, config), folder / name)
    return Classifiers(folder)


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


@pytest.fixture(scope="module")
def url(classifiers):
    yield from serve(classifiers)


@pytest.fixture(scope="module")
def guarded_url(classifiers):
    yield from serve(classifiers, auth=ACCOUNT, mcp_server=True)


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


def test_one_file(url, classifiers):
    response = post_files(url, ("cat.png", picture()))
    assert response.status_code == 200
    reply = response.json()
    assert reply["model"] == "best"
    (answer,) = reply["answers"]
    assert set(answer) == {"name", "class", "confidence", "confidences"}
    assert answer["name"] == "cat.png"
    assert_answer(answer, classifiers.get().classify(picture()))
    confidences = list(answer["confidences"].values())
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) == pytest.approx(1, abs=1e-4)
    assert next(iter(answer["confidences"])) == answer["class"]


@pytest.mark.parametrize("kind", ["image/png", "image/x-anything", "application/octet-stream", ""])
def test_raw_body(url, classifiers, kind):
    response = post_raw(url, picture(3), kind)
    assert response.status_code == 200
    (answer,) = response.json()["answers"]
    assert answer["name"] is None
    assert_answer(answer, classifiers.get().classify(picture(3)))


def test_body_in_chunks_of_unknown_length(url, classifiers):
    data = picture(4)
    response = post_raw(url, iter([data[:100], data[100:]]))
    assert_answer(response.json()["answers"][0], classifiers.get().classify(data))


def test_several_files_keep_their_order_and_a_bad_one_stands_alone(url, classifiers):
    files = [(f"{seed}.png", picture(seed)) for seed in range(5)]
    files[2] = ("notes.txt", b"not a picture")
    response = post_files(url, *files)
    assert response.status_code == 200
    answers = response.json()["answers"]
    assert [answer["name"] for answer in answers] == [name for name, _ in files]
    assert set(answers[2]) == {"name", "error"}
    assert answers[2]["error"]["reason"] == "unreadable"
    for seed in (0, 1, 3, 4):
        assert_answer(answers[seed], classifiers.get().classify(picture(seed)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"some words", "unreadable"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unreadable"),
        (picture()[:-100], "broken"),
    ],
)
def test_bad_picture(url, data, reason):
    for response in (post_files(url, ("x.png", data)), post_raw(url, data)):
        assert response.status_code == 422
        reply = response.json()
        assert reply["model"] is None
        error = reply["answers"][0]["error"]
        assert error["reason"] == reason
        assert error["message"].endswith(".")
        assert "Traceback" not in error["message"]


def test_models_by_name(url, classifiers):
    for asked, name in (("best", "best"), ("other", "other"), ("", "best")):
        reply = post_files(url, ("x.png", picture()), params={"model": asked}).json()
        assert reply["model"] == name
        assert_answer(reply["answers"][0], classifiers.get(name).classify(picture()))


def test_an_answer_says_the_name_by_which_its_model_can_be_asked_for(classifiers, tmp_path):
    (tmp_path / "in use").symlink_to(classifiers.folder / "other")
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    name, _ = Batcher(Classifiers(tmp_path)).submit(None, pixels).result(10)
    assert name == "in use"


def refusal(response: httpx.Response, status: int) -> dict:
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"reason", "message"}
    return error


def test_unknown_model(url):
    for name in ("nope", "../best"):
        error = refusal(post_files(url, ("x.png", picture()), params={"model": name}), 404)
        assert error["message"] == f"There is no model {name!r}; there are: best, other."


def test_damaged_model(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "model.safetensors").write_bytes(b"nonsense")
    for url in serve(Classifiers(tmp_path)):
        error = refusal(post_raw(url, picture()), 503)
        assert str(tmp_path) not in error["message"]


def test_form_without_a_file(url):
    response = httpx.post(f"{url}/api/classify", files={"file": (None, b"text")})
    assert "no file" in refusal(response, 400)["message"]


def test_form_that_names_the_model(url):
    files = {"file": ("x.png", picture()), "model": (None, "other")}
    response = httpx.post(f"{url}/api/classify", files=files)
    assert "in the address" in refusal(response, 400)["message"]


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data", "multipart/form-data; boundary=x", "Multipart/Form-Data;boundary"],
)
def test_damaged_form(url, kind):
    refusal(post_raw(url, b"--y\r\nthis is no form", kind), 400)


@pytest.mark.parametrize("charset", ["undefined", "utf-7", "unicode_escape"])
def test_a_form_of_an_odd_charset(url, charset):
    head = b'Content-Disposition: form-data; name="file"; filename="+2AA-\\ud800.png"'
    body = b"--x\r\n" + head + b"\r\n\r\n" + picture() + b"\r\n--x--\r\n"
    response = post_raw(url, body, f"multipart/form-data; boundary=x; charset={charset}")
    assert response.status_code == (400 if charset == "undefined" else 200), response.text


def test_a_large_picture_stays_in_memory(url, monkeypatch):
    written = []
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", written.append)
    pixels = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    assert len(file.getvalue()) > 2_000_000  # twice what forms are usually kept in memory to
    assert post_files(url, ("x.bmp", file.getvalue())).status_code == 200
    assert not written


def test_too_many_files(url):
    files = [(f"{i}.png", b"x") for i in range(MAX_PICTURES + 1)]
    assert str(MAX_PICTURES) in refusal(post_files(url, *files), 400)["message"]


def test_other_content(url):
    error = refusal(post_raw(url, picture(), "application/x-www-form-urlencoded"), 415)
    assert "multipart/form-data" in error["message"]


def test_too_large(url):
    data = bytes(MAX_UPLOAD + 1)
    for response in (
        post_files(url, ("x.png", data)),
        post_raw(url, data),
        post_raw(url, iter([data[:1000], data])),
    ):
        assert "32 MB" in refusal(response, 413)["message"]


def test_wrong_method(url):
    assert httpx.get(f"{url}/api/classify").status_code == 405


def test_each_of_many_at_once_gets_its_own_answer(url, classifiers):
    wanted = [classifiers.get().classify(picture(seed)) for seed in range(12)]
    others = [classifiers.get("other").classify(picture(seed)) for seed in range(12)]

    def ask(i: int) -> None:
        seed, other = i % 12, i % 3 == 0
        reply = client.post(
            f"{url}/api/classify",
            params={"model": "other"} if other else {},
            files={"file": (f"{seed}.png", picture(seed))},
        ).json()
        assert reply["answers"][0]["name"] == f"{seed}.png"
        assert_answer(reply["answers"][0], (others if other else wanted)[seed])

    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(16) as pool:
        assert len(list(pool.map(ask, range(120)))) == 120


def test_a_client_that_leaves_hurts_nobody(url):
    host, port = url.removeprefix("http://").split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /api/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                b"Content-Length: 100000\r\n\r\nonly a little"
            )
    assert post_raw(url, picture()).status_code == 200


class SlowClassifiers(Classifiers):
    """Keeps the first pass waiting, and counts the pictures of each."""

    def __init__(self, classifiers: Classifiers):
        super().__init__(classifiers.folder)
        self.passes: list[int] = []
        self.started, self.go_on = threading.Event(), threading.Event()

    def get(self, name: str | None = None):
        self.started.set()
        assert self.go_on.wait(10)
        classifier = super().get(name)
        count, classify = self.passes.append, classifier.classify_views

        class Counting:
            checkpoint = classifier.checkpoint

            def classify_views(self, pictures: list[np.ndarray]) -> list[Answer]:
                count(len(pictures))
                return classify(pictures)

        return Counting()


def test_too_many_requests_at_a_time_are_told_so(classifiers, monkeypatch):
    monkeypatch.setattr(routes, "MAX_REQUESTS", 1)
    slow = SlowClassifiers(classifiers)
    for url in serve(slow):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(post_raw, url, picture())
            assert slow.started.wait(10)
            assert refusal(post_raw(url, picture()), 503)["reason"] == "busy"
            slow.go_on.set()
            assert waiting.result(10).status_code == 200
        assert post_raw(url, picture()).status_code == 200


def test_requests_that_do_not_arrive_make_room(classifiers, monkeypatch):
    monkeypatch.setattr(uploads, "PATIENCE", 0.5)
    monkeypatch.setattr(routes, "MAX_REQUESTS", 1)
    for url in serve(classifiers):
        with idle_request(url) as one, idle_request(url) as another:
            assert {status(one), status(another)} == {408, 503}
        assert post_raw(url, picture()).status_code == 200
    for url in serve(classifiers, auth=ACCOUNT):
        with idle_request(url) as unknown:
            assert status(unknown) == 401


def idle_request(url: str) -> socket.socket:
    """One whose picture is never sent."""
    host, port = url.removeprefix("http://").split(":")
    idle = socket.create_connection((host, int(port)), timeout=10)
    idle.sendall(
        b"POST /api/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Content-Length: 10\r\n\r\n"
    )
    return idle


def status(connection: socket.socket) -> int:
    return int(connection.recv(100).split()[1])


def test_what_arrives_together_shares_a_pass(classifiers):
    slow = SlowClassifiers(classifiers)
    batcher = Batcher(slow, limit=8)
    pixels = np.random.default_rng(0).integers(0, 256, (13, 1, 32, 32, 3), dtype=np.uint8)
    futures = [batcher.submit(None, pixels[0])]
    assert slow.started.wait(10)
    futures += [batcher.submit(None, x) for x in pixels[1:]]
    assert futures.pop(4).cancel()
    slow.go_on.set()
    answers = [future.result(10)[1] for future in futures]
    assert slow.passes == [1, 7, 4]
    for answer, x in zip(answers, np.delete(pixels, 4, axis=0), strict=True):
        assert np.array_equal(answer.pixels, x[0])
        (alone,) = classifiers.get().classify_views([x])
        assert answer.confidences == pytest.approx(alone.confidences, abs=1e-5)


def test_none_of_the_classes_is_null():
    answer = Answer(None, {"cat": 0.25, "dog": 0.2}, np.zeros((1, 32, 32, 3), np.uint8))
    given = PictureAnswer.of("x.png", answer).model_dump(by_alias=True, exclude_unset=True)
    assert json.loads(json.dumps(given)) == {
        "name": "x.png",
        "class": None,
        "confidence": 0.25,
        "confidences": {"cat": 0.25, "dog": 0.2},
    }


def test_openapi_document_describes_what_is_sent(url):
    document = httpx.get(f"{url}/openapi.json").json()
    assert list(document["paths"]) == ["/api/classify"]
    call = document["paths"]["/api/classify"]["post"]
    assert set(call["requestBody"]["content"]) == {
        "multipart/form-data",
        "image/*",
        "application/octet-stream",
    }
    for response in (
        post_files(url, ("a.png", picture()), ("b.txt", b"words")),
        post_raw(url, b""),
        post_raw(url, b"", "text/plain"),
        post_raw(url, b"", params={"model": "nope"}),
    ):
        described = call["responses"][str(response.status_code)]
        schema = described["content"]["application/json"]["schema"]
        jsonschema.validate(response.json(), {**schema, "components": document["components"]})


def test_the_page_stands_beside_it(url):
    assert "gradio" in httpx.get(url).text
    assert httpx.get(f"{url}/gradio_api/info").json()["named_endpoints"].keys() == {"/classify"}


def test_password_guards_the_api(guarded_url):
    def ask(**options) -> int:
        return post_raw(guarded_url, picture(), **options).status_code

    assert ask(auth=ACCOUNT) == 200
    user, password = ACCOUNT
    for wrong in ((user, "x"), (user, ""), ("bob", password), ("", ""), (password, user)):
        assert ask(auth=wrong) == 401

    response = post_raw(guarded_url, picture())
    assert refusal(response, 401)["reason"] == "login"
    assert response.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    "header", ["Basic", "Basic %%%", "Basic w7w=", "Bearer abc", "Basic YW5uYQ==", b"Basic \xe9"]
)
def test_odd_credentials(guarded_url, header):
    url = f"{guarded_url}/api/classify"
    assert httpx.post(url, headers={"Authorization": header}).status_code == 401


def test_the_pages_login_opens_the_api(guarded_url):
    user, password = ACCOUNT
    with httpx.Client(base_url=guarded_url) as browser:
        form = {"username": user, "password": password}
        assert browser.post("/login", data=form).status_code == 200
        response = browser.post("/api/classify", files={"file": ("x.png", picture())})
        assert response.status_code == 200
        browser.get("/logout")
        assert browser.post("/api/classify").status_code == 401


def test_password_guards_everything_that_answers(guarded_url):
    """A stranger can see the login page and its scripts, and nothing else."""
    for path in ("/openapi.json", "/config", "/gradio_api/info", "/gradio_api/openapi.json"):
        assert httpx.get(guarded_url + path).status_code == 401, path
    for path in ("schema", "sse", "", "messages/"):
        assert httpx.get(f"{guarded_url}/gradio_api/mcp/{path}").status_code == 401, path
    upload = httpx.post(f"{guarded_url}/gradio_api/upload", files={"files": ("x.png", picture())})
    assert upload.status_code == 401
    body = {"data": [None]}
    for path in ("run", "api", "call"):
        response = httpx.post(f"{guarded_url}/gradio_api/{path}/classify", json=body)
        assert response.status_code == 401, path
    assert '"auth_required":true' in httpx.get(guarded_url).text.replace(" ", "")


def test_mcp_opens_with_the_password(guarded_url):
    tools = httpx.get(f"{guarded_url}/gradio_api/mcp/schema", auth=ACCOUNT).json()
    assert len(tools) == 1
