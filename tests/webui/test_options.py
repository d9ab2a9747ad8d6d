"""The options of app.py."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time

import gradio as gr
import pytest
import torch

from cifar_torch import device
from cifar_torch.classifier import Classifiers
from cifar_torch.errors import UserError
from cifar_torch.serving import Batcher
from cifar_torch.webui.options import read_options
from cifar_torch.webui.runner import Runner
from cifar_torch.webui.serve import cannot_listen, launch
from tests.server import ROOT, free_port


def run_app(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "app.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoints", "nowhere"], "there is no checkpoint in nowhere"),
        (
            ["--host", "192.0.2.1"],
            "cannot listen on port 7860 of 192.0.2.1",
        ),  # of documentation, RFC 5737
        (["--checkpoint", "nowhere/best"], "there is no checkpoint folder nowhere/best"),
    ],
)
def test_mistakes_end_with_a_sentence(arguments, message):
    ended = run_app(*arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EADDRINUSE, "port 80 is in use; choose another one, as in --port 81"),
        (errno.EACCES, "cannot listen on port 80 of 127.0.0.1 (Permission denied)"),
    ],
)
def test_why_the_app_cannot_listen(monkeypatch, number, message):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "create_server", refuse)
    assert message in cannot_listen("127.0.0.1", 80)


def test_a_folder_of_images_that_is_not_there_is_known_at_the_start(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAR_TORCH_IMAGE_FOLDER", str(tmp_path / "pictures"))
    with pytest.raises(UserError, match=r"CIFAR_TORCH_IMAGE_FOLDER is .*no such folder"):
        read_options([])


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX's signal")
def test_ctrl_c_while_the_app_starts_prints_nothing(tmp_path):
    env = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path)}
    command = [sys.executable, "app.py", "--port", str(free_port())]
    options = {"cwd": ROOT, "env": env, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **options) as app:
        while not any(tmp_path.iterdir()):  # until it is about to import Gradio
            time.sleep(0.01)
        app.send_signal(signal.SIGINT)
        assert app.stderr.read() == b""
    assert app.returncode == -signal.SIGINT


def test_a_temporary_folder_that_cannot_be_written_ends_with_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file"))
    done = run_app()
    assert done.returncode == 2 and "where uploads go" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_ends_with_a_sentence(app, checkpoints):
    port = app.url.rsplit(":", 1)[1]
    ended = run_app("--checkpoints", checkpoints, "--port", port)
    assert ended.returncode == 2
    assert f"port {port} is in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_options_come_from_the_environment_and_flags_win(monkeypatch):
    monkeypatch.setenv("CIFAR_TORCH_PORT", "8000")
    monkeypatch.setenv("CIFAR_TORCH_AUTH", "anna:a:b")
    monkeypatch.setenv("CIFAR_TORCH_MCP", "1")
    options = read_options([])
    assert (options.port, options.auth, options.mcp) == (8000, ("anna", "a:b"), True)
    assert read_options(["--port", "9000"]).port == 9000
    assert read_options(["--host", "[::1]"]).host == "::1"
    monkeypatch.setenv("CIFAR_TORCH_SHARE", "perhaps")
    with pytest.raises(UserError, match="CIFAR_TORCH_SHARE is 'perhaps'"):
        read_options([])


def test_an_empty_password_is_not_taken_for_none(monkeypatch):
    monkeypatch.setenv("CIFAR_TORCH_AUTH", "")
    with pytest.raises(UserError, match="CIFAR_TORCH_AUTH, takes a name and a password"):
        read_options([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "many"], "the port is 'many'"),
        (["--port", "70000"], "from 1 to 65535"),
        (["--auth", "anna"], "takes a name and a password"),
        (["--auth", ":secret"], "takes a name and a password"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        read_options(arguments)


@pytest.mark.parametrize(("password", "said"), [([], True), (["--auth", "me:secret"], False)])
def test_a_public_link_without_a_password_is_said_on_the_console(
    password, said, monkeypatch, capsys
):
    demo = gr.Blocks()
    asked = {}

    def launched(**options):
        asked.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "launch", launched)  # no network here, nor threads to limit
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(device, "keep_memory", lambda: None)
    classifiers = Classifiers(ROOT / "checkpoints")
    batcher, runner = Batcher(classifiers), Runner(classifiers)
    launch(demo, batcher, runner, read_options(["--share", *password]))
    assert asked["share"] is True
    assert ("Anybody who has the public link can use the app" in capsys.readouterr().out) == said


def test_training_is_off_wherever_strangers_can_reach_the_page(monkeypatch):
    assert read_options([]).training
    assert not read_options(["--share"]).training
    assert not read_options(["--host", "0.0.0.0"]).training
    assert read_options(["--host", "0.0.0.0", "--allow-training"]).training
    monkeypatch.setenv("SPACE_ID", "somebody/space")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7000")
    options = read_options([])
    assert (options.host, options.port, options.training) == ("0.0.0.0", 7000, False)


def test_the_app_starts_without_what_only_training_and_drawing_need():
    heavy = ("torchvision", "matplotlib", "torch._dynamo", "sympy")
    code = f"import sys, app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
