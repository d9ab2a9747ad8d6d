"""The options of app.py: from the command line, else from CIFAR_TORCH_<NAME>, else the default."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from cifar_torch.errors import UserError

IMAGE_FOLDER = "CIFAR_TORCH_IMAGE_FOLDER"  # images to train and to test on
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a Space must be reached from outside its container
TRUE, FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class Options:
    """How to serve the app."""

    checkpoint: Path | None
    checkpoints: Path
    host: str
    port: int
    share: bool
    auth: tuple[str, str] | None
    allow_training: bool
    mcp: bool

    @property
    def training(self) -> bool:
        """Training is for the person at this machine, unless it is allowed to all explicitly."""
        return self.allow_training or (self.host in LOOPBACK and not self.share)


def read_options(arguments: list[str]) -> Options:
    """The options for these command line arguments. Raises UserError."""
    parser = argparse.ArgumentParser(
        prog="app.py",
        description="Serve the web app. Every option can also be given as an environment variable, "
        "--port 8000 as CIFAR_TORCH_PORT=8000.",
    )
    host = EVERYWHERE if "SPACE_ID" in os.environ else LOOPBACK[0]
    host = os.environ.get("GRADIO_SERVER_NAME", host)
    port = os.environ.get("GRADIO_SERVER_PORT", "7860")

    def option(name: str, default: str | None, meta: str, help: str) -> None:
        parser.add_argument(name, default=_variable(name, default), metavar=meta, help=help)

    def switch(name: str, help: str) -> None:
        parser.add_argument(name, action="store_true", default=_is_on(name), help=help)

    option("--checkpoint", None, "DIR", "checkpoint folder to answer with (default: the first)")
    option("--checkpoints", "checkpoints", "DIR", "folder of the checkpoints in the model menu")
    option("--host", host, "HOST", "address to listen on (default: %(default)s)")
    option("--port", port, "PORT", "port to listen on (default: %(default)s)")
    switch("--share", "make a public link for up to a week, through Gradio's servers")
    parser.add_argument(
        "--auth",
        default=os.environ.get(_variable_name("--auth")),  # an empty one is a mistake, not none
        metavar="USER:PASSWORD",
        help="ask everybody for this name and password",
    )
    switch("--allow-training", "let visitors train even where strangers can reach the page")
    switch("--mcp", "serve the classifier as a tool for language models, too (MCP)")
    values = parser.parse_args(arguments)
    images = os.environ.get(IMAGE_FOLDER)
    if images and not Path(images).is_dir():
        raise UserError(f"{IMAGE_FOLDER} is {images!r}, and there is no such folder.")
    return Options(
        checkpoint=Path(values.checkpoint) if values.checkpoint else None,
        checkpoints=Path(values.checkpoints),
        host=values.host.strip("[]"),  # as IPv6 addresses are written in a URL
        port=_port(values.port),
        share=values.share,
        auth=_auth(values.auth),
        allow_training=values.allow_training,
        mcp=values.mcp,
    )


def _variable(name: str, default: str | None = None) -> str | None:
    return os.environ.get(_variable_name(name)) or default


def _variable_name(name: str) -> str:
    return "CIFAR_TORCH_" + name.lstrip("-").replace("-", "_").upper()


def _is_on(name: str) -> bool:
    value = (_variable(name) or "").lower()
    if value not in TRUE + FALSE:
        raise UserError(f"{_variable_name(name)} is {value!r}; it must be 1 or 0.")
    return value in TRUE


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise UserError(f"the port is {text!r}; it must be a number from 1 to 65535.")
    return int(text)


def _auth(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    user, _, password = text.partition(":")
    if not user or not password:
        raise UserError(
            "--auth, or CIFAR_TORCH_AUTH, takes a name and a password, as in --auth "
            "anna:open-sesame."
        )
    return user, password
