"""Times contenders in turn, so that whatever else the machine does meets all of them alike.

A round has several passes; in each pass every contender has its turn, in random order. A ratio is taken
within a round, so that a machine whose speed swings between rounds does not matter.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.results import Spread, spread_of

Work = Callable[[Sequence[Any]], object]
"""Does the work once for each input."""

Times = dict[str, list[float]]
"""For each contender, for each round, the seconds that one piece of work took."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        name: ``"ours"``, ``"limit"``, ``"bare"`` or a peer's name.
        work: does it for each of the inputs; this is timed.
        inputs: makes the inputs of one pass, new each time; this is not timed.
        per_input: how often ``work`` does it for one input.
        clock: by default the CPU time of this thread, which what others do on the machine lengthens least.
    """

    name: str
    work: Work
    inputs: Callable[[], Sequence[Any]]
    per_input: int = 1
    clock: Callable[[], float] = time.thread_time


def timed(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    passes: int = 5,
    chance: random.Random | None = None,
) -> Times:
    """What each contender takes, in ``rounds`` rounds after one that does not count.

    Args:
        chance: chooses the order.
    """
    chance = chance or random.Random()
    times: Times = {contender.name: [] for contender in contenders}
    with garbage_left_alone() as collect:
        for number in range(rounds + 1):
            collect()
            for name, seconds in _round(contenders, passes, chance).items():
                if number:
                    times[name].append(seconds)
    return times


def ratios(times: Times, name: str, reference: str) -> Spread:
    """What ``name`` takes against ``reference`` in the same round."""
    return spread_of(mine / its for mine, its in zip(times[name], times[reference], strict=True))


def overhead_ratios(times: Times, name: str, reference: str, bare: str) -> Spread:
    """The same, of what each takes beyond ``bare`` in the same round."""
    rows = zip(times[name], times[reference], times[bare], strict=True)
    # A reference within the noise of bare says nothing about that round.
    return spread_of((mine - base) / (its - base) for mine, its, base in rows if its > base)


@contextmanager
def garbage_left_alone() -> Iterator[Callable[[], object]]:
    """No garbage collection inside the block but when the given function is called."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield gc.collect
    finally:
        if was_on:
            gc.enable()


def _round(contenders: Sequence[Contender], passes: int, chance: random.Random) -> dict[str, float]:
    spent = dict.fromkeys((contender.name for contender in contenders), 0.0)
    pieces = dict.fromkeys(spent, 0)
    for _ in range(passes):
        for contender in chance.sample(contenders, len(contenders)):
            inputs = contender.inputs()
            begun = contender.clock()
            contender.work(inputs)
            spent[contender.name] += contender.clock() - begun
            pieces[contender.name] += len(inputs) * contender.per_input
    return {name: spent[name] / pieces[name] for name in spent}
