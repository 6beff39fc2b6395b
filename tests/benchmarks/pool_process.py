"""A local user pool in a separate process, so its work is not measured."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, cast

from flask_m2m_cognito.testing import LocalUserPool

CLIENT_ID = "1example23456789abcdefghij"
"""As long as a client id of Cognito."""

GRANTED = "inventory/read inventory/write orders/read orders/write"
"""With these scopes, a token has about 860 bytes."""

NEEDED = "inventory/read"


@dataclass(frozen=True)
class Address:
    """All that a service must know about a pool."""

    pool_id: str
    issuer: str
    jwks_url: str
    token_url: str
    client_id: str
    client_secret: str

    def config(self, **extra: Any) -> dict[str, Any]:
        """Return the settings of an application that trusts the pool and is its client."""
        settings = {
            "USER_POOL_ID": self.pool_id,
            "ISSUER": self.issuer,
            "JWKS_URL": self.jwks_url,
            "TOKEN_URL": self.token_url,
            "CLIENT_ID": self.client_id,
            "CLIENT_SECRET": self.client_secret,
            "SCOPES": [NEEDED],
            "ALLOWED_CLIENT_IDS": [self.client_id],
            # Not SECRET_KEY: with it, Flask opens a session in every request.
            "CACHE_KEY": "a key of the benchmarks, longer than sixteen bytes",
            **extra,
        }
        return {f"COGNITO_M2M_{name}": value for name, value in settings.items()}


class PoolProcess:
    """The pool's methods, called over a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.address = cast("Address", pipe.recv())

    def tokens(self, count: int, scopes: str = GRANTED) -> list[str]:
        """Return ``count`` new tokens."""
        return cast("list[str]", self._call("mint", count, scopes))

    def count(self, endpoint: str) -> int:
        """Return the number of requests to ``endpoint`` since :meth:`reset`."""
        return cast("int", self._call("count", endpoint))

    def reset(self) -> None:
        """Work again, and set the counts to zero."""
        self.recover()
        self._call("clear_requests")

    def recover(self) -> None:
        """Work again, and answer the requests that wait."""
        self._call("recover")

    def delay(self, endpoint: str, seconds: float) -> None:
        """Delay the answers of ``endpoint`` from now on."""
        self._call("delay", endpoint, seconds)

    def rotate_key(self) -> None:
        """Sign with a new key from now on, and keep the others."""
        self._call("rotate_key")

    def _call(self, method: str, *arguments: object) -> object:
        self._pipe.send((method, arguments))
        return self._pipe.recv()


@contextmanager
def pool_process(token_lifetime: int = 3600) -> Iterator[PoolProcess]:
    """Run a pool until the end of the block."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_serve, args=(its, token_lifetime), daemon=True)
    process.start()
    its.close()
    try:
        yield PoolProcess(ours)
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()


def _serve(pipe: Connection, token_lifetime: int) -> None:
    with LocalUserPool(clients={CLIENT_ID: None}, token_lifetime=token_lifetime) as pool:
        pipe.send(_address_of(pool))
        while True:
            try:
                method, arguments = pipe.recv()
            except EOFError:
                return
            pipe.send(_answer(pool, method, arguments))


def _answer(pool: LocalUserPool, method: str, arguments: tuple[Any, ...]) -> object:
    if method == "mint":
        count, scopes = arguments
        return [pool.token(scopes) for _ in range(count)]
    answer = getattr(pool, method)(*arguments)
    return answer if isinstance(answer, (int, str)) else None


def _address_of(pool: LocalUserPool) -> Address:
    client = pool.client()
    return Address(pool.pool_id, pool.issuer, pool.jwks_url, pool.token_url, client.client_id, client.secret)
