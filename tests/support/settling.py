"""Wait until refreshes have sent signals and log records, which they do after releasing their callers."""

from __future__ import annotations

import threading

REFRESH_THREAD = "cognito-m2m-refresh"

_LONG = 30.0


def refresh_threads() -> list[threading.Thread]:
    """Return the library's refresh threads that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == REFRESH_THREAD]


def settle(within: float = _LONG) -> None:
    """Wait until no refresh thread is alive, at most ``within`` seconds for each."""
    for thread in refresh_threads():
        if thread is not threading.current_thread():
            thread.join(within)
