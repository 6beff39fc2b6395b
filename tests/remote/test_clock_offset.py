"""How far this machine's clock is from the servers'."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from flask_m2m_cognito.remote.transport import Answer
from flask_m2m_cognito.telemetry.clock_offset import ClockOffset
from tests.support.clocks import Clocks


def dated(moment: float) -> Answer:
    return Answer("https://pool.example/", 200, {"Date": formatdate(moment, usegmt=True)}, b"")


def test_before_the_first_answer_it_is_not_known(clocks: Clocks) -> None:
    assert ClockOffset(clocks.clock).seconds is None


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 42.0])
def test_it_is_good_to_half_a_second(clocks: Clocks, ahead: float) -> None:
    offset = ClockOffset(clocks.clock)
    offset.look_at(dated(clocks.wall() + ahead))
    assert offset.seconds == pytest.approx(ahead, abs=0.5)


def test_an_answer_without_a_date_leaves_what_is_known(clocks: Clocks) -> None:
    offset = ClockOffset(clocks.clock)
    offset.look_at(dated(clocks.wall() + 42))
    offset.look_at(Answer("https://pool.example/", 200, {}, b""))
    assert offset.seconds == pytest.approx(42, abs=0.5)
