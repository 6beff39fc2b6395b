"""Tokens with random kids while the JWKS endpoint hangs: do good tokens wait, or are they refused?"""

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
from tests.benchmarks.threads import Wait, waited

ATTACKERS = 7
HANG = 2.0
PAUSE = 0.002
BETWEEN_GOOD = 0.01

_KEYS = {"fresh keys": 3600.0, "keys past their fresh life": 1.0}


def _measure(effort: Effort) -> RowResult:
    seconds = effort.pick(1.5, 7.0)
    subjects = [s for s in effort.patient_subjects if s.fetches_keys]
    figures: list[Figure] = []
    notes: list[str] = []
    with pool_process() as pool:
        for state, fresh_for in _KEYS.items():
            waits: dict[str, list[Wait]] = {LIMIT: _attacked(pool, limit_validate(pool.address), seconds)}
            for subject in subjects:
                assert subject.validate is not None
                pool.begin_again()
                validate = subject.validate(pool.address, fresh_for)
                validate(pool.tokens(1)[0])  # loads the keys
                if fresh_for < 3600:
                    time.sleep(1.2 * fresh_for)
                waits[subject.name] = _attacked(pool, validate, seconds)
                notes.append(f"{state}: {subject.name} downloaded {pool.count('jwks')} times")
            figures += _figures(state, waits)
    return RowResult(
        "unknown-keys",
        f"random kids from {ATTACKERS} threads while the JWKS endpoint hangs for {HANG:g} s",
        tuple(figures),
        (
            *notes,
            "the limit, which never downloads, shows what waits the machine itself makes",
            *effort.left_out,
        ),
    )


def _figures(state: str, waits: dict[str, list[Wait]]) -> list[Figure]:
    worst = {name: spread_of([1000 * max(w.seconds for w in each)]) for name, each in waits.items()}
    refused = {name: spread_of([sum(w.error is not None for w in each)]) for name, each in waits.items()}
    tried = ", ".join(f"{name} {len(each)}" for name, each in waits.items())
    return [
        Figure(f"{state}: the longest wait of a good token", "ms", worst, 10, 1000 * HANG / 4),
        count_figure(f"{state}: good tokens refused (of {tried})", refused, target=0),
    ]


def _attacked(pool: PoolProcess, validate: Validate, seconds: float) -> list[Wait]:
    """The waits of good tokens that were never seen, beside the attackers."""
    good = iter(pool.tokens(int(seconds / BETWEEN_GOOD) + 1))
    pool.begin_again()
    pool.delay("jwks", HANG)
    waits: list[Wait] = []
    until = time.perf_counter() + seconds
    with _attack(pool, validate):
        for token in itertools.takewhile(lambda _: time.perf_counter() < until, good):
            waits.append(waited(_validated(validate, token)))
            time.sleep(BETWEEN_GOOD)
    return waits


@contextmanager
def _attack(pool: PoolProcess, validate: Validate) -> Iterator[None]:
    token = pool.tokens(1)[0]
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(PAUSE):
            with suppress(Exception):
                validate(_under_random_kid(token))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        pool.recover()  # who waits goes on
        for thread in threads:
            thread.join(5 * HANG)


def _under_random_kid(token: str) -> str:
    header = json.dumps({"kid": secrets.token_hex(16), "alg": "RS256"}).encode()
    _, _, rest = token.partition(".")
    return base64.urlsafe_b64encode(header).rstrip(b"=").decode() + "." + rest


def _validated(validate: Validate, token: str) -> Callable[[], object]:
    return lambda: validate(token)


ROW = Row("unknown-keys", _measure)
