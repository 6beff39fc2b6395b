"""A forked child has its own lock."""

from __future__ import annotations

import threading

from flask_m2m_cognito.remote.threads import PerProcess
from tests.remote.moved import LONG, threads
from tests.support.forks import in_a_child, needs_fork


@needs_fork
def test_a_child_forked_while_another_thread_has_it_may_take_it() -> None:
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
