"""Makes ``flask.g`` show the access token of the current request.

A token belongs to its request, not to ``g``. If an application context is already pushed, Flask shares its
``g`` between requests: for a request made inside another, or a test client inside ``app.app_context()``. A
copied request context, on the other hand, gets an empty ``g``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from flask import Flask, current_app, request
from flask.globals import app_ctx

EXTENSION = "cognito_m2m"
"""The key of ``app.extensions`` for the parts of an application."""

_SHORTEST_SECRET = 12
"""Characters: shorter parts of a token are not hidden, because they may be words of the text."""

_NAMES = frozenset({"m2m_token", "m2m_claims", "m2m_principal"})

_NO_TOKEN = (
    "This request has no access token: the view is not guarded, such as by require_scopes, or the request "
    "was rejected."
)
_NO_LOADER = "This request has no principal: no principal_loader is set."
_NOT_LOADED = (
    "This request has no principal: the principal_loader has not returned one. In an async view, an async "
    "loader runs only under a guard such as require_scopes, not in authorize()."
)

# Each attribute read through a proxy resolves the proxy again, which takes 1.1 us. Resolving it once takes
# 0.13 us.
current_request: Any = cast("Any", request)._get_current_object
current_context: Any = cast("Any", app_ctx)._get_current_object


def set_request_globals(app: Flask) -> None:
    """Make ``g`` of ``app`` show the tokens of requests, also in a context that is already pushed."""
    base: type[Any] = app.app_ctx_globals_class
    showing: type[Any] = type(base.__name__, (RequestGlobals, base), {})
    app.app_ctx_globals_class = showing
    if current_app and current_context().app is app:
        # Bypass the __setattr__ of g, which turns every name into an item.
        object.__setattr__(current_context().g, "__class__", showing)


def get_request_global(name: str) -> Any:
    """Return ``m2m_token``, ``m2m_claims`` or ``m2m_principal`` of the current request.

    Return ``None`` if ``optional_token`` found no token.

    Raises:
        RuntimeError: the request has no token, or the application has no principal loader.
    """
    g = current_context().g
    try:
        return _value(name, g)
    except AttributeError:
        raise RuntimeError(_why_missing(name, g)) from None


def hide_request_token(text: str) -> str:
    """Return ``text`` with the token of the current request, and its parts, hidden.

    For text that comes from the application: its check, its loader and its views can read the request.
    """
    from ..remote.redaction import HIDDEN  # here, as it imports urllib.request

    try:
        environ = current_request().environ
    except RuntimeError:
        return text
    parts = current_context().app.extensions.get(EXTENSION)
    key = "HTTP_AUTHORIZATION" if parts is None or parts.guard is None else parts.guard.environ_key
    token = environ.get(key, "").strip().rpartition(" ")[2]
    for secret in (token, *token.split(".")):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
    return text


class RequestGlobals:
    """Mixin for ``app_ctx_globals_class`` that reads ``m2m_token`` and its like from the current request.

    A value that the application itself assigns to one of these names is used if the request has no token.
    """

    m2m_token: Any = property(lambda self: _value("m2m_token", self))
    m2m_claims: Any = property(lambda self: _value("m2m_claims", self))
    m2m_principal: Any = property(lambda self: _value("m2m_principal", self))

    def __getattr__(self, name: str) -> Any:
        # Python calls this after a property has raised AttributeError.
        if name in _NAMES:
            raise AttributeError(_why_missing(name, self))
        return super().__getattr__(name)  # type: ignore[misc]

    def __contains__(self, name: str) -> bool:
        return hasattr(self, name) if name in _NAMES else super().__contains__(name)  # type: ignore[misc]

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default) if name in _NAMES else super().get(name, default)  # type: ignore[misc]


def _why_missing(name: str, g: Any) -> str:
    if name != "m2m_principal" or "m2m_token" not in g:
        return _NO_TOKEN
    parts = current_context().app.extensions.get(EXTENSION)
    has_loader = parts is not None and parts.guard is not None and parts.guard.owner.loader is not None
    return _NOT_LOADED if has_loader else _NO_LOADER


def _value(name: str, g: Any) -> Any:
    held = _held_by_request()
    values = held if name in held else g.__dict__
    try:
        return values[name]
    except KeyError:
        raise AttributeError(name) from None


def _held_by_request() -> Mapping[str, Any]:
    """Return what the guard of the current application stored on the current request."""
    parts = current_context().app.extensions.get(EXTENSION)
    if parts is None or parts.guard is None:
        return {}
    try:
        attributes = current_request().__dict__
    except RuntimeError:
        return {}
    held: Mapping[str, Any] = attributes.get(parts.guard.held_key, {})
    return held
