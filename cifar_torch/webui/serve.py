"""Put the page on the network, and end with a sentence where that is not possible."""

import errno
import inspect
import signal
import socket
import time
from typing import Any

import gradio as gr
import torch

from cifar_torch import device
from cifar_torch.api import MAX_UPLOAD, app_kwargs
from cifar_torch.errors import UserError
from cifar_torch.serving import Batcher
from cifar_torch.webui.options import Options
from cifar_torch.webui.runner import Runner
from cifar_torch.webui.theme import STYLE, theme
from cifar_torch.webui.words import label

MAX_ZIP = 1024**3  # bytes of an upload where people may train on their own pictures


def remember_signatures(demo: gr.Blocks) -> None:
    """Let Gradio look up the arguments of its components' classes once, not for every call.

    A program that calls without a session gets a new one, for which each component on the page is
    described by its class's signature: a fifth of the call. `inspect` takes what is written here.
    """
    for kind in {ancestor for block in demo.blocks.values() for ancestor in type(block).__mro__}:
        init = kind.__dict__.get("__init__")
        if inspect.isfunction(init):
            init.__signature__ = inspect.signature(init)  # type: ignore[attr-defined]


def launch(demo: gr.Blocks, batcher: Batcher, runner: Runner, options: Options) -> None:
    """Serve page and API until Ctrl-C or SIGTERM, at which uploads are deleted, and the run under
    way is saved. Raises UserError: it cannot listen there."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _end)
    # One thread for the network: threads that wait for each other after every layer would take the
    # time of those that serve the page and decode pictures.
    torch.set_num_threads(1)
    device.keep_memory()  # a pass over a few photographs takes a tenth to a fifth less
    if options.share and not options.auth:
        print("Anybody who has the public link can use the app; --auth USER:PASSWORD guards it.")
    remember_signatures(demo)
    try:
        _, local, public = demo.launch(
            server_name=f"[{options.host}]" if ":" in options.host else options.host,
            server_port=options.port,
            share=options.share,
            auth=options.auth,
            mcp_server=options.mcp,
            app_kwargs=app_kwargs(batcher),
            max_file_size=MAX_ZIP if options.training else MAX_UPLOAD,
            theme=theme(),
            css_paths=[STYLE],
            i18n=label,
            footer_links=[],
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            pwa=False,
            quiet=True,
            prevent_thread_lock=True,  # else uploads would stay where a page is open at the end
        )
        print(f"The app is at {local}" + (f" and, for anybody, at {public}" if public else ""))
        if options.share and not public:
            print("The public link could not be made; is there a connection to the internet?")
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    except OSError as error:
        if "empty port" not in str(error):
            raise
        raise UserError(cannot_listen(options.host, options.port)) from error
    finally:
        demo.close(verbose=False)
        if runner.status.running:
            print("Ending the run that is under way.")
        runner.end()


def _end(signum: int, frame: Any) -> None:
    """End; a second SIGTERM does not break into that, a second Ctrl-C ends it at once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def cannot_listen(host: str, port: int) -> str:
    """Why: Gradio calls every failure a port that is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            in_use = True  # until a moment ago
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        reason = str(error.strerror).partition(" (while")[0]  # Python repeats the address
    if in_use:
        return f"port {port} is in use; choose another one, as in --port {port + 1}."
    return f"cannot listen on port {port} of {host} ({reason}); give another --port or --host."
