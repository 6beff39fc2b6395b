"""The parts of one application, and the methods that use them.

``import flask_m2m_cognito`` imports this module, so what only a call needs is imported in that call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..web.requirement import Requirement

if TYPE_CHECKING:
    from datetime import datetime

    import requests
    from flask import Flask

    from ..inbound.key_source import TrustedPool
    from ..inbound.revocation_source import RevocationSource
    from ..inbound.validator import CognitoAccessTokenValidator
    from ..outbound.bearer_auth import BearerAuth, SessionTimeout
    from ..outbound.token_endpoint import CognitoM2MClient
    from ..outbound.token_source import TokenSource
    from ..outbound.token_sources import ClientName, FoundTokens, Metadata, Scopes, TokenSources
    from ..remote.sealed_store import SealedStore
    from ..settings.app_settings import Settings
    from ..telemetry.clock_offset import ClockOffset
    from ..telemetry.health import Health
    from ..telemetry.request_count import RequestCount
    from ..web.guard import Guard
    from ..web.routes import Route


class M2MMethods:
    """The methods that :class:`CognitoM2M` and :class:`AppM2M` both offer."""

    def _parts(self) -> AppM2M:
        """Return the parts of the application that a call uses."""
        raise NotImplementedError

    def _tokens(self, scopes: Scopes, client: ClientName, metadata: Metadata) -> TokenSource | FoundTokens:
        """Return the token source of :meth:`auth`."""
        raise NotImplementedError

    @property
    def validator(self) -> CognitoAccessTokenValidator:
        """The validator for tokens of the trusted pools. Raises RuntimeError if no pool is configured."""
        validator = self._parts()._validator
        if validator is None:
            raise RuntimeError("No user pool is configured. Set COGNITO_M2M_USER_POOL_ID.")
        return validator

    async def token_async(
        self,
        scopes: Scopes = None,
        *,
        client: ClientName = None,
        metadata: Metadata = None,
        force_refresh: bool = False,
    ) -> str:
        """Return a fresh access token, like :meth:`token`, without blocking the event loop.

        The arguments and exceptions are those of :meth:`token`. The first fetch imports modules on the event
        loop's thread: call :meth:`warm_up` at start if that matters.
        """
        source = self._parts().sources.get(scopes, client, metadata)
        return await (source.refreshed_token_async() if force_refresh else source.token_async())

    def auth(
        self,
        scopes: Scopes = None,
        *,
        client: ClientName = None,
        metadata: Metadata = None,
        retry_401: bool = True,
    ) -> BearerAuth:
        """Return an ``auth=`` for requests, httpx and httpx2 that adds a fresh token to each request.

        A redirect to another scheme, host or port does not get the token.

        Args:
            scopes, client, metadata: as for :meth:`token`.
            retry_401: after a 401 ``invalid_token``, retry once with a newer token, if the
                body can be sent again.

        Raises, when a request is sent:
            ConfigurationError: its URL is not https, and is not http to loopback or ``ALLOW_HTTP_HOSTS``.
            TokenUnavailableError: as for :meth:`token`.
        """
        from ..outbound.bearer_auth import bearer_auth

        return bearer_auth(
            self._tokens(scopes, client, metadata),
            retry_401,
            lambda: self._parts().settings.allow_http_hosts,
        )

    def session(
        self,
        scopes: Scopes = None,
        *,
        client: ClientName = None,
        metadata: Metadata = None,
        retry_401: bool = True,
        timeout: SessionTimeout = None,
        retries: int = 0,
    ) -> requests.Session:
        """Return a ``requests.Session`` that adds a fresh token to each request.

        All sessions of a process share one connection pool.

        Args:
            scopes, client, metadata, retry_401: as for :meth:`auth`.
            timeout: the default for requests that set none: seconds for connecting and for each read, one
                number or a pair.
            retries: how often a GET, HEAD, OPTIONS, PUT, DELETE or TRACE is sent again after a connection
                error, a timeout, 429, 502, 503 or 504. ``Retry-After`` is obeyed up to the timeout.

        Raises:
            ConfigurationError: ``timeout`` or ``retries`` is invalid.
        """
        from ..outbound.pooled_session import pooled_session

        auth = self.auth(scopes, client=client, metadata=metadata, retry_401=retry_401)
        return pooled_session(auth, timeout, retries)

    def forget(self, token: str, *, client: ClientName = None) -> None:
        """Report that a peer refused ``token``, so the next call gets a newer one.

        A token younger than 10 s is not replaced. While newer tokens are refused too, the time between
        replacements doubles from 30 s to 1 h. Otherwise a peer that always answers 401 would cost a token
        for each call.

        Args:
            token: the access token that the peer refused.
            client: a name of ``COGNITO_M2M_CLIENTS``, or the default client.

        Raises:
            ConfigurationError: the client is unknown.
        """
        sources = self._parts().sources
        sources.check_client(client)
        for source in sources.of_client(client):
            source.forget(token)

    def revoke(
        self,
        client_id: str,
        *,
        before: datetime | float | None = None,
        jti: str | Collection[str] | None = None,
    ) -> None:
        """Reject the access tokens of a client in every process that shares the cache.

        Other processes obey within 11 s, or when they reach the cache again. This adds to what is revoked
        already. Requires ``COGNITO_M2M_REVOCATIONS``. Cognito itself cannot revoke these tokens.

        Args:
            client_id: the id of the app client.
            before: revoke only the tokens issued before then: a time with a UTC offset, or seconds since the
                epoch, not in the future. Without ``before`` and ``jti``, every token is revoked, also those
                that are issued later, until :meth:`unrevoke`.
            jti: revoke only the tokens with this id or these ids (claim ``jti``).

        Raises:
            ConfigurationError: an argument is invalid, or ``COGNITO_M2M_REVOCATIONS`` is off.
            M2MCognitoError: the cache is unavailable.
        """
        from .revocations import revoke

        revoke(self._parts()._revocations, client_id, before, jti)

    def unrevoke(self, client_id: str, *, keep_before: datetime | float | None = None) -> None:
        """Accept the tokens of a client again, in every process within 11 s: see :meth:`revoke`.

        Args:
            client_id: the id of the app client.
            keep_before: the tokens issued before then stay revoked, such as those of a leaked secret that
                was replaced at this time. A time as in :meth:`revoke`.

        Raises:
            ConfigurationError: ``keep_before`` is invalid, or ``COGNITO_M2M_REVOCATIONS`` is off.
            M2MCognitoError: no token of the client is revoked, or the cache is unavailable.
        """
        from .revocations import unrevoke

        unrevoke(self._parts()._revocations, client_id, keep_before)

    def client(self, name: ClientName = None) -> CognitoM2MClient:
        """Return the underlying token client, which does not cache.

        Args:
            name: a name of ``COGNITO_M2M_CLIENTS``, or the default client.

        Raises:
            ConfigurationError: the client is unknown.
        """
        parts = self._parts()
        parts.sources.check_client(name)
        return parts._clients[name]

    def health(self) -> Health:
        """Return the state of keys, tokens and cache as plain data, from memory.

        For each pool and token it has the state (``fresh``, ``usable``, ``gone``), age, last success and
        error, next attempt, seconds left and source. It also has the state of the cache and of the list of
        revocations, and the clock offset from the servers' ``Date`` headers. ``ready`` becomes true once the
        keys of every pool were fetched. It stays true in an outage, in which ``status`` is ``"degraded"``.
        Durations are in seconds, times in seconds since the epoch.
        """
        from ..telemetry.health import health_of

        parts = self._parts()
        return health_of(
            parts.pools,
            parts.sources.all(),
            parts._requests,
            parts._store.backend,
            parts._clock,
            parts._revocations,
        )

    def warm_up(
        self, tokens: Iterable[Scopes | Mapping[str, Any]] = (), timeout: float = 5.0, required: bool = False
    ) -> Health:
        """Fetch the keys of each pool and the given tokens now, and return :meth:`health`.

        This also reads the list of revocations, which is no failure if the cache is unavailable.

        Args:
            tokens: for each token its scopes (``None`` for the default scopes), or arguments of
                :meth:`token`, such as ``{"scopes": "stock/read", "client": "billing"}``.
            timeout: seconds to wait in total. Unfinished fetches continue in the background.
            required: raise an exception if anything could not be fetched.

        Raises:
            KeysUnavailableError, TokenUnavailableError, TimeoutError: the first failure, with ``required``.
            ConfigurationError: a client is unknown or a scope is invalid.
        """
        from .warm_up import ask_all

        parts = self._parts()
        sources = [_source_of(parts, each) for each in ([tokens] if isinstance(tokens, str) else tokens)]
        keys = [trusted.key_source for trusted in parts.pools]
        lists = [] if parts._revocations is None else [parts._revocations.refreshable]
        failures = ask_all([*lists, *keys, *(source.refreshable for source in sources)], timeout)
        if failures and required:
            raise failures[0]
        return self.health()


@dataclass(frozen=True)
class AppM2M(M2MMethods):
    """The methods of :class:`CognitoM2M` for one application, without an application context.

    :meth:`CognitoM2M.for_app` returns it.

    Attributes:
        settings: the settings from the application's config.
        guard: accepts or rejects requests; ``None`` without a user pool.
        sources: the token sources of its clients.
        owner: the CognitoM2M that was initialised with the application.
    """

    settings: Settings
    guard: Guard | None
    sources: TokenSources
    owner: object = field(repr=False)
    _validator: CognitoAccessTokenValidator | None = field(repr=False)
    _clients: Mapping[ClientName, CognitoM2MClient] = field(repr=False)
    _requests: Mapping[ClientName, RequestCount] = field(repr=False)
    _store: SealedStore = field(repr=False)
    _revocations: RevocationSource | None = field(repr=False)
    _app: Flask = field(repr=False)
    _clock: ClockOffset = field(repr=False)

    @property
    def pools(self) -> tuple[TrustedPool, ...]:
        """The trusted pools, with their keys."""
        return () if self._validator is None else self._validator.pools

    @property
    def token_url(self) -> str | None:
        """The token endpoint of the first client that has one; callers are assumed to use the same."""
        clients = self.settings.clients.values()
        urls = (each.token_urls[0] for each in clients if not each.client_token_api)
        return next(urls, None)

    @property
    def issuer(self) -> str | None:
        """The first issuer of the first trusted pool."""
        return next((trusted.pool.issuers[0] for trusted in self.pools), None)

    @property
    def of_every_token(self) -> Requirement:
        """What the settings require of every token, for all views."""
        return requirement_of_every_token(self.settings)

    def routes(self) -> list[Route]:
        """Return what each route requires of a token: see :meth:`CognitoM2M.routes`."""
        from ..web.routes import routes_of

        return routes_of(self._app)

    def token(
        self,
        scopes: Scopes = None,
        *,
        client: ClientName = None,
        metadata: Metadata = None,
        force_refresh: bool = False,
    ) -> str:
        """Return a fresh access token: see :meth:`CognitoM2M.token`."""
        source = self.sources.get(scopes, client, metadata)
        return source.refreshed_token() if force_refresh else source.token()

    def _parts(self) -> AppM2M:
        return self

    def _tokens(self, scopes: Scopes, client: ClientName, metadata: Metadata) -> TokenSource:
        return self.sources.get(scopes, client, metadata)


def _source_of(parts: AppM2M, token: Scopes | Mapping[str, Any]) -> TokenSource:
    if isinstance(token, Mapping):
        return parts.sources.get(token.get("scopes"), token.get("client"), token.get("metadata"))
    return parts.sources.get(token)


def requirement_of_every_token(settings: Settings) -> Requirement:
    """Return what the settings require of every token, for all views."""
    return Requirement(scopes=settings.required_scopes, match=settings.scope_match)
