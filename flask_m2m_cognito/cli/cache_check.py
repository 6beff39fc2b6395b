"""Whether the cache serves several processes, and whether what is in it is safe."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Flask

from ..app.app_m2m import AppM2M
from ..app.cache_backend import IN_PROCESS, shares_with_others, unpickles
from ..remote.bounded_backend import StoreDown
from ..settings.app_settings import Settings
from .cache_files import files_finding
from .finding import Finding, failed, ok, warning

_SHARE = (
    "With one process that is fine. With several, or on several machines, let them share: for Redis, "
    "`pip install redis` and set CACHE_TYPE='RedisCache' and CACHE_REDIS_URL."
)
_NONE_MADE = "Call cache.init_app(app) for the Cache that was given to CognitoM2M(cache=…)."
_DOWN = (
    "Is it running, and is its address right (CACHE_REDIS_URL, CACHE_MEMCACHED_SERVERS, CACHE_DIR)? The "
    "service works without it, and then each process asks Cognito for itself."
)
_NOT_MADE = (
    "Is CACHE_TYPE one of Flask-Caching's, letter by letter (such as 'RedisCache'), is what it needs "
    "installed (`pip install redis`), and is its place right (CACHE_REDIS_URL, CACHE_DIR)? The service works "
    "without it, and then each process asks Cognito for itself."
)
_KEEPS_NOTHING = "Give it room, or another CACHE_TYPE."
_SEAL = (
    "Make a key once with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`, and give the "
    "same one to every process as COGNITO_M2M_CACHE_KEY (or SECRET_KEY)."
)
_SHARE_TOKENS = (
    "Where processes are short, share a cache and COGNITO_M2M_CACHE_KEY, or get the token in the parent "
    "before it forks: see 'RQ, cron and Celery' in the documentation. m2m.health()['token_requests'] counts "
    "the requests of one process."
)
_JSON = (
    "Whoever can write to the cache can run code in your service. Set CACHE_SERIALIZER to cachelib's "
    "JSONSerializer, or don't make a Cache yourself: CognitoM2M makes one from the CACHE_… settings that "
    "reads JSON only."
)


def unshared_because(parts: AppM2M) -> str | None:
    """Return why other processes can't read what this one has put into the cache, or ``None`` if they can.

    The cache must have been used: before that nobody knows what it is.
    """
    backend, settings = parts._store.backend, parts.settings
    if not backend.works:
        return "the cache does not work"
    if backend.kind is None or backend.kind in IN_PROCESS:
        return "no cache is configured that other processes use"
    if settings.cache_key is None:
        problem = "is shorter than 16 bytes" if settings.cache_key_too_short else "is not set"
        return f"COGNITO_M2M_CACHE_KEY (or SECRET_KEY) {problem}, so that nobody else can open the entry"
    return None


def cache_findings(app: Flask, parts: AppM2M) -> list[Finding]:
    """What was found of the cache, by writing to it and reading back."""
    problem = files_finding(app)
    if problem is not None:
        return [problem]
    if not parts._store.backend.is_configured():
        return _unshared_findings(parts, "no cache is configured")
    name, text = f"cognito-m2m:check:{uuid.uuid4().hex}", uuid.uuid4().hex
    try:
        backend, read = parts._store.backend.call(lambda backend: _tried(backend, name, text))
    except StoreDown as down:
        return [_down(str(down), is_made=parts._store.backend.kind is not None)]
    if not shares_with_others(backend):
        return _unshared_findings(parts, type(backend).__name__)
    kind = type(backend).__name__
    if read != text:
        return [failed("cache", f"The cache ({kind}) does not keep what is put into it.", _KEEPS_NOTHING)]
    return [
        ok("cache", f"The cache is shared ({kind}), and works."),
        *_safety_findings(parts.settings, backend),
        *_token_request_findings(parts),
    ]


def _unshared_findings(parts: AppM2M, kind: str) -> list[Finding]:
    text = f"The cache is not shared. Each process keeps its own keys and tokens ({kind})."
    return [warning("cache", text, _SHARE), *_token_request_findings(parts)]


def _token_request_findings(parts: AppM2M) -> list[Finding]:
    """What short processes cost where nothing is shared: ``token_requests`` is 1 in each of them."""
    problem = unshared_because(parts)
    if problem is None or not parts.settings.clients:
        return []
    said = (
        f"Each process requests its own tokens: {problem}. So does each RQ job, cron job and Celery child: "
        "12 jobs are 12 token requests, and Cognito bills each."
    )
    return [warning("token_requests", said, _SHARE_TOKENS)]


def _tried(backend: Any, name: str, text: str) -> tuple[Any, Any]:
    backend.set(name, text, 10)
    read = backend.get(name)
    backend.delete(name)
    return backend, read


def _down(problem: str, is_made: bool) -> Finding:
    if problem == "there is none":
        return warning("cache", "The cache was not initialised with this application.", _NONE_MADE)
    if not is_made:
        return failed("cache", f"The cache could not be made: {problem}.", _NOT_MADE)
    return failed("cache", f"The cache does not work: {problem}.", _DOWN)


def _safety_findings(settings: Settings, backend: Any) -> list[Finding]:
    findings = [_seal_finding(settings)]
    if unpickles(backend):
        findings.append(warning("cache", "What is in the cache is read with pickle.", _JSON))
    return findings


def _seal_finding(settings: Settings) -> Finding:
    if settings.cache_key is not None:
        return ok("seal", "Keys and tokens in the cache are sealed with a key of yours.")
    problem = "is shorter than 16 bytes" if settings.cache_key_too_short else "is not set"
    return warning(
        "seal",
        f"COGNITO_M2M_CACHE_KEY (or SECRET_KEY) {problem}: each start seals with a key of its own, so that "
        "processes can't read each other's entries and share nothing.",
        _SEAL,
    )
