"""A forked child has its own lock."""

from __future__ import annotations

import threading

from flask_m2m_cognito.remote.threads import PerProcess
from tests.remote.moved import LONG, threads
from tests.support.forks import in_a_child, needs_fork


@needs_fork
def test_child_gets_its_own_lock_if_the_parents_is_held() -> None:
    lock = PerProcess(threading.Lock)
    taken, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.get():
            taken.set()
            assert go_on.wait(LONG)

    def take() -> str:
        with lock.get():
            return "taken"

    with threads() as started:
        started(hold)
        assert taken.wait(LONG)
        assert in_a_child(take) == "taken"
        go_on.set()
