"""The stage of the attacks: a guarded service, its user pool, and the attacker's server.

A case is data: what is sent, where the idea comes from, and the expected answer. The tests send each case to
a service with cached keys and to one that cannot download any.
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

OUR_KID = "a key whose private half the tests have"
SCOPE = "orders/read"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Scene:
    """The service's pool, the attacker's own, and one that never returns keys.

    The pool publishes two keys of its own and ``mine``. The tests sign with the private half of ``mine``.
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
        """Return the claims of a valid token, with changes. ``None`` is null, ``...`` leaves a claim out."""
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
            "jti": "a-valid-token",
        }
        return {name: value for name, value in {**usual, **changed}.items() if value is not ...}

    @property
    def requests(self) -> int:
        """The number of requests to all three pools."""
        return self.pool.count() + self.elsewhere.count() + self.nowhere.count()

    def stop(self) -> None:
        for pool in (self.pool, self.elsewhere, self.nowhere):
            pool.stop()


@dataclass(frozen=True)
class Attack:
    """One thing that a caller sends, and the expected answer.

    Attributes:
        name: the test's id, in words.
        source: the RFC section, the advisory or the test vector that it comes from.
        reason: the expected reason in the problem document.
        make: returns the header's value.
        status: the expected status.
        needs_no_key: no key could make it valid, so it is rejected without a download.
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
    """Build an attack that sends this as its Bearer token."""
    status = 400 if reason == "bad_header" else 401
    return Attack(name, source, reason, lambda scene: bearer(token(scene)), status, needs_no_key)


@dataclass(frozen=True)
class Reply:
    """An answer, and the requests to the pools that it caused."""

    status: int
    reason: str | None
    ran: bool
    requests: int
    text: str
    headers: Any


class Service:
    """A guarded application, called without a network. It counts the calls of its view."""

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

    def send(self, header: str | None, path: str = "/orders", method: str = "GET", **options: Any) -> Reply:
        """Send a request with this Authorization header, as a server would put it into the environ."""
        runs, requests = self.runs, self.scene.requests
        environ = {} if header is None else {"HTTP_AUTHORIZATION": header}
        response = self.client.open(path, method=method, environ_overrides=environ, **options)
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


def warm_service(scene: Scene, **settings: Any) -> Service:
    """Return a service that has keys, remembers a valid token, and just looked for an unknown key."""
    service = Service(scene, **settings)
    assert service.send(valid_header(scene)).status == 200
    assert service.send(bearer(scene.pool.token(headers={"kid": "unknown"}))).reason == "unknown_key"
    return service


def cold_service(scene: Scene, **settings: Any) -> Service:
    """Return a service without keys, which cannot download any."""
    return Service(scene, JWKS_URL=scene.nowhere.jwks_url, **settings)


def bearer(token: str) -> str:
    return f"Bearer {token}"


def valid_header(scene: Scene) -> str:
    """Return the Authorization header of a valid token."""
    return bearer(scene.pool.sign(scene.claims()))


def new_rsa_key(bits: int = 2048, exponent: int = 65537) -> RSAPrivateKey:
    return generate_private_key(public_exponent=exponent, key_size=bits)


def jwk_of(key: RSAPrivateKey, kid: str, /, **members: Any) -> dict[str, Any]:
    """Return the public half as a JWK. A member that is ``None`` is left out."""
    from jwt.algorithms import RSAAlgorithm

    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    usual = {"kty": "RSA", "kid": kid, "n": public["n"], "e": public["e"], "alg": "RS256", "use": "sig"}
    return {name: value for name, value in {**usual, **members}.items() if value is not None}
