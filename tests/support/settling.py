"""Waits until refreshes have reported what happened: they do so after their callers were released."""

from __future__ import annotations

import threading

REFRESH_THREAD = "cognito-m2m-refresh"

_LONG = 30.0


def refresh_threads() -> list[threading.Thread]:
    """Those of the library that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == REFRESH_THREAD]


def settle(within: float = _LONG) -> None:
    """Wait until no thread of the library is alive, each for at most ``within`` seconds."""
    for thread in refresh_threads():
        if thread is not threading.current_thread():
            thread.join(within)
