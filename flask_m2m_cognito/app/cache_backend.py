"""Finds or builds the cache in which an application shares its keys and tokens, at first use."""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..remote.reports import report

if TYPE_CHECKING:
    from flask import Flask
    from flask_caching import Cache

IN_PROCESS = frozenset({"SimpleCache", "NullCache", "simple", "null"})
_PICKLE_MARK = b"\x80"
_CLIENTS = {
    "redis": ("redis",),
    "memcached": ("pylibmc", "memcache", "libmc"),
    "dynamodb": ("boto3",),
    "mongo": ("pymongo",),
}
"""The modules that cachelib imports when it builds a backend, by a part of ``CACHE_TYPE``."""

_NOT_INITIALISED = (
    "The Cache passed to CognitoM2M(cache=…) was not initialised with the application %r, so nothing is "
    "shared. Call cache.init_app(app) before the first request."
)

_logger = logging.getLogger("flask_m2m_cognito.store")


def backend_finder(
    app: Flask, cache: Cache | None, on_found: Callable[[Any], None] = lambda backend: None
) -> Callable[[], Any]:
    """Return a callable that returns the cachelib backend, for use outside an application context.

    It returns the backend and not the ``Cache``, because outside an application context ``Cache.get`` uses
    the application that was initialised last. The backend is that of ``cache``, else of the cache that the
    application already has, else of one built from its ``CACHE_…`` settings.
    """

    ours: list[Any] = []

    def find() -> Any:
        if not is_configured(app, cache):
            return None
        backend = existing_backend(app, cache)
        if cache is None and (backend is None or any(backend is each for each in ours)):
            # Called again after a fork: on its parent's connection a child would read the answers to others.
            backend = _build_backend(app)
            ours.append(backend)
        if backend is None:
            report(lambda: _logger.warning(_NOT_INITIALISED, app.name, extra={"event": "configuration"}))
            return None
        on_found(backend)
        return _for_many_threads(backend)

    return find


def existing_backend(app: Flask, cache: Cache | None) -> Any:
    """Return the backend of ``cache``, or of the application's first cache; ``None`` if there is none yet."""
    backends = app.extensions.get("cache")
    if not isinstance(backends, dict):
        return None
    return next(iter(backends.values()), None) if cache is None else backends.get(cache)


def is_configured(app: Flask, cache: Cache | None) -> bool:
    """Return whether the application has a cache or settings for one. Without either it shares nothing."""
    initialised = app.extensions.get("cache")
    has_own = isinstance(initialised, dict) and bool(initialised)
    return cache is not None or bool(app.config.get("CACHE_TYPE")) or has_own


def import_client(app: Flask, cache: Cache | None) -> None:
    """Import the modules that building the cache needs. A cache that exists has imported them."""
    if cache is not None or existing_backend(app, cache) is not None:
        return
    kind = str(app.config.get("CACHE_TYPE")).lower()
    names = (
        "flask_caching.backends",
        *(name for part in _CLIENTS if part in kind for name in _CLIENTS[part]),
    )
    for name in names:
        with contextlib.suppress(Exception):  # building the cache reports a missing module
            importlib.import_module(name)


def shares_with_others(backend: Any) -> bool:
    """Return whether entries of ``backend`` leave this process."""
    return type(backend).__name__ not in IN_PROCESS


def unpickles(backend: Any) -> bool:
    """Return whether ``backend`` reads with pickle: then anyone who can write to it can run code here."""
    # Compared by name, because cachelib has a JSONSerializer only since 0.15.
    serializer = type(getattr(backend, "serializer", None)).__name__
    return shares_with_others(backend) and serializer not in ("JSONSerializer", "TextSerializer")


def is_in_process(app: Flask, cache: Cache | None) -> bool | None:
    """Return whether the application's cache stays in the process, or ``None`` if that is unknown yet."""
    backend = existing_backend(app, cache)
    if backend is not None:
        return not shares_with_others(backend)
    if cache is not None or "CACHE_TYPE" not in app.config:
        return None
    return str(app.config["CACHE_TYPE"]).rpartition(".")[2] in IN_PROCESS


def may_share(app: Flask, cache: Cache | None) -> bool:
    """Return whether the application has a cache, and not one that is known to stay in the process."""
    return is_configured(app, cache) and not is_in_process(app, cache)


def _for_many_threads(backend: Any) -> Any:
    """Return ``backend``, with a client of our own if its client is for one thread only.

    cachelib before 0.15 uses one pylibmc client for all threads, so they would read each other's answers.
    """
    client: Any = getattr(backend, "_client", None)
    if client is None or not hasattr(client, "clone") or hasattr(backend, "_client_context"):
        return backend
    ours = copy.copy(backend)
    ours._client = _OneAtATime(client.clone())
    return ours


class _OneAtATime:
    """A cache client that runs one method at a time."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def locked(*arguments: Any) -> Any:
            with self._lock:
                return method(*arguments)

        return locked


def _build_backend(app: Flask) -> Any:
    from flask_caching import Cache

    cache = Cache(with_jinja2_ext=False)
    cache.init_app(app)
    backend = app.extensions["cache"][cache]
    if not app.config.get("CACHE_SERIALIZER") and hasattr(backend, "serializer"):
        backend.serializer = text_serializer()
    return backend


def text_serializer() -> Any:
    """Return a JSON serializer for cachelib's backends: entries from others are parsed, never run as code.

    cachelib has none before 0.15, and its own logs a warning for each miss of a Redis backend.
    """
    from cachelib.serializers import BaseSerializer

    class TextSerializer(BaseSerializer):
        """JSON. Anything else is returned as text, which cannot be decrypted, so the store logs it."""

        def dumps(self, value: Any, *_: Any, **__: Any) -> bytes:
            return json.dumps(value).encode()

        def loads(self, bvalue: bytes | None) -> Any:
            return None if bvalue is None else _parsed(bvalue)

        def dump(self, value: Any, f: Any, *_: Any, **__: Any) -> None:
            f.write(self.dumps(value))

        def load(self, f: Any, *_: Any, **__: Any) -> Any:
            content = f.read()
            # FileSystemCache writes its file count with pickle, before this serializer is set.
            return None if content.startswith(_PICKLE_MARK) else _parsed(content)

    return TextSerializer()


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace")
