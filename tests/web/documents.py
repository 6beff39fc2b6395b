"""Parts of OpenAPI documents, and views that describe themselves."""

from __future__ import annotations

from typing import Any

SCHEME = "cognito_m2m"
OK: dict[str, Any] = {"responses": {"200": {"description": "The item."}}}
RECEIVES_ONLY: dict[str, Any] = {"TOKEN_URL": None, "CLIENT_ID": None, "CLIENT_SECRET": None, "SCOPES": None}


def view() -> dict[str, bool]:
    """A view.
    ---
    get:
      responses: {"200": {"description": "The item."}}
    """
    return {"reached": True}


def view_of_both() -> dict[str, bool]:
    """A view.
    ---
    get:
      responses: {"200": {"description": "The item."}}
    post:
      responses: {"200": {"description": "The new item."}}
    """
    return {"reached": True}


def numbered(number: int) -> dict[str, int]:
    """A view.
    ---
    get:
      parameters: [{name: number, in: path, required: true, schema: {type: integer}}]
      responses: {"200": {"description": "The item."}}
    """
    return {"number": number}


def copied(function: Any) -> Any:
    """Return a copy of a view, because marks and descriptions belong to one function."""

    def copy() -> Any:
        return function()

    copy.__doc__ = function.__doc__
    return copy


def securities_of(document: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": operation.get("security")
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in ("get", "post")
    }


def security_of(document: dict[str, Any], path: str = "/a") -> Any:
    return document["paths"][path]["get"].get("security")


def resolve(document: Any, reference: dict[str, str]) -> Any:
    for name in reference["$ref"].removeprefix("#/").split("/"):
        document = document[name]
    return document
