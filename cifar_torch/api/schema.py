"""What the API sends, and its description in OpenAPI."""

from typing import Any

from pydantic import BaseModel, Field

from cifar_torch.api.uploads import MAX_PICTURES, MAX_UPLOAD
from cifar_torch.classifier import Answer
from cifar_torch.images import FORMATS_FOR_PEOPLE, ImageError


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

    @classmethod
    def of(cls, name: str | None, answer: Answer) -> "PictureAnswer":
        return cls(
            name=name,
            class_name=answer.class_name,
            confidence=round(answer.confidence, 6),
            confidences={name: round(value, 6) for name, value in answer.confidences.items()},
        )

    @classmethod
    def of_error(cls, name: str | None, error: ImageError) -> "PictureAnswer":
        return cls(name=name, error=Problem(reason=error.reason, message=str(error)))


class Answers(BaseModel):
    """The answers for the pictures of a request, in their order."""

    model: str | None = Field(description="the checkpoint that answered; null where none had to")
    answers: list[PictureAnswer]


class Refusal(BaseModel):
    """A request that cannot be answered as a whole."""

    error: Problem


FILE = {"type": "string", "format": "binary"}
FILES = {"type": "array", "items": FILE, "minItems": 1, "maxItems": MAX_PICTURES}
FORM = {"type": "object", "properties": {"file": FILES}, "required": ["file"]}
SECURITY_SCHEMES = {"password": {"type": "http", "scheme": "basic"}}
CLASSIFY: dict[str, Any] = {
    "operation_id": "classify",
    "summary": "Classify pictures",
    "description": "Send one or several files as a form (`curl -F file=@cat.jpg ...`), or one file "
    "as the body (`curl -H 'Content-Type: image/jpeg' --data-binary @cat.jpg ...`): "
    f"{FORMATS_FOR_PEOPLE}.",
    "response_model": None,
    "responses": {
        200: {"model": Answers, "description": "At least one picture has an answer."},
        400: {
            "model": Refusal,
            "description": f"The form is damaged, has no file, or more than {MAX_PICTURES}.",
        },
        401: {"model": Refusal, "description": "The page has a password; use HTTP Basic."},
        404: {"model": Refusal, "description": "There is no such model."},
        408: {"model": Refusal, "description": "The pictures did not arrive in time."},
        413: {"model": Refusal, "description": f"More than {MAX_UPLOAD >> 20} MB."},
        415: {"model": Refusal, "description": "The body is neither a form nor a picture."},
        422: {"model": Answers, "description": "None of the pictures can be used."},
        503: {
            "model": Refusal,
            "description": "Too many requests at a time, or the model's folder is damaged.",
        },
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": FORM},
                "image/*": {"schema": FILE},
                "application/octet-stream": {"schema": FILE},
            },
        },
        "security": [{}, {"password": []}],
    },
}
