"""POST /api/classify: what is answered, and what is refused."""

import json

import httpx
import jsonschema
import numpy as np
import pytest

from cifar_torch.api.schema import PictureAnswer
from cifar_torch.classifier import Answer, Classifiers
from cifar_torch.serving import Batcher
from tests.api.client import assert_answer, picture, post_files, post_raw, refusal, serve


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


def test_other_content(url):
    error = refusal(post_raw(url, picture(), "application/x-www-form-urlencoded"), 415)
    assert "multipart/form-data" in error["message"]


def test_wrong_method(url):
    assert httpx.get(f"{url}/api/classify").status_code == 405


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
