"""How many bytes the memory of verified tokens keeps, and whether it stays bounded."""

from __future__ import annotations

import base64
import gc
import multiprocessing
import os
import statistics
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from flask_m2m_cognito.inbound.key_set import KeySet, VerificationKey
from flask_m2m_cognito.inbound.key_source import TrustedPool, trusted_pool_from
from flask_m2m_cognito.inbound.unverified_token import UnverifiedToken
from flask_m2m_cognito.inbound.user_pool import user_pool_from
from flask_m2m_cognito.inbound.validator import CognitoAccessTokenValidator
from flask_m2m_cognito.inbound.verified_token import VerifiedToken, VerifiedTokens
from flask_m2m_cognito.testing import LocalUserPool
from tests.benchmarks.results import LIMIT, OURS, Figure, RowResult, spread_of
from tests.benchmarks.row import Effort, Row

KEPT = 4096


def _measure(effort: Effort) -> RowResult:
    real, distinct = effort.pick(256, KEPT), effort.pick(60_000, 1_000_000)
    # In separate processes, whose memory nothing else uses.
    context = multiprocessing.get_context("spawn")
    once = _alone(context, _bytes_kept, real)
    again = _alone(context, _bytes_kept_of_known, real)
    least = _alone(context, _bytes_of_claims, real)
    slope = _alone(context, _slope, distinct)
    return RowResult(
        "memory",
        "the memory of verified tokens",
        (
            Figure(
                "kept for a token seen once", "bytes", {OURS: spread_of([once]), LIMIT: spread_of([least])}
            ),
            Figure("kept for a token that came again", "bytes", {OURS: spread_of([again])}),
            Figure(f"kept for {KEPT} that came again", "MiB", {OURS: spread_of([again * KEPT / 2**20])}),
            Figure(
                f"growth while {distinct} distinct tokens pass",
                "bytes a token",
                {OURS: spread_of([slope])},
                target=0.0,
                fails_above=50.0,
            ),
        ),
        (
            f"tracemalloc over {real} real tokens; the limit is a dict from digests to JSON of claims",
            "the growth is the slope of the resident memory, with entries that were not really signed",
        ),
    )


def _alone(context: Any, work: Callable[[int], float], argument: int) -> float:
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(work, argument).result()


def _bytes_kept(count: int, times: int = 1) -> float:
    with LocalUserPool() as pool:
        own = user_pool_from(pool.pool_id, issuer=pool.issuer, jwks_url=pool.jwks_url)
        validator = CognitoAccessTokenValidator(verified_tokens=count, pools=[trusted_pool_from(own)])
        for _ in range(8):
            validator.validate(pool.token())  # creates what is created only once

        def validate() -> None:
            token = pool.token()
            for _ in range(times):
                validator.validate(token)

        return _grown(validate, count)


def _bytes_kept_of_known(count: int) -> float:
    return _bytes_kept(count, times=3)


def _bytes_of_claims(count: int) -> float:
    with LocalUserPool() as pool:
        known: dict[bytes, bytes] = {}

        def keep() -> None:
            known[os.urandom(16)] = base64.urlsafe_b64decode(pool.token().split(".")[1] + "==")

        return _grown(keep, count)


def _grown(keep: Callable[[], object], count: int) -> float:
    """Return the bytes that one call of ``keep`` leaves, measured over ``count`` of them."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(count):
            keep()
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()


def _slope(distinct: int) -> float:
    """Return the bytes of resident memory for each further token, once the memory is full."""
    trusted = trusted_pool_from(user_pool_from("us-east-1_Any"))
    key = VerificationKey("kid", "n", "e", lambda signed, signature: True)
    memory: VerifiedTokens = VerifiedTokens(KEPT)
    counts: list[int] = []
    sizes: list[int] = []
    for number in range(distinct):
        memory.put(memory.digest(f"token {number}"), _entry(trusted, key, number))
        if number >= 4 * KEPT and number % (distinct // 100) == 0:
            counts.append(number)
            sizes.append(_resident())
    return statistics.linear_regression(counts, sizes).slope


def _entry(trusted: TrustedPool, key: VerificationKey, number: int) -> VerifiedToken:
    claims = {
        "sub": "client", "client_id": "client", "token_use": "access", "scope": "inventory/read",
        "iss": "https://issuer.example", "exp": 2_000_000_000 + number, "iat": 1_000_000_000 + number,
        "jti": f"{number:036d}",
    }  # fmt: skip
    unverified = UnverifiedToken("kid", b"", b"", b"", b"", (), claims)
    return VerifiedToken(trusted, key, KeySet({}), unverified, machines_only=True, leeway=0)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


ROW = Row("memory", _measure)
