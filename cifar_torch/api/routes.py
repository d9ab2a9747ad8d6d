"""What the server does with a request."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect

import cifar_torch
from cifar_torch.api.guard import Guard
from cifar_torch.api.schema import CLASSIFY, SECURITY_SCHEMES, Answers, PictureAnswer
from cifar_torch.api.uploads import RefusedError, drop_body, read_pictures
from cifar_torch.classifier import UnknownModelError
from cifar_torch.errors import UserError
from cifar_torch.images import ImageError
from cifar_torch.serving import DECODERS, Batcher

PLACE = 2 * 1024 * 1024  # bytes: what brings more takes several, as all is kept in memory
PLACES = 128  # for requests at a time: who came later would wait for half a minute


def app_kwargs(batcher: Batcher) -> dict[str, Any]:
    """What `demo.launch(app_kwargs=...)` takes, for the page's own server to have the API too."""
    router = APIRouter()
    service = Service(batcher)
    router.add_api_route("/api/classify", service.classify, methods=["POST"], **CLASSIFY)

    @router.get("/openapi.json", include_in_schema=False)
    def document() -> dict[str, Any]:
        version = cifar_torch.__version__
        found = get_openapi(title="cifar-torch", version=version, routes=router.routes)
        found["components"]["securitySchemes"] = SECURITY_SCHEMES
        return found

    return {"routes": router.routes, "middleware": [Middleware(Guard)], "openapi_url": None}


class Service:
    """The requests' side of a Batcher."""

    def __init__(self, batcher: Batcher):
        self._batcher = batcher
        self._taken = 0  # places of the requests that are being received or answered

    async def classify(
        self,
        request: Request,
        model: Annotated[str | None, Query(description="a checkpoint; default: the first")] = None,
    ) -> Response:
        """The answer to POST /api/classify."""
        try:
            answers = await self._answers(request, model or None)  # none for ?model=, too
        except RefusedError as error:
            return error.response()
        except UnknownModelError as error:
            return RefusedError(404, "model", str(error)).response()
        except (UserError, OSError):
            return RefusedError(503, "model", "This model cannot be read at present.").response()
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        used = next((name for name, _ in answers if name), None)
        content = Answers(model=used, answers=[answer for _, answer in answers])
        return Response(
            content.model_dump_json(by_alias=True, exclude_unset=True),
            status_code=200 if used else 422,
            media_type="application/json",
        )

    async def _answers(
        self, request: Request, model: str | None
    ) -> list[tuple[str | None, PictureAnswer]]:
        places = received = 0

        def take(size: int) -> None:
            nonlocal places, received
            received += size
            more = max(1, -(-received // PLACE)) - places
            if self._taken + more > PLACES:
                raise RefusedError(503, "busy", "Too many requests at a time; try again later.")
            self._taken += more
            places += more

        try:
            take(0)
        except RefusedError:
            await drop_body(request)
            raise
        try:
            pictures = await read_pictures(request, take)
            if model:
                self._batcher.classifiers.check(model)
            turns = asyncio.Semaphore(DECODERS)  # other requests are not to wait for all of them
            return await asyncio.gather(*(self._answer(model, turns, *p) for p in pictures))
        finally:
            self._taken -= places

    async def _answer(
        self, model: str | None, turns: asyncio.Semaphore, name: str | None, data: bytes
    ) -> tuple[str | None, PictureAnswer]:
        """The name of the checkpoint, and what it says of one picture."""
        try:
            used, answer = await self._batcher.classify(data, model, name, turns)
        except ImageError as error:
            return None, PictureAnswer.of_error(name, error)
        return used, PictureAnswer.of(name, answer)
