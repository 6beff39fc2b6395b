"""Whether this user can use the folder and the files of a ``FileSystemCache``.

cachelib sleeps 16 s on a file that it may not open, so this is looked at before the cache is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from flask import Flask

from .finding import Finding, failed, warning

_SHARE_FILES = (
    "Run every process that uses this cache as one user. Or put the users into one group, give it the folder "
    '(`chgrp -R GROUP FOLDER`, `chmod 2770 FOLDER`), set CACHE_OPTIONS = {{"mode": 0o660}} '
    "(FLASK_CACHE_OPTIONS='{{\"mode\": 432}}' in the environment) for all of them, and delete the files in "
    "{folder}."
)


def files_finding(app: Flask) -> Finding | None:
    """Return what keeps this user, or others, from the files of the application's cache, if anything does.

    Only a cache that is made from the application's ``CACHE_…`` settings has a folder that is known here.
    """
    kind, folder = str(app.config.get("CACHE_TYPE")), app.config.get("CACHE_DIR")
    if not hasattr(os, "geteuid") or not folder or "filesystem" not in kind.lower():
        return None
    advice = _SHARE_FILES.format(folder=folder)
    obstacle = next(_obstacles(Path(folder)), None)
    if obstacle is not None:
        return failed("cache", f"{_user(os.geteuid())} can't use the cache in {folder}: {obstacle}.", advice)
    if os.path.isdir(folder) and _writes_for_itself_only(app, Path(folder)):
        return warning(
            "cache",
            f"The cache was not tried: {_described(Path(folder))}, and others could not open root's files.",
            f"Run this command as {_user(os.stat(folder).st_uid)}. {advice}",
        )
    return None


def _obstacles(folder: Path) -> Iterator[str]:
    """Each folder or file that this user can't use as the cache does."""
    for path in (*reversed(folder.absolute().parents), folder):
        if not path.is_dir():
            return  # it will be made, or can't be
        needed = os.R_OK | os.W_OK | os.X_OK if path == folder else os.X_OK
        if not os.access(path, needed):
            yield _described(path)
            return
    found = folder.stat()
    # In a sticky folder only the owners of a file and of the folder may replace it.
    is_sticky = bool(found.st_mode & stat.S_ISVTX) and os.geteuid() not in (0, found.st_uid)
    for path in folder.iterdir():
        try:
            may_replace = not is_sticky or path.stat().st_uid == os.geteuid()
            if not os.access(path, os.R_OK) or not may_replace:
                yield _described(path)
        except FileNotFoundError:
            continue  # deleted meanwhile


def _writes_for_itself_only(app: Flask, folder: Path) -> bool:
    """Whether this is root in another user's folder, where it would leave files that only root can read."""
    mode = (app.config.get("CACHE_OPTIONS") or {}).get("mode", 0o600)
    is_open = isinstance(mode, int) and bool(mode & (stat.S_IRGRP | stat.S_IROTH))
    return os.geteuid() == 0 and folder.stat().st_uid != 0 and not is_open


def _described(path: Path) -> str:
    found = path.stat()
    kind = "folder" if stat.S_ISDIR(found.st_mode) else "file"
    mode = f"{stat.S_IMODE(found.st_mode):04o}"
    return f"the {kind} {path} belongs to {_user(found.st_uid)} and has the mode {mode}"


def _user(uid: int) -> str:
    """Return the name of a user, or its number if it has none here."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
