"""The tokens of a local pool, made without HTTP: valid ones, other kinds, and malformed ones."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from ..exceptions import ConfigurationError
from ..formats.scopes import requested_scopes
from ._clients import LocalClient
from ._keys import SigningKey, generate_signing_key, sign_jws

USER_SCOPES = ("aws.cognito.signin.user.admin", "openid")

Scopes = str | Iterable[str]
Claims = dict[str, Any]
Key = RSAPrivateKey | str


class M2MHeaders(Protocol):
    """The fixture ``m2m_headers``: makes the headers of a request with a valid token."""

    def __call__(self, *scopes: str, client_id: str | None = None, **claims: Any) -> dict[str, str]: ...


class Minting:
    """The part of a pool that holds its keys and signs with them.

    What all of ``token``, ``user_token`` and ``id_token`` take:

    - ``headers``: on top of ``kid`` and ``alg`` in the token's header.
    - ``key``: sign with another key. A ``kid`` of this pool, withdrawn or not, or a private key
      of your own, which then signs under the pool's own ``kid``, as a forger would.
    - ``expires_in``: seconds, negative for a token that has expired; the pool's
      ``token_lifetime`` by default.
    - ``without``: names of claims to leave out.
    - ``**claims``: any claim, on top of the usual ones; so ``exp=…`` wins over ``expires_in``.

    A claim or a header that is given as ``None`` is left out. (``without`` is for ``client_id``,
    whose ``None`` means the default client.) For anything else there is :meth:`sign`.
    """

    def __init__(self, lock: threading.Condition, clock: Callable[[], float], token_lifetime: int) -> None:
        self._lock = lock
        self._clock = clock
        self._token_lifetime = token_lifetime
        # All keys that the pool has had; those that it publishes; the one that signs. The first key is made
        # when it is first needed, so a pool that is only asked for its settings costs nothing.
        self._keys: dict[str, SigningKey] = {}
        self._published: tuple[str, ...] = ()
        self._current: SigningKey | None = None

    @property
    def issuer(self) -> str:
        """The pool's."""
        raise NotImplementedError

    def client(self, client_id: str | None = None) -> LocalClient:
        """The pool's, by default the first."""
        raise NotImplementedError

    def token(
        self,
        scopes: Scopes | None = None,
        client_id: str | None = None,
        *,
        headers: Mapping[str, Any] | None = None,
        key: Key | None = None,
        expires_in: float | None = None,
        without: Iterable[str] = (),
        **claims: Any,
    ) -> str:
        """Return a machine's access token, as the token endpoint gives it, for any client and scopes.

        Args:
            scopes: its scopes, whether the client may have them or not. By default the
                client's scopes, or the default client's if the pool does not know the client.
            client_id: by default the pool's first client. It need not exist.
            headers, key, expires_in, without, claims: see :class:`Minting`.
        """
        usual = self._machine_claims(scopes, client_id, expires_in)
        return self._mint({**usual, **claims}, headers, key, without)

    def user_token(
        self,
        scopes: Scopes = USER_SCOPES,
        client_id: str | None = None,
        *,
        username: str = "ada",
        groups: Iterable[str] = ("staff",),
        headers: Mapping[str, Any] | None = None,
        key: Key | None = None,
        expires_in: float | None = None,
        without: Iterable[str] = (),
        **claims: Any,
    ) -> str:
        """Return a user access token: same key, same ``token_use``, and not for machines.

        Its ``sub`` is a UUID that stays the same for the same ``username``.
        """
        usual = {
            **self._user_claims(username, groups),
            "version": 2,
            "client_id": client_id if client_id is not None else self.client().client_id,
            "token_use": "access",
            "scope": " ".join(requested_scopes(scopes)),
            **self._times(expires_in),
            "username": username,
        }
        return self._mint({**usual, **claims}, headers, key, without)

    def id_token(
        self,
        client_id: str | None = None,
        *,
        username: str = "ada",
        groups: Iterable[str] = ("staff",),
        headers: Mapping[str, Any] | None = None,
        key: Key | None = None,
        expires_in: float | None = None,
        without: Iterable[str] = (),
        **claims: Any,
    ) -> str:
        """Return a user's ID token: ``token_use`` is ``"id"``, and the client is its audience."""
        usual = {
            **self._user_claims(username, groups),
            "cognito:username": username,
            "aud": client_id if client_id is not None else self.client().client_id,
            "token_use": "id",
            **self._times(expires_in),
            "email": f"{username}@example.com",
            "email_verified": True,
        }
        return self._mint({**usual, **claims}, headers, key, without)

    def sign(
        self, payload: object, *, headers: Mapping[str, Any] | bytes | None = None, key: Key | None = None
    ) -> str:
        """Sign exactly this payload: what no pool would issue, for tests of a validator.

        Args:
            payload: anything that JSON can hold; bytes are taken as they are.
            headers: on top of ``kid`` and ``alg``; bytes are the whole header as it is. The
                signature is RS256 whatever ``alg`` says.
            key: see :class:`Minting`.
        """
        signer = self._signer(key)
        if isinstance(headers, bytes):
            return sign_jws(headers, payload, signer.private_key)
        usual = {"kid": signer.kid, "alg": "RS256"}
        return sign_jws(_without_none({**usual, **(headers or {})}), payload, signer.private_key)

    @property
    def kid(self) -> str:
        """The id of the key that signs now."""
        return self._signer(None).kid

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of the keys in the JWKS, the oldest first."""
        with self._lock:
            self._signer(None)
            return self._published

    def jwks(self) -> dict[str, Any]:
        """Return a new copy of the key set as the JWKS endpoint gives it."""
        with self._lock:
            return {"keys": [self._keys[kid].jwk() for kid in self.kids]}

    def rotate_key(self, keep_old: bool = True) -> str:
        """Sign with a new key from now on, and return its id.

        Args:
            keep_old: whether the JWKS goes on showing the keys that it shows now.
        """
        new = generate_signing_key()
        with self._lock:
            self._keys[new.kid] = self._current = new
            self._published = (*self._published, new.kid) if keep_old else (new.kid,)
        return new.kid

    def withdraw_key(self, kid: str) -> None:
        """Take a key out of the JWKS; ``key=kid`` still signs with it.

        Raises:
            ConfigurationError: the pool never had a key of this id.
        """
        with self._lock:
            withdrawn = self._signer(kid).kid
            self._published = tuple(kept for kept in self._published if kept != withdrawn)

    def _client_or_default(self, client_id: str) -> LocalClient:
        raise NotImplementedError

    def _mint(
        self,
        claims: Claims,
        headers: Mapping[str, Any] | None,
        key: Key | None,
        without: Iterable[str],
    ) -> str:
        left_out = {without} if isinstance(without, str) else set(without)
        kept = {name: value for name, value in _without_none(claims).items() if name not in left_out}
        return self.sign(kept, headers=headers, key=key)

    def _signer(self, key: Key | None) -> SigningKey:
        with self._lock:
            current = self._current or self._keys[self.rotate_key()]
            if key is None:
                return current
            if not isinstance(key, str):
                return SigningKey(current.kid, key)
            if key not in self._keys:
                raise ConfigurationError(f"This pool never had a key {key!r}.")
            return self._keys[key]

    def _machine_claims(
        self, scopes: Scopes | None, client_id: str | None, expires_in: float | None
    ) -> Claims:
        if client_id is None:
            client_id = self.client().client_id
        if scopes is None:
            scopes = self._client_or_default(client_id).scopes
        return {
            "sub": client_id,
            "token_use": "access",
            "scope": " ".join(requested_scopes(scopes)),
            "iss": self.issuer,
            "version": 2,
            "client_id": client_id,
            **self._times(expires_in),
        }

    def _user_claims(self, username: str, groups: Iterable[str]) -> Claims:
        return {
            "sub": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.issuer}/{username}")),
            "cognito:groups": [groups] if isinstance(groups, str) else list(groups),
            "iss": self.issuer,
            "origin_jti": str(uuid.uuid4()),
            "event_id": str(uuid.uuid4()),
        }

    def _times(self, expires_in: float | None) -> Claims:
        now = int(self._clock())
        lifetime = self._token_lifetime if expires_in is None else expires_in
        return {"auth_time": now, "exp": int(now + lifetime), "iat": now, "jti": str(uuid.uuid4())}


def _without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
