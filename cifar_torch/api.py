"""The door for programs, beside the Gradio page: `POST /api/classify`, pictures in, JSON out.

A Gradio client needs three requests for one prediction (upload, call, event stream); here one
request has one answer.
"""

import asyncio
import base64
import binascii
import secrets
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

import cifar_torch
from cifar_torch.batching import Batcher
from cifar_torch.classifier import Answer, Classifiers
from cifar_torch.errors import UserError
from cifar_torch.images import ImageError, open_image, to_pixels

MAX_UPLOAD = 32 * 1024 * 1024  # bytes of one request, all its pictures together
MAX_PICTURES = 64  # of one request
DECODERS = 2  # threads; Pillow releases the interpreter's lock while it decodes
# Our own routes, and what Gradio leaves open where a password is set.
GUARDED = ("/api/classify", "/openapi.json", "/gradio_api/mcp")


class Problem(BaseModel):
    """Why there is no answer."""

    reason: str = Field(description="one word, for programs")
    message: str = Field(description="one sentence in English, for people")


class PictureAnswer(BaseModel):
    """What the classifier says of one picture: a class, or an error."""

    name: str | None = Field(description="the file's name, where the form gave one")
    class_name: str | None = Field(
        default=None, serialization_alias="class", description="null: none of the classes"
    )
    confidence: float = Field(default=0.0, description="of the likeliest class, calibrated, 0 to 1")
    confidences: dict[str, float] = Field(
        default={}, description="of every class, the likeliest first"
    )
    error: Problem | None = Field(
        default=None,
        description="in place of the three above where the file cannot be used; the reason is "
        "empty, unreadable, broken or too_large",
    )


class Answers(BaseModel):
    """The answers for the pictures of a request, in their order."""

    model: str | None = Field(description="the checkpoint that answered")
    answers: list[PictureAnswer]


class Refusal(BaseModel):
    """A request that cannot be answered as a whole."""

    error: Problem


class RefusedError(Exception):
    """Ends a request with an HTTP status and a sentence."""

    def __init__(self, status: int, reason: str, message: str):
        super().__init__(message)
        self.status = status
        self.reason = reason

    def response(self, headers: dict[str, str] | None = None) -> Response:
        content = {"error": {"reason": self.reason, "message": str(self)}}
        return JSONResponse(content, self.status, headers)


def app_kwargs(classifiers: Classifiers) -> dict[str, Any]:
    """What `demo.launch(app_kwargs=...)` takes, for the page's own server to have the API too."""
    router = APIRouter()
    batcher = Batcher(classifiers)
    decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decoder")

    @router.post("/api/classify", **CLASSIFY)
    async def classify(
        request: Request,
        model: Annotated[str | None, Query(description="a checkpoint; default: the first")] = None,
    ) -> Response:
        async def answer(name: str | None, data: bytes) -> tuple[str | None, PictureAnswer]:
            loop = asyncio.get_running_loop()
            try:
                pixels = await loop.run_in_executor(decoders, _decode, data, name)
            except ImageError as error:
                problem = Problem(reason=error.reason, message=str(error))
                return None, PictureAnswer(name=name, error=problem)
            title, answer = await asyncio.wrap_future(batcher.submit(model, pixels))
            return title, _picture_answer(name, answer)

        try:
            pictures = await _read_pictures(request)
            if model is not None and model not in (names := classifiers.names()):
                there_are = ", ".join(names)
                message = f"There is no model {model!r}; there are: {there_are}."
                raise RefusedError(404, "model", message)
            answers = await asyncio.gather(*(answer(*picture) for picture in pictures))
        except RefusedError as error:
            return error.response()
        except (UserError, OSError):
            return RefusedError(503, "model", "This model cannot be read at present.").response()
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        title = next((title for title, _ in answers if title), None)
        content = Answers(model=title, answers=[answer for _, answer in answers])
        return Response(
            content.model_dump_json(by_alias=True, exclude_unset=True),
            status_code=200 if title else 422,
            media_type="application/json",
        )

    @router.get("/openapi.json", include_in_schema=False)
    def openapi() -> dict[str, Any]:
        document = get_openapi(
            title="cifar-torch", version=cifar_torch.__version__, routes=router.routes
        )
        password = {"type": "http", "scheme": "basic"}
        document["components"]["securitySchemes"] = {"password": password}
        return document

    return {"routes": router.routes, "middleware": [Middleware(Guard)], "openapi_url": None}


FILE = {"type": "string", "format": "binary"}
CLASSIFY: dict[str, Any] = {
    "summary": "Classify pictures",
    "description": "Send one or several files as a form (`curl -F file=@cat.jpg ...`), or one file "
    "as the body (`curl -H 'Content-Type: image/jpeg' --data-binary @cat.jpg ...`): JPEG, PNG, "
    "WebP, BMP, TIFF, GIF or AVIF.",
    "response_model": None,
    "responses": {
        200: {"model": Answers, "description": "At least one picture has an answer."},
        400: {"model": Refusal, "description": "The form is damaged or has no file."},
        401: {"model": Refusal, "description": "The page has a password; use HTTP Basic."},
        404: {"model": Refusal, "description": "There is no such model."},
        413: {"model": Refusal, "description": f"More than {MAX_UPLOAD >> 20} MB."},
        415: {"model": Refusal, "description": "The body is neither a form nor a picture."},
        422: {"model": Answers, "description": "None of the pictures can be used."},
        503: {"model": Refusal, "description": "The model's folder is damaged."},
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"file": {"type": "array", "items": FILE}},
                    }
                },
                "image/*": {"schema": FILE},
                "application/octet-stream": {"schema": FILE},
            },
        },
        "security": [{}, {"password": []}],
    },
}


def _decode(data: bytes, name: str | None) -> np.ndarray:
    return to_pixels(open_image(data, name))


def _picture_answer(name: str | None, answer: Answer) -> PictureAnswer:
    return PictureAnswer(
        name=name,
        class_name=answer.class_name,
        confidence=round(answer.confidence, 6),
        confidences={name: round(value, 6) for name, value in answer.confidences.items()},
    )


async def _read_pictures(request: Request) -> list[tuple[str | None, bytes]]:
    """Names and contents of the files that a request brings. Raises RefusedError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request)
    if kind.startswith("image/") or kind in ("", "application/octet-stream"):
        return [(None, b"".join([chunk async for chunk in _body(request)]))]
    await _drop_body(request)
    raise RefusedError(
        415,
        "content_type",
        f"{kind} is not understood; send a form, multipart/form-data, or one picture as the body, "
        "with its type, image/..., or application/octet-stream.",
    )


class _FormParser(MultiPartParser):
    spool_max_size = MAX_UPLOAD  # in memory: what visitors send never reaches the disk


async def _read_form(request: Request) -> list[tuple[str | None, bytes]]:
    try:
        parser = _FormParser(request.headers, _body(request), max_files=MAX_PICTURES)
        form = await parser.parse()
    except MultiPartException as error:
        message = f"The form cannot be read: {error.message.rstrip('.')}."
        raise RefusedError(400, "form", message) from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise RefusedError(400, "form", "The form has no file; with curl: -F file=@cat.jpg.")
    pictures = [(file.filename or None, await file.read()) for file in files]
    await form.close()
    return pictures


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    """The body piece by piece. Raises RefusedError where it is larger than MAX_UPLOAD.

    What is too much is read and dropped, within reason: most clients hear nothing before they
    have sent everything.
    """
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_UPLOAD:
            yield chunk
        elif size > 8 * MAX_UPLOAD:
            break
    if size > MAX_UPLOAD:
        message = f"At most {MAX_UPLOAD >> 20} MB can be sent in one request."
        raise RefusedError(413, "too_large", message)


async def _drop_body(request: Request) -> None:
    with suppress(RefusedError):
        async for _ in _body(request):
            pass


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
                await _drop_body(Request(scope, receive))
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
    except binascii.Error:
        return False
    wanted = page.auth.get(user.decode(errors="replace"))
    return wanted is not None and secrets.compare_digest(password, wanted.encode())
