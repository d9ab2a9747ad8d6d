"""The password of the page, for programs."""

import base64
import secrets
from contextlib import suppress

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from cifar_torch.api.uploads import RefusedError, drop_body

# Our own routes, and what Gradio leaves open where a password is set.
GUARDED = ("/api/classify", "/openapi.json", "/gradio_api/mcp")


class Guard:
    """ASGI middleware: who may open the page may call, with the same password.

    Gradio keeps the accounts of `launch(auth=...)` and the cookies of its login page in its app;
    programs send HTTP Basic.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and any(door in scope["path"] for door in GUARDED)
        if not guarded or _may_enter(Request(scope)):
            await self.app(scope, receive, send)
        else:
            with suppress(ClientDisconnect):
                await drop_body(Request(scope, receive))
            refused = RefusedError(401, "login", "A user name and a password are needed.")
            response = refused.response({"WWW-Authenticate": 'Basic realm="cifar-torch"'})
            await response(scope, receive, send)


def _may_enter(request: Request) -> bool:
    page = request.app  # Gradio's
    if page.auth is None:
        return True
    for cookie in (f"access-token-{page.cookie_id}", f"access-token-unsecure-{page.cookie_id}"):
        if request.cookies.get(cookie) in page.tokens:
            return True
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        user, _, password = base64.b64decode(credentials).partition(b":")
    except ValueError:  # binascii.Error is one
        return False
    wanted = page.auth.get(user.decode(errors="replace"))
    return wanted is not None and secrets.compare_digest(password, wanted.encode())
