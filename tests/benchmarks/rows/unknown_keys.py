"""Tokens with random kids while the JWKS endpoint hangs: are valid tokens delayed or rejected?"""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.benchmarks.limits import limit_validate
from tests.benchmarks.pool_process import PoolProcess, pool_process
from tests.benchmarks.results import LIMIT, Figure, RowResult, count_figure, spread_of
from tests.benchmarks.row import Effort, Row
from tests.benchmarks.subjects import Validate
from tests.benchmarks.threads import Wait, measure_wait

ATTACKERS = 7
HANG = 2.0
PAUSE = 0.002
BETWEEN_VALID = 0.01

_KEYS = {"fresh keys": 3600.0, "keys that are no longer fresh": 1.0}


def _measure(effort: Effort) -> RowResult:
    seconds = effort.pick(1.5, 7.0)
    subjects = [s for s in effort.patient_subjects if s.fetches_keys]
    figures: list[Figure] = []
    notes: list[str] = []
    with pool_process() as pool:
        for state, fresh_for in _KEYS.items():
            limit = limit_validate(pool.address)
            waits: dict[str, list[Wait]] = {LIMIT: _measure_waits(pool, limit, seconds)}
            for subject in subjects:
                assert subject.validate is not None
                pool.reset()
                validate = subject.validate(pool.address, fresh_for)
                validate(pool.tokens(1)[0])  # loads the keys
                if fresh_for < 3600:
                    time.sleep(1.2 * fresh_for)
                waits[subject.name] = _measure_waits(pool, validate, seconds)
                notes.append(f"{state}: {subject.name} downloaded {pool.count('jwks')} times")
            figures += _figures(state, waits)
    return RowResult(
        "unknown-keys",
        f"random kids from {ATTACKERS} threads while the JWKS endpoint hangs for {HANG:g} s",
        tuple(figures),
        (
            *notes,
            "the limit, which never downloads, shows the waits that the machine itself causes",
            *effort.left_out,
        ),
    )


def _figures(state: str, waits: dict[str, list[Wait]]) -> list[Figure]:
    worst = {name: spread_of([1000 * max(w.seconds for w in each)]) for name, each in waits.items()}
    rejected = {name: spread_of([sum(w.error is not None for w in each)]) for name, each in waits.items()}
    tried = ", ".join(f"{name} {len(each)}" for name, each in waits.items())
    return [
        Figure(f"{state}: the longest wait of a valid token", "ms", worst, 10, 1000 * HANG / 4),
        count_figure(f"{state}: valid tokens rejected (of {tried})", rejected, target=0),
    ]


def _measure_waits(pool: PoolProcess, validate: Validate, seconds: float) -> list[Wait]:
    """Return the waits of new valid tokens during an attack."""
    valid = iter(pool.tokens(int(seconds / BETWEEN_VALID) + 1))
    pool.reset()
    pool.delay("jwks", HANG)
    waits: list[Wait] = []
    until = time.perf_counter() + seconds
    with _attack(pool, validate):
        for token in itertools.takewhile(lambda _: time.perf_counter() < until, valid):
            waits.append(measure_wait(_validation_of(validate, token)))
            time.sleep(BETWEEN_VALID)
    return waits


@contextmanager
def _attack(pool: PoolProcess, validate: Validate) -> Iterator[None]:
    token = pool.tokens(1)[0]
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(PAUSE):
            with suppress(Exception):
                validate(_with_random_kid(token))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        pool.recover()  # releases the threads that wait
        for thread in threads:
            thread.join(5 * HANG)


def _with_random_kid(token: str) -> str:
    header = json.dumps({"kid": secrets.token_hex(16), "alg": "RS256"}).encode()
    _, _, payload_and_signature = token.partition(".")
    return base64.urlsafe_b64encode(header).rstrip(b"=").decode() + "." + payload_and_signature


def _validation_of(validate: Validate, token: str) -> Callable[[], object]:
    return lambda: validate(token)


ROW = Row("unknown-keys", _measure)
