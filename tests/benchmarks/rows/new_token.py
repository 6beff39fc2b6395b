"""A token that was never seen: ``validate()`` compared with RSA verification, base64 and JSON alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from tests.benchmarks.limits import limit_validate
from tests.benchmarks.measuring import Contender, measure_times, ratios
from tests.benchmarks.pool_process import pool_process
from tests.benchmarks.results import LIMIT, Figure, RowResult, ratio_figure, spreads
from tests.benchmarks.row import Effort, Row
from tests.benchmarks.subjects import Validate

_PASSES = 4
_EACH = 15


def _measure(effort: Effort) -> RowResult:
    rounds = effort.pick(6, 50)
    validating = [subject for subject in effort.subjects if subject.validate is not None]
    with pool_process() as pool:
        # One more round than is counted. No contender gets a token twice.
        tokens = pool.tokens((rounds + 1) * _PASSES * _EACH + 1)
        validators: dict[str, Validate] = {LIMIT: limit_validate(pool.address)}
        for subject in validating:
            assert subject.validate is not None
            validators[subject.name] = subject.validate(pool.address, 3600)
        for validate in validators.values():
            validate(tokens[0])  # loads the keys
        contenders = [_contender(name, validate, tokens[1:]) for name, validate in validators.items()]
        times = measure_times(contenders, rounds=rounds, passes=_PASSES)
    against = {name: ratios(times, name, LIMIT) for name in validators}
    in_us = spreads(times, 1e6)
    return RowResult(
        "new-token",
        "a token never seen, validate()",
        (
            ratio_figure("against RSA verify + base64 + JSON", against, target=1.15),
            Figure("a token", "us", in_us),
        ),
        (f"{len(tokens)} tokens of {len(tokens[0])} bytes, created before the run",),
    )


def _contender(name: str, validate: Validate, tokens: Sequence[str]) -> Contender:
    left: Iterator[str] = iter(tokens)

    def work(inputs: Sequence[str]) -> None:
        for token in inputs:
            validate(token)

    # Each contender gets its own copy of the text, as from a header.
    return Contender(name, work, lambda: ["".join((token,)) for token in itertools.islice(left, _EACH)])


ROW = Row("new-token", _measure)
