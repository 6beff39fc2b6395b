"""The cache that an application shares its keys and tokens over: found, or made, at first use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask
    from flask_caching import Cache

_IN_PROCESS = frozenset({"SimpleCache", "NullCache", "simple", "null"})

_logger = logging.getLogger("flask_m2m_cognito.store")


def backend_finder(
    app: Flask, cache: Cache | None, on_found: Callable[[Any], None] = lambda backend: None
) -> Callable[[], Any]:
    """A callable that gives the cachelib backend, for use outside an application context.

    The backend and not the ``Cache``: outside an application context ``Cache.get`` answers for
    the application that was initialised last. In order: ``cache``, the one that the application has
    already, one made from its ``CACHE_…`` settings, a ``SimpleCache``.
    """

    def find() -> Any:
        backend = _existing(app, cache)
        if backend is None and cache is None:
            backend = _made(app)
        if backend is None:
            _logger.warning(
                "The Cache given to CognitoM2M(cache=…) was not initialised with the application %r, so "
                "nothing is shared: call cache.init_app(app) before the first request.",
                app.name,
            )
        else:
            on_found(backend)
        return backend

    return find


def shares_with_others(backend: Any) -> bool:
    """Whether what is put into ``backend`` leaves this process."""
    return type(backend).__name__ not in _IN_PROCESS


def unpickles(backend: Any) -> bool:
    """Whether whoever can write to ``backend`` can have this process run code: its serializer is pickle."""
    from cachelib.serializers import JSONSerializer

    return shares_with_others(backend) and not isinstance(
        getattr(backend, "serializer", None), JSONSerializer
    )


def is_in_process(app: Flask, cache: Cache | None) -> bool | None:
    """Whether the application's cache stays in the process; ``None`` if that can't be told yet."""
    backend = _existing(app, cache)
    if backend is not None:
        return not shares_with_others(backend)
    if cache is not None or "CACHE_TYPE" not in app.config:
        return None
    return str(app.config["CACHE_TYPE"]).rpartition(".")[2] in _IN_PROCESS


def _existing(app: Flask, cache: Cache | None) -> Any:
    backends = app.extensions.get("cache")
    if not isinstance(backends, dict):
        return None
    return next(iter(backends.values()), None) if cache is None else backends.get(cache)


def _made(app: Flask) -> Any:
    from flask_caching import Cache

    config = {"CACHE_TYPE": "SimpleCache"} if not app.config.get("CACHE_TYPE") else {}
    cache = Cache(with_jinja2_ext=False, config=config)
    cache.init_app(app)
    backend = app.extensions["cache"][cache]
    if not app.config.get("CACHE_SERIALIZER") and hasattr(backend, "serializer"):
        backend.serializer = text_serializer()
    return backend


def text_serializer() -> Any:
    """cachelib's JSON serializer, without its warning for each miss of a Redis backend."""
    from cachelib.serializers import JSONSerializer

    class TextSerializer(JSONSerializer):
        """JSON: what others put into the cache is read, not run."""

        def loads(self, bvalue: Any, *args: Any, **kwargs: Any) -> Any:
            return None if bvalue is None else super().loads(bvalue, *args, **kwargs)

    return TextSerializer()
