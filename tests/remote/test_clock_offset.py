"""The offset between this machine's clock and the servers' clocks."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from flask_m2m_cognito.remote.transport import Answer
from flask_m2m_cognito.telemetry.clock_offset import ClockOffset
from tests.support.clocks import Clocks


def dated(moment: float) -> Answer:
    return Answer("https://pool.example/", 200, {"Date": formatdate(moment, usegmt=True)}, b"")


def test_offset_is_unknown_before_the_first_answer(clocks: Clocks) -> None:
    assert ClockOffset(clocks.clock).seconds is None


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 42.0])
def test_offset_is_accurate_to_half_a_second(clocks: Clocks, ahead: float) -> None:
    offset = ClockOffset(clocks.clock)
    offset.look_at(dated(clocks.wall() + ahead))
    assert offset.seconds == pytest.approx(ahead, abs=0.5)


def test_answer_without_a_date_keeps_the_offset(clocks: Clocks) -> None:
    offset = ClockOffset(clocks.clock)
    offset.look_at(dated(clocks.wall() + 42))
    offset.look_at(Answer("https://pool.example/", 200, {}, b""))
    assert offset.seconds == pytest.approx(42, abs=0.5)
