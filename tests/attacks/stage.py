"""The stage of the attacks: a guarded service, its user pool, and a server that is the attacker's own.

A case is data: what is sent, where the idea is from, and how it must be answered. The tests send each
case to a service in its steady state and to one that can't have any keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from flask import Flask, g

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.testing import LocalUserPool

OUR_KID = "the key whose private half the tests have"
SCOPE = "orders/read"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Scene:
    """The service's pool, the attacker's own, and one that never gives keys.

    The pool publishes two keys of its own and ``mine``, whose private half signs what no pool would.
    """

    def __init__(self) -> None:
        self.pool = LocalUserPool(clients={"shop": None, "reports": None}).start()
        self.elsewhere = LocalUserPool("us-east-1_Elsewhere").start()
        self.nowhere = LocalUserPool("us-east-1_Nowhere").start()
        self.nowhere.fail("jwks", status=503)
        self.first_kid = self.pool.kid
        self.pool.rotate_key()
        self.mine = new_rsa_key()
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.ed = ed25519.Ed25519PrivateKey.generate()
        self.pool.answer("jwks", {"keys": [*self.pool.jwks()["keys"], jwk_of(self.mine, OUR_KID)]})

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What a good token of the pool says; ``None`` is null, and ``...`` leaves a claim out."""
        now = int(time.time())
        usual = {
            "sub": "shop",
            "token_use": "access",
            "scope": SCOPE,
            "iss": self.pool.issuer,
            "client_id": "shop",
            "version": 2,
            "iat": now,
            "exp": now + 3600,
            "jti": "a-good-token",
        }
        return {name: value for name, value in {**usual, **changed}.items() if value is not ...}

    @property
    def requests(self) -> int:
        """How many requests all three have got."""
        return self.pool.count() + self.elsewhere.count() + self.nowhere.count()

    def stop(self) -> None:
        for pool in (self.pool, self.elsewhere, self.nowhere):
            pool.stop()


@dataclass(frozen=True)
class Attack:
    """One thing that a caller sends, and how it must be answered.

    Attributes:
        name: in words, the test's id.
        source: the RFC's section, the advisory or the test vector that it is from.
        reason: in the problem document.
        make: gives the header's value.
        status: of the answer.
        needs_no_key: it can't become good, whatever keys there are: refused without asking for any.
    """

    name: str
    source: str
    reason: str
    make: Callable[[Scene], str]
    status: int = 401
    needs_no_key: bool = True

    def __str__(self) -> str:
        return self.name


def attack(
    name: str, source: str, reason: str, token: Callable[[Scene], str], needs_no_key: bool = True
) -> Attack:
    """One that sends this as its Bearer token."""
    status = 400 if reason == "bad_header" else 401
    return Attack(name, source, reason, lambda scene: bearer(token(scene)), status, needs_no_key)


@dataclass(frozen=True)
class Reply:
    """What a caller got, and what it cost."""

    status: int
    reason: str | None
    ran: bool
    requests: int
    text: str
    headers: Any


class Service:
    """A guarded application, called without a network, and what its view did."""

    def __init__(self, scene: Scene, **settings: Any) -> None:
        self.scene = scene
        self.runs = 0
        self.app = Flask("attacked")
        usual = {"ALLOWED_CLIENT_IDS": ["shop"], "UNKNOWN_KEY_COOLDOWN": 86_400}
        self.app.config.update(scene.pool.config(**{**usual, **settings}))
        self.m2m = CognitoM2M(self.app)
        self.client = self.app.test_client()
        self._add_views()

    def _add_views(self) -> None:
        view = self.m2m.require_scopes(SCOPE)(self._view)
        self.app.add_url_rule("/orders", "orders", view, methods=METHODS)

    def _view(self) -> dict[str, Any]:
        self.runs += 1
        return {"client": g.m2m_token.client_id}

    def ask(self, header: str | None, path: str = "/orders", method: str = "GET", **sent: Any) -> Reply:
        """The answer to a request with this Authorization header, as the server's environ would hold it."""
        runs, requests = self.runs, self.scene.requests
        environ = {} if header is None else {"HTTP_AUTHORIZATION": header}
        response = self.client.open(path, method=method, environ_overrides=environ, **sent)
        has_problem = response.content_type == "application/problem+json" and method != "HEAD"
        problem = response.get_json() if has_problem else None
        return Reply(
            status=response.status_code,
            reason=(problem or {}).get("reason"),
            ran=self.runs > runs,
            requests=self.scene.requests - requests,
            text=response.get_data(as_text=True),
            headers=response.headers,
        )


def steady_service(scene: Scene, **settings: Any) -> Service:
    """One that has its keys, knows a good token, and has just asked for a key that there is not."""
    service = Service(scene, **settings)
    assert service.ask(good(scene)).status == 200
    assert service.ask(bearer(scene.pool.token(headers={"kid": "there is none"}))).reason == "unknown_key"
    return service


def cold_service(scene: Scene, **settings: Any) -> Service:
    """One that has never had keys, and can't have any."""
    return Service(scene, JWKS_URL=scene.nowhere.jwks_url, **settings)


def bearer(token: str) -> str:
    return f"Bearer {token}"


def good(scene: Scene) -> str:
    """The header of a good token."""
    return bearer(scene.pool.sign(scene.claims()))


def new_rsa_key(bits: int = 2048, exponent: int = 65537) -> RSAPrivateKey:
    return generate_private_key(public_exponent=exponent, key_size=bits)


def jwk_of(key: RSAPrivateKey, kid: str, /, **members: Any) -> dict[str, Any]:
    """The public half as a JWK; a member that is ``None`` is left out."""
    from jwt.algorithms import RSAAlgorithm

    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    usual = {"kty": "RSA", "kid": kid, "n": public["n"], "e": public["e"], "alg": "RS256", "use": "sig"}
    return {name: value for name, value in {**usual, **members}.items() if value is not None}
