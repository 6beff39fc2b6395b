"""The settings of the fleets: a pool and a shared cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask_m2m_cognito.testing import LocalUserPool
from tests.support.services import Service

SECRET_KEY = "a key of the fleet's own, of more than sixteen bytes"


def settings(pool: LocalUserPool, cache: dict[str, object], **extra: Any) -> dict[str, object]:
    """Return settings of a service that trusts ``pool``. Names in ``extra`` have no prefix."""
    return {
        **pool.config(**{"ALLOWED_CLIENT_IDS": "*", "SCOPES": ["inventory/read"], **extra}),
        "SECRET_KEY": SECRET_KEY,
        "CACHE_NO_NULL_WARNING": True,
        **cache,
    }


def redis(server: Service) -> dict[str, object]:
    return {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": server.url}


def memcached(server: Service) -> dict[str, object]:
    return {"CACHE_TYPE": "MemcachedCache", "CACHE_MEMCACHED_SERVERS": [server.address]}


def files(folder: Path) -> dict[str, object]:
    return {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(folder)}


IN_PROCESS: dict[str, object] = {"CACHE_TYPE": "SimpleCache"}
