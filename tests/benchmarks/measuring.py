"""Time contenders in turn, so the machine's load affects all of them alike.

A round has several passes. In each pass every contender has its turn, in random order. A ratio is computed
within a round, so it does not matter if the machine's speed changes between rounds.
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
"""For each contender and each round, the seconds that one piece of work took."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        name: ``"ours"``, ``"limit"``, ``"bare"`` or a peer's name.
        work: does the work once for each of the inputs. It is timed.
        inputs: returns new inputs for one pass. It is not timed.
        per_input: how often ``work`` does the work for one input.
        clock: by default the CPU time of this thread, which other programs affect least.
    """

    name: str
    work: Work
    inputs: Callable[[], Sequence[Any]]
    per_input: int = 1
    clock: Callable[[], float] = time.thread_time


def measure_times(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    passes: int = 5,
    chance: random.Random | None = None,
) -> Times:
    """Return the times of each contender in ``rounds`` rounds, after one that does not count.

    Args:
        chance: the random number generator for the order.
    """
    chance = chance or random.Random()
    times: Times = {contender.name: [] for contender in contenders}
    with garbage_collection_off() as collect:
        for number in range(rounds + 1):
            collect()
            for name, seconds in _round(contenders, passes, chance).items():
                if number:
                    times[name].append(seconds)
    return times


def ratios(times: Times, name: str, reference: str) -> Spread:
    """Return the ratios of ``name`` to ``reference`` in the same round."""
    return spread_of(mine / its for mine, its in zip(times[name], times[reference], strict=True))


def overhead_ratios(times: Times, name: str, reference: str, bare: str) -> Spread:
    """Return the same ratios after subtracting ``bare`` of the same round from both."""
    rows = zip(times[name], times[reference], times[bare], strict=True)
    # Skip a round in which the reference is within the noise of bare.
    return spread_of((mine - base) / (its - base) for mine, its, base in rows if its > base)


@contextmanager
def garbage_collection_off() -> Iterator[Callable[[], object]]:
    """Collect no garbage inside the block, except when the yielded function is called."""
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
