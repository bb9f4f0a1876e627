"""What OpenAPI says of several routes: the one shape of every error, and files."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field


class ErrorAnswer(BaseModel):
    """What every route answers with a status from 400 on."""

    error: str = Field(description="What happened, what was expected, what to do.")


_WORDS = (
    "An error: 401 who is not signed in, 403 what is not allowed, 404 also what belongs to another "
    "session, 409 what is not possible now, 413 what is too large, 422 a request that is not "
    "understood, 429 too many attempts, 507 a full disk."
)
_SCHEMA = {"$ref": "#/components/schemas/ErrorAnswer"}

ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {"description": _WORDS, "content": {"application/json": {"schema": _SCHEMA}}}
}
"""Of every route: the argument `responses` of the application, beside `describe_errors`."""


def sends(media: str, words: str) -> dict[int | str, dict[str, Any]]:
    """The argument `responses` of a route that answers with a file or a stream of this type."""
    schema = {"type": "string"} | ({} if media.startswith("text/") else {"format": "binary"})
    return {200: {"description": words, "content": {media: {"schema": schema}}}}


def describe_errors(app: FastAPI) -> None:
    """Have the shape among an application's schemas, and each route called by its first sentence.

    As a `model` of `ERRORS` FastAPI would take it for an answer of a route's own media type: HTML.
    """
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        described = plain()
        described["components"]["schemas"]["ErrorAnswer"] = ErrorAnswer.model_json_schema()
        for ways in described["paths"].values():
            for way in ways.values():  # else its name, which is short: "One Job"
                way["summary"] = way["description"].partition("\n")[0].rstrip(".")
        return described

    app.openapi = openapi  # type: ignore[method-assign]
