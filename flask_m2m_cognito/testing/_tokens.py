"""Tokens of a local pool, created without HTTP: valid ones, other kinds, and malformed ones."""

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
    """The type of the fixture ``m2m_headers``, which returns request headers with a valid token."""

    def __call__(self, *scopes: str, client_id: str | None = None, **claims: Any) -> dict[str, str]: ...


class Minting:
    """The part of a pool that has its keys, and signs with them.

    ``token``, ``user_token`` and ``id_token`` share these arguments:

    - ``headers``: members to add to ``kid`` and ``alg`` in the header of the token.
    - ``key``: the key to sign with. Either a ``kid`` of this pool, withdrawn or not; or your own
      private key, which signs under the pool's current ``kid``, as a forger would.
    - ``expires_in``: seconds until the token expires, negative for an expired token; by default the
      pool's ``token_lifetime``.
    - ``without``: names of claims to omit.
    - ``**claims``: claims that are added to the usual ones, or replace them. So ``exp=…`` overrides
      ``expires_in``.

    A claim or a header whose value is ``None`` is omitted. Use ``without`` to omit ``client_id``,
    whose ``None`` means the default client. Use :meth:`sign` for any other token.
    """

    def __init__(self, lock: threading.Condition, clock: Callable[[], float], token_lifetime: int) -> None:
        self._lock = lock
        self._clock = clock
        self._token_lifetime = token_lifetime
        # All keys that the pool ever had, the published ones, and the one that signs. The first key is
        # created on first use, so a pool that only returns its settings costs nothing.
        self._keys: dict[str, SigningKey] = {}
        self._published: tuple[str, ...] = ()
        self._current: SigningKey | None = None

    @property
    def issuer(self) -> str:
        """The issuer of the pool."""
        raise NotImplementedError

    def client(self, client_id: str | None = None) -> LocalClient:
        """Return a client of the pool, by default the first one."""
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
        """Return a client-credentials access token for any client and scopes, without HTTP.

        Args:
            scopes: the scopes of the token, even if the client may not have them. By default the
                scopes of the client, or of the default client if the pool does not know the client.
            client_id: the client, which need not exist; by default the pool's first client.
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
        """Return a user access token. It has the key and the ``token_use`` of a machine token.

        Its ``sub`` is a UUID, which is the same for each token of one ``username``.

        Args:
            headers, key, expires_in, without, claims: see :class:`Minting`.
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
        """Return a user's ID token: ``token_use`` is ``"id"``, and the client is its audience.

        Args:
            headers, key, expires_in, without, claims: see :class:`Minting`.
        """
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
        """Sign exactly this payload. For tests of a validator, with tokens that no pool issues.

        Args:
            payload: any value that JSON can represent; bytes are used unchanged.
            headers: members to add to ``kid`` and ``alg``; bytes are the whole header. The
                signature is always RS256, even if ``alg`` names another algorithm.
            key: see :class:`Minting`.
        """
        signer = self._signer(key)
        if isinstance(headers, bytes):
            return sign_jws(headers, payload, signer.private_key)
        usual = {"kid": signer.kid, "alg": "RS256"}
        return sign_jws(_without_none({**usual, **(headers or {})}), payload, signer.private_key)

    @property
    def kid(self) -> str:
        """The id of the current signing key."""
        return self._signer(None).kid

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of the published keys, the oldest first."""
        with self._lock:
            self._signer(None)
            return self._published

    def jwks(self) -> dict[str, Any]:
        """Return the key set that the JWKS endpoint serves."""
        with self._lock:
            return {"keys": [self._keys[kid].jwk() for kid in self.kids]}

    def rotate_key(self, keep_old: bool = True) -> str:
        """Create a new signing key, and return its id.

        Args:
            keep_old: whether the JWKS keeps the keys that it has now.
        """
        new = generate_signing_key()
        with self._lock:
            self._keys[new.kid] = self._current = new
            self._published = (*self._published, new.kid) if keep_old else (new.kid,)
        return new.kid

    def withdraw_key(self, kid: str) -> None:
        """Remove a key from the JWKS. ``key=kid`` still signs with it.

        Raises:
            ConfigurationError: the pool never had a key with this id.
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
                raise ConfigurationError(
                    f"This pool has no key {key!r}. Use a kid of pool.kids, or one from pool.rotate_key()."
                )
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
