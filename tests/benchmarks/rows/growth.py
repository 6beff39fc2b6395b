"""Does the time per token grow with pools, keys, scopes, routes and cached tokens?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flask import Flask

from flask_m2m_cognito.inbound.key_source import TrustedPool, trusted_pool_from
from flask_m2m_cognito.inbound.user_pool import user_pool_from
from flask_m2m_cognito.inbound.validator import CognitoAccessTokenValidator
from tests.benchmarks.measuring import Contender, Times, measure_times, ratios
from tests.benchmarks.pool_process import CLIENT_ID, GRANTED, NEEDED, PoolProcess, pool_process
from tests.benchmarks.results import OURS, Figure, RowResult, Spread, ratio_figure
from tests.benchmarks.row import Effort, Row
from tests.benchmarks.subjects import US
from tests.benchmarks.wsgi import app_with, caller, guard_of

FLAT = 1.1

Work = dict[int, tuple[CognitoAccessTokenValidator, Sequence[str]]]
"""For each size, a validator and the tokens to validate."""

_SEEN = 300
_NEW = 10


def _measure(effort: Effort) -> RowResult:
    figures: list[Figure] = []
    with pool_process() as pool:
        figures += _pools(pool, effort)
        figures += _scopes(pool, effort)
        figures += _routes(pool, effort)
        figures += _kept(pool, effort)
        figures += _keys(pool, effort)
    return RowResult(
        "growth",
        "growth",
        tuple(figures),
        ("a token with more scopes is longer: more bytes to hash, decode and split",),
    )


def _pools(pool: PoolProcess, effort: Effort) -> list[Figure]:
    tokens = pool.tokens(_NEW)
    work: Work = {size: (_validator(_pools_of(pool, size)), tokens) for size in (1, 10, 100)}
    return [*_figures("pools", _seen(work, effort)), *_figures("pools", _new(work, effort), new=True)]


def _keys(pool: PoolProcess, effort: Effort) -> list[Figure]:
    """Measure this last, because it leaves the pool with many keys."""
    work: Work = {}
    has = 1
    for size in (2, 20):
        for _ in range(size - has):
            pool.rotate_key()
        has = size
        tokens = pool.tokens(_NEW)
        validator = _validator(_pools_of(pool))
        validator.validate(tokens[0])  # loads so many keys
        work[size] = (validator, tokens)
    return [*_figures("keys", _seen(work, effort)), *_figures("keys", _new(work, effort), new=True)]


def _scopes(pool: PoolProcess, effort: Effort) -> list[Figure]:
    validator = _validator(_pools_of(pool))
    granted = {size: " ".join([NEEDED, *(f"s/{n}" for n in range(size - 1))]) for size in (1, 50, 500)}
    tokens = {size: pool.tokens(_NEW, scopes) for size, scopes in granted.items()}
    new = _new({size: (validator, each) for size, each in tokens.items()}, effort)
    seen = _requesting(pool, {size: each[:1] for size, each in tokens.items()}, effort)
    return [*_figures("scopes", seen), *_figures("scopes", new, new=True, target=None)]


def _kept(pool: PoolProcess, effort: Effort) -> list[Figure]:
    kept = effort.pick(256, 4096)
    tokens = {1: pool.tokens(1), kept: pool.tokens(kept)}
    return _figures("cached tokens, each used in turn", _requesting(pool, tokens, effort))


def _routes(pool: PoolProcess, effort: Effort) -> list[Figure]:
    """Measure what the guard adds, without werkzeug's own matching of routes."""
    token = pool.tokens(1)
    contenders = []
    for size in (10, 1000):
        bare, guarded = Flask(f"bare-{size}"), Flask(f"guarded-{size}")
        assert US.guard is not None
        guard = US.guard(guarded, pool.address)
        for number in range(size):
            bare.add_url_rule(f"/items-{number}", f"items-{number}", lambda: "some")
            guarded.add_url_rule(f"/items-{number}", f"items-{number}", guard(lambda: "some"))
        path = f"/items-{size // 2}"
        contenders += [
            caller(f"bare {size}", bare, token, 50, path),
            caller(f"guarded {size}", guarded, token, 50, path),
        ]
    times = measure_times(contenders, rounds=effort.pick(3, 40), passes=10)
    beyond = {str(size): _less(times[f"guarded {size}"], times[f"bare {size}"]) for size in (10, 1000)}
    return _figures("guarded routes", beyond)


def _pools_of(pool: PoolProcess, count: int = 1) -> list[TrustedPool]:
    """Return ``count`` pools, of which the running one is the last."""
    address = pool.address
    own = user_pool_from(address.pool_id, issuer=address.issuer, jwks_url=address.jwks_url)
    others = [user_pool_from(f"us-east-1_Other{number}") for number in range(count - 1)]
    return [trusted_pool_from(each) for each in (*others, own)]


def _validator(pools: Iterable[TrustedPool], verified_tokens: int = 4096) -> CognitoAccessTokenValidator:
    return CognitoAccessTokenValidator(
        allowed_client_ids=[CLIENT_ID],
        required_scopes=[NEEDED],
        leeway=10,
        machine_tokens_only=True,
        verified_tokens=verified_tokens,
        pools=pools,
    )


def _seen(work: Work, effort: Effort) -> Times:
    return _measure_times(work, _SEEN, effort)


def _new(work: Work, effort: Effort) -> Times:
    """Measure the same without remembered tokens, so each token is new each time."""
    forgetful: Work = {size: (_validator(each.pools, 0), tokens) for size, (each, tokens) in work.items()}
    return _measure_times(forgetful, _NEW, effort)


def _measure_times(work: Work, times: int, effort: Effort) -> Times:
    contenders = []
    for size, (validator, tokens) in work.items():
        validator.validate(tokens[0])
        contenders.append(_contender(str(size), validator, tokens, times))
    return measure_times(contenders, rounds=effort.pick(3, 40))


def _contender(
    name: str, validator: CognitoAccessTokenValidator, tokens: Sequence[str], times: int
) -> Contender:
    def work(inputs: Sequence[str]) -> None:
        for token in inputs:
            validator.validate(token)

    return Contender(name, work, lambda: ["".join((tokens[n % len(tokens)],)) for n in range(times)])


def _requesting(pool: PoolProcess, tokens: dict[int, list[str]], effort: Effort) -> Times:
    """Measure requests with these tokens to a guarded view, minus those to an unguarded one."""
    contenders = [caller("bare", app_with(None), pool.tokens(1, GRANTED), 50)]
    for size, each in tokens.items():
        app = app_with(guard_of(US, pool.address), f"guarded-{size}")
        validator = app.extensions["cognito_m2m"].validator
        for token in each:
            validator.validate(token)
        contenders.append(caller(str(size), app, each, 50))
    times = measure_times(contenders, rounds=effort.pick(3, 40), passes=10)
    bare = times.pop("bare")
    return {name: _less(seconds, bare) for name, seconds in times.items()}


def _less(guarded: list[float], bare: list[float]) -> list[float]:
    return [mine - base for mine, base in zip(guarded, bare, strict=True)]


def _figures(what: str, times: Times, new: bool = False, target: float | None = FLAT) -> list[Figure]:
    """Compare each size with the smallest."""
    smallest, *larger = times
    kind = "a new token" if new else "a seen token"
    found: list[tuple[str, Spread]] = [(size, ratios(times, size, smallest)) for size in larger]
    return [
        ratio_figure(f"{size} {what} against {smallest}: {kind}", {OURS: ratio}, target)
        for size, ratio in found
    ]


ROW = Row("growth", _measure)
