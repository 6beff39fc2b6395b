"""Many wait for one event."""

from __future__ import annotations

import threading
import time

from flask_m2m_cognito.remote.turnstile import Turnstile
from tests.remote.moved import together


def test_nobody_passes_before_it_is_opened_and_everybody_afterwards() -> None:
    turnstile = Turnstile()
    assert not turnstile.passed(0.0)
    assert not turnstile.passed(-1.0)
    turnstile.open()
    assert [turnstile.passed(0.0) for _ in range(3)] == [True] * 3


def test_all_who_wait_pass_when_it_is_opened() -> None:
    turnstile, begun = Turnstile(), threading.Barrier(33)

    def wait() -> bool:
        begun.wait()
        return turnstile.passed(30.0)

    def open_it() -> bool:
        begun.wait()
        turnstile.open()
        return True

    jobs = [open_it, *[wait] * 32]
    began = time.monotonic()
    assert together(33, lambda: jobs.pop()()) == [True] * 33
    assert time.monotonic() - began < 30.0


def test_a_wait_that_is_too_long_to_be_counted_is_a_long_one() -> None:
    turnstile = Turnstile()
    turnstile.open()
    assert turnstile.passed(float("inf"))


def test_to_open_it_again_or_at_once_with_others_is_no_error() -> None:
    for _ in range(50):
        turnstile = Turnstile()
        together(8, turnstile.open)
        turnstile.open()
        assert turnstile.passed(0.0)
