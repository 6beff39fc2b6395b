"""Parts of OpenAPI documents, and views that describe themselves."""

from __future__ import annotations

from typing import Any

SCHEME = "cognito_m2m"
OK: dict[str, Any] = {"responses": {"200": {"description": "What was asked for."}}}
RECEIVES_ONLY: dict[str, Any] = {"TOKEN_URL": None, "CLIENT_ID": None, "CLIENT_SECRET": None, "SCOPES": None}


def view() -> dict[str, bool]:
    """A view.
    ---
    get:
      responses: {"200": {"description": "What was asked for."}}
    """
    return {"reached": True}


def view_of_both() -> dict[str, bool]:
    """A view.
    ---
    get:
      responses: {"200": {"description": "What was asked for."}}
    post:
      responses: {"200": {"description": "What was made."}}
    """
    return {"reached": True}


def numbered(number: int) -> dict[str, int]:
    """A view.
    ---
    get:
      parameters: [{name: number, in: path, required: true, schema: {type: integer}}]
      responses: {"200": {"description": "What was asked for."}}
    """
    return {"number": number}


def copied(function: Any) -> Any:
    """The function anew: marks and descriptions are of one view."""

    def anew() -> Any:
        return function()

    anew.__doc__ = function.__doc__
    return anew


def securities_of(document: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": operation.get("security")
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in ("get", "post")
    }


def security_of(document: dict[str, Any], path: str = "/a") -> Any:
    return document["paths"][path]["get"].get("security")


def referred(document: Any, reference: dict[str, str]) -> Any:
    for name in reference["$ref"].removeprefix("#/").split("/"):
        document = document[name]
    return document
