"""POST /api/classify: many at once, large files, and clients that do not send what they said."""

import asyncio
import io
import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from cifar_torch import serving
from cifar_torch.api import MAX_UPLOAD, routes, uploads
from cifar_torch.api.uploads import MAX_PICTURES
from cifar_torch.classifier import Answer, Classifiers
from cifar_torch.images import look_at
from cifar_torch.serving import Batcher
from tests.api.client import ACCOUNT, assert_answer, picture, post_files, post_raw, refusal, serve


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


def test_too_large(url):
    data = bytes(MAX_UPLOAD + 1)
    for response in (
        post_files(url, ("x.png", data)),
        post_raw(url, data),
        post_raw(url, iter([data[:1000], data])),
    ):
        assert "32 MB" in refusal(response, 413)["message"]


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
    monkeypatch.setattr(routes, "PLACES", 1)
    slow = SlowClassifiers(classifiers)
    for url in serve(slow):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(post_raw, url, picture())
            assert slow.started.wait(10)
            assert refusal(post_raw(url, picture()), 503)["reason"] == "busy"
            slow.go_on.set()
            assert waiting.result(10).status_code == 200
        assert post_raw(url, picture()).status_code == 200


def test_a_large_request_takes_the_place_of_several(classifiers, monkeypatch):
    monkeypatch.setattr(routes, "PLACES", 2)
    monkeypatch.setattr(routes, "PLACE", len(picture()) // 3)
    for url in serve(classifiers):
        assert refusal(post_raw(url, picture()), 503)["reason"] == "busy"
    monkeypatch.setattr(routes, "PLACE", len(picture()))
    for url in serve(classifiers):
        assert post_raw(url, picture()).status_code == 200


def test_a_request_takes_the_place_of_what_it_brings_not_of_what_it_announces(
    classifiers, monkeypatch
):
    monkeypatch.setattr(routes, "PLACES", 2)
    for url in serve(classifiers):
        with idle_request(url, announced=uploads.MAX_UPLOAD):
            assert post_raw(url, picture()).status_code == 200


def test_a_request_of_many_pictures_leaves_others_their_turn(classifiers, monkeypatch):
    order, waiting, go_on = [], threading.Semaphore(0), threading.Event()
    classify = Batcher.classify

    def look_slowly(source, name):
        order.append(name)
        waiting.release()
        assert go_on.wait(10)
        return look_at(source, name)

    async def noted(self, source, model, name, turns):
        if name is None:
            asyncio.get_running_loop().call_later(0.05, waiting.release)
        return await classify(self, source, model, name, turns)

    monkeypatch.setattr(serving, "look_at", look_slowly)
    monkeypatch.setattr(Batcher, "classify", noted)
    for url in serve(classifiers):
        with ThreadPoolExecutor(2) as pool:
            many = pool.submit(post_files, url, *((f"{i}.png", picture()) for i in range(8)))
            for _ in range(serving.DECODERS):
                assert waiting.acquire(timeout=10)
            one = pool.submit(post_raw, url, picture())
            assert waiting.acquire(timeout=10)
            go_on.set()
            assert one.result(10).status_code == many.result(10).status_code == 200
    assert len(order) == 9 and order.index(None) == serving.DECODERS


def test_requests_that_do_not_arrive_make_room(classifiers, monkeypatch):
    monkeypatch.setattr(uploads, "PATIENCE", 0.5)
    monkeypatch.setattr(routes, "PLACES", 1)
    for url in serve(classifiers):
        with idle_request(url) as one, idle_request(url) as another:
            assert {status(one), status(another)} == {408, 503}
        assert post_raw(url, picture()).status_code == 200
    for url in serve(classifiers, auth=ACCOUNT):
        with idle_request(url) as unknown:
            assert status(unknown) == 401


def idle_request(url: str, announced: int = 10) -> socket.socket:
    """One whose picture is never sent."""
    host, port = url.removeprefix("http://").split(":")
    idle = socket.create_connection((host, int(port)), timeout=10)
    idle.sendall(
        b"POST /api/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Content-Length: %d\r\n\r\n" % announced
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
