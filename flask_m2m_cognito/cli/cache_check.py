"""Check that the cache works, that processes share it, and that its entries are protected."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask

from ..app.app_m2m import AppM2M
from ..app.cache_backend import IN_PROCESS, shares_with_others, unpickles
from ..remote.bounded_backend import StoreDown
from ..settings.app_settings import Settings
from .finding import Finding, failed, ok, warning

_SHARE = (
    "A single process needs no shared cache. Several processes or machines should share one: for Redis, run "
    "`pip install redis`, and set CACHE_TYPE='RedisCache' and CACHE_REDIS_URL."
)
_NONE_MADE = "Call cache.init_app(app) on the Cache that you pass to CognitoM2M(cache=…)."
_DOWN = (
    "Check that it is running, and that its address is correct (CACHE_REDIS_URL, CACHE_MEMCACHED_SERVERS, "
    "CACHE_DIR). The service works without it, but then each process fetches its own keys and tokens."
)
_NOT_MADE = (
    "Check that CACHE_TYPE is spelled exactly as in Flask-Caching (such as 'RedisCache'), that its client "
    "library is installed (`pip install redis`), and that its address is correct (CACHE_REDIS_URL, "
    "CACHE_DIR). The service works without it, but then each process fetches its own keys and tokens."
)
_KEEPS_NOTHING = "Give it more memory or disk space, or set another CACHE_TYPE."
_SEAL = (
    "Generate a key once with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`, and set it as "
    "COGNITO_M2M_CACHE_KEY (or SECRET_KEY) for every process."
)
_SHARE_TOKENS = (
    "For short-lived processes, share a cache and COGNITO_M2M_CACHE_KEY, or fetch the token in the parent "
    "before it forks: see 'Run RQ, cron and Celery jobs' in the documentation. "
    "m2m.health()['token_requests'] counts the requests of one process."
)
_JSON = (
    "Anyone who can write to the cache can run code in your service. Set CACHE_SERIALIZER to cachelib's "
    "JSONSerializer, or create no Cache yourself: CognitoM2M creates one from the CACHE_… settings, and that "
    "one reads JSON only."
)
_SHARE_FILES = (
    "Run every process that uses this cache as the same user. Or put the users into one group: give it the "
    'folder (`chgrp -R GROUP FOLDER`, `chmod 2770 FOLDER`), set CACHE_OPTIONS = {{"mode": 0o660}} '
    "(FLASK_CACHE_OPTIONS='{{\"mode\": 432}}' in the environment) for every process, and delete the files in "
    "{folder}."
)


def unshared_because(parts: AppM2M) -> str | None:
    """Return why other processes cannot read what this one puts into the cache, or ``None`` if they can.

    The cache must have been used before: its kind is unknown until then.
    """
    backend, settings = parts._store.backend, parts.settings
    if not backend.works:
        return "the cache is unavailable"
    if backend.kind is None or backend.kind in IN_PROCESS:
        return "no shared cache is configured"
    if settings.cache_key is None:
        return f"{_key_problem(settings)}, so other processes cannot open the entry"
    return None


def cache_findings(app: Flask, parts: AppM2M) -> list[Finding]:
    """Check the cache by writing to it and reading back."""
    problem = files_finding(app)
    if problem is not None:
        return [problem]
    bounded = parts._store.backend
    if not bounded.is_configured():
        return _unshared_findings(parts, "no cache is configured")
    name, text = f"cognito-m2m:check:{uuid.uuid4().hex}", uuid.uuid4().hex
    try:
        backend, read = bounded.call(lambda backend: _write_and_read(backend, name, text))
    except StoreDown as down:
        return [_down_finding(str(down), is_built=bounded.kind is not None)]
    kind = type(backend).__name__
    if not shares_with_others(backend):
        return _unshared_findings(parts, kind)
    if read != text:
        return [failed("cache", f"The cache ({kind}) does not store what is written to it.", _KEEPS_NOTHING)]
    findings = [ok("cache", f"The cache ({kind}) works, and is shared."), _seal_finding(parts.settings)]
    if unpickles(backend):
        findings.append(warning("cache", "The cache reads its entries with pickle.", _JSON))
    return [*findings, *_token_request_findings(parts)]


def _unshared_findings(parts: AppM2M, kind: str) -> list[Finding]:
    text = f"The cache is not shared ({kind}): each process fetches its own keys and tokens."
    return [warning("cache", text, _SHARE), *_token_request_findings(parts)]


def _token_request_findings(parts: AppM2M) -> list[Finding]:
    """Warn if each process requests its own token. ``token_requests`` does not show it: it is 1 in each."""
    problem = unshared_because(parts)
    if problem is None or not parts.settings.clients:
        return []
    text = (
        f"Each process requests its own tokens, because {problem}. So does each RQ job, cron job and Celery "
        "child: 12 jobs send 12 token requests, and Cognito bills each one."
    )
    return [warning("token_requests", text, _SHARE_TOKENS)]


def _write_and_read(backend: Any, name: str, text: str) -> tuple[Any, Any]:
    backend.set(name, text, 10)
    read = backend.get(name)
    backend.delete(name)
    return backend, read


def _down_finding(problem: str, is_built: bool) -> Finding:
    if problem == "there is none":
        return warning("cache", "The cache was not initialised with this application.", _NONE_MADE)
    if not is_built:
        return failed("cache", f"The cache could not be created: {problem}.", _NOT_MADE)
    return failed("cache", f"The cache is unavailable: {problem}.", _DOWN)


def _seal_finding(settings: Settings) -> Finding:
    if settings.cache_key is not None:
        return ok("seal", "Keys and tokens in the cache are sealed with the configured key.")
    text = (
        f"{_key_problem(settings)}: each start uses a new random key, so processes cannot read each other's "
        "entries."
    )
    return warning("seal", text, _SEAL)


def _key_problem(settings: Settings) -> str:
    problem = "is shorter than 16 bytes" if settings.cache_key_too_short else "is not set"
    return f"COGNITO_M2M_CACHE_KEY (or SECRET_KEY) {problem}"


def files_finding(app: Flask) -> Finding | None:
    """Return what prevents this user, or others, from using the files of a ``FileSystemCache``, if anything.

    cachelib sleeps 16 s on a file that it may not open, so this runs before the cache is used. The folder is
    known only for a cache that is built from the application's ``CACHE_…`` settings.
    """
    kind, setting = str(app.config.get("CACHE_TYPE")), app.config.get("CACHE_DIR")
    if not hasattr(os, "geteuid") or not setting or "filesystem" not in kind.lower():
        return None
    folder, advice = Path(setting), _SHARE_FILES.format(folder=setting)
    obstacle = next(_obstacles(folder), None)
    if obstacle is not None:
        return failed(
            "cache", f"{_user(os.geteuid())} cannot use the cache in {setting}: {obstacle}.", advice
        )
    if folder.is_dir() and _would_lock_out_others(app, folder):
        text = f"Nothing was changed: {_describe(folder)}, and other users could not open files of root."
        return warning("cache", text, f"Run this command as {_user(folder.stat().st_uid)}. {advice}")
    return None


def _obstacles(folder: Path) -> Iterator[str]:
    """Yield a description of each folder or file that the cache could not use as this user."""
    for path in (*reversed(folder.absolute().parents), folder):
        if not path.is_dir():
            return  # the cache creates it, or reports that it cannot
        needed = os.R_OK | os.W_OK | os.X_OK if path == folder else os.X_OK
        if not os.access(path, needed):
            yield _describe(path)
            return
    found = folder.stat()
    # In a sticky folder, only the owners of the file and of the folder may replace a file.
    is_sticky = bool(found.st_mode & stat.S_ISVTX) and os.geteuid() not in (0, found.st_uid)
    for path in folder.iterdir():
        try:
            may_replace = not is_sticky or path.stat().st_uid == os.geteuid()
            if not os.access(path, os.R_OK) or not may_replace:
                yield _describe(path)
        except FileNotFoundError:
            continue  # deleted meanwhile


def _would_lock_out_others(app: Flask, folder: Path) -> bool:
    """Whether root would leave files that only root can read in another user's folder."""
    mode = (app.config.get("CACHE_OPTIONS") or {}).get("mode", 0o600)
    is_open = isinstance(mode, int) and bool(mode & (stat.S_IRGRP | stat.S_IROTH))
    return os.geteuid() == 0 and folder.stat().st_uid != 0 and not is_open


def _describe(path: Path) -> str:
    found = path.stat()
    kind = "folder" if stat.S_ISDIR(found.st_mode) else "file"
    mode = f"{stat.S_IMODE(found.st_mode):04o}"
    return f"the {kind} {path} belongs to {_user(found.st_uid)} and has the mode {mode}"


def _user(uid: int) -> str:
    """Return the name of a user, or its number if this machine knows no name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
