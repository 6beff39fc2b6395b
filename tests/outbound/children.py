"""Forked children, for what must not be shared with them."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable

_ENDS_WITHIN = 10


def in_a_child(run: Callable[[], object]) -> bool:
    """Whether ``run`` gives something true in a forked child, before long."""
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads, which is what these tests are about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _end_with(run)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _end_with(run: Callable[[], object]) -> None:
    """End this child without pytest's own end."""
    code = 1
    try:
        signal.alarm(_ENDS_WITHIN)  # its default is to end the process
        code = 0 if run() else 1
    finally:
        os._exit(code)
