"""Validators that trust a pool on loopback, with clocks that the test controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_m2m_cognito import CognitoAccessTokenValidator, TokenValidationError
from flask_m2m_cognito.inbound.key_source import KeyTimes, TrustedPool, trusted_pool_from
from flask_m2m_cognito.inbound.user_pool import user_pool_from
from flask_m2m_cognito.remote.refreshable import Refreshing
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import Clocks


def at_once(run: Callable[[], None]) -> None:
    """Run a function in the caller, instead of on a thread."""
    run()


def trusted(
    pool: LocalUserPool,
    clocks: Clocks,
    *,
    times: KeyTimes | None = None,
    start_thread: Callable[[Callable[[], None]], None] = at_once,
    **options: Any,
) -> TrustedPool:
    """Return ``pool`` with its keys, which the caller itself fetches over real HTTP."""
    return trusted_pool_from(
        user_pool_from(pool.pool_id, issuer=pool.issuer, jwks_url=pool.jwks_url),
        times=times,
        refreshing=Refreshing(clocks.clock, lambda: 0.0, start_thread),
        **{"spread": lambda: 0.5, **options},
    )


def validator_of(
    *pools: LocalUserPool | TrustedPool, clocks: Clocks | None = None, **options: Any
) -> CognitoAccessTokenValidator:
    """Return a validator of these pools with ``clocks``."""
    clocks = clocks or Clocks()
    return CognitoAccessTokenValidator(
        pools=[trusted(pool, clocks) if isinstance(pool, LocalUserPool) else pool for pool in pools],
        clock=clocks.clock,
        **options,
    )


def reason_of(validator: CognitoAccessTokenValidator, token: Any) -> str:
    """Return the reason for which ``validator`` rejects ``token``."""
    with pytest.raises(TokenValidationError) as raised:
        validator.validate(token)
    return raised.value.reason
