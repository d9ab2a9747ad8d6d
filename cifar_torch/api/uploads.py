"""The pictures that a request brings, within limits."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

MAX_UPLOAD = 32 * 1024 * 1024  # bytes of one request, all its pictures together
MAX_PICTURES = 64  # of one request
PATIENCE = 60.0  # seconds for a request to arrive; a slow one takes the place of another

T = TypeVar("T")
Body = AsyncGenerator[bytes, None]


class RefusedError(Exception):
    """Ends a request with an HTTP status and a sentence."""

    def __init__(self, status: int, reason: str, message: str):
        super().__init__(message)
        self.status = status
        self.reason = reason

    def response(self, headers: dict[str, str] | None = None) -> Response:
        content = {"error": {"reason": self.reason, "message": str(self)}}
        return JSONResponse(content, self.status, headers)


async def read_pictures(
    request: Request, take: Callable[[int], None]
) -> list[tuple[str | None, bytes]]:
    """Names and contents of the files that a request brings. `take` is called with the number of
    bytes whenever some arrive, and may refuse them. Raises RefusedError."""
    return await _in_time(_read(request, _body(request, take)))


async def drop_body(request: Request) -> None:
    """Read what a request brings, as most clients hear nothing before they have sent it."""
    with suppress(RefusedError):
        await _in_time(_drop(_body(request)))


async def _in_time(reading: Awaitable[T]) -> T:
    try:
        return await asyncio.wait_for(reading, PATIENCE)
    except asyncio.TimeoutError as error:
        message = f"The pictures did not arrive within {PATIENCE:.0f} s."
        raise RefusedError(408, "slow", message) from error


async def _read(request: Request, body: Body) -> list[tuple[str | None, bytes]]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request, body)
    if kind.startswith("image/") or kind in ("", "application/octet-stream"):
        return [(None, b"".join([chunk async for chunk in body]))]
    await _drop(body)
    raise RefusedError(
        415,
        "content_type",
        f"{kind} is not understood; send a form, multipart/form-data, or one picture as the body, "
        "with its type, image/..., or application/octet-stream.",
    )


class _FormParser(MultiPartParser):
    spool_max_size = MAX_UPLOAD  # in memory: what visitors send never reaches the disk


async def _read_form(request: Request, body: Body) -> list[tuple[str | None, bytes]]:
    try:
        parser = _FormParser(request.headers, body, max_files=MAX_PICTURES)
        form = await parser.parse()
    except (MultiPartException, UnicodeError) as error:
        message = f"The form cannot be read: {str(error).rstrip('.')}."
        raise RefusedError(400, "form", message) from error
    if "model" in form:
        message = "The model is named in the address, not in the form: /api/classify?model=NAME."
        raise RefusedError(400, "form", message)
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise RefusedError(400, "form", "The form has no file; with curl: -F file=@cat.jpg.")
    pictures = [(_valid_unicode(file.filename) or None, await file.read()) for file in files]
    await form.close()
    return pictures


def _valid_unicode(name: str | None) -> str:
    """A file's name as JSON can have it; some charsets make halves of characters."""
    return (name or "").encode("utf-8", "replace").decode()


async def _body(request: Request, take: Callable[[int], None] = lambda size: None) -> Body:
    """The body piece by piece. Raises RefusedError where it is larger than MAX_UPLOAD, or `take`
    refuses it.

    What is too much is read and dropped, within reason.
    """
    size, refused = 0, None
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_UPLOAD:
            message = f"At most {MAX_UPLOAD >> 20} MB can be sent in one request."
            refused = RefusedError(413, "too_large", message)
        if size > 8 * MAX_UPLOAD:
            break
        if refused:
            continue
        try:
            take(len(chunk))
        except RefusedError as error:
            refused = error
        else:
            yield chunk
    if refused:
        raise refused


async def _drop(body: Body) -> None:
    async for _ in body:
        pass
