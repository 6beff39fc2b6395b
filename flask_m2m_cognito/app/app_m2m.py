"""What one application has of this library, for callers outside of its context too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..inbound.key_source import TrustedPool
from ..inbound.validator import CognitoAccessTokenValidator
from ..outbound.bearer_auth import BearerAuth, SessionTimeout, bearer_auth
from ..outbound.token_endpoint import CognitoM2MClient
from ..outbound.token_source import TokenSource
from ..outbound.token_sources import ClientName, Metadata, Scopes, TokenSources
from ..remote.sealed_store import SealedStore
from ..settings.app_settings import Settings
from ..telemetry.clock_offset import ClockOffset
from ..telemetry.health import Health, health_of
from ..telemetry.request_count import RequestCount
from ..web.guard import Guard
from ..web.requirement import Demand
from ..web.routes import Route, routes_of
from .warm_up import ask_all

if TYPE_CHECKING:
    import requests
    from flask import Flask


@dataclass(frozen=True)
class AppM2M:
    """One application's parts: what :meth:`CognitoM2M.for_app` gives. Needs no application context.

    Its methods are those of :class:`CognitoM2M` and are described there.

    Attributes:
        settings: what was read from the application's config.
        guard: lets requests in; ``None`` without a user pool.
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
    _app: Flask = field(repr=False)
    _clock: ClockOffset = field(repr=False)

    @property
    def validator(self) -> CognitoAccessTokenValidator:
        """Checks the tokens of the trusted pools. Raises RuntimeError without any."""
        if self._validator is None:
            raise RuntimeError("No user pool is trusted: set COGNITO_M2M_USER_POOL_ID.")
        return self._validator

    def token(
        self,
        scopes: Scopes = None,
        *,
        client: ClientName = None,
        metadata: Metadata = None,
        force_refresh: bool = False,
    ) -> str:
        """The fresh access token."""
        source = self.sources.source(scopes, client, metadata)
        return source.refreshed_token() if force_refresh else source.token()

    async def token_async(
        self,
        scopes: Scopes = None,
        *,
        client: ClientName = None,
        metadata: Metadata = None,
        force_refresh: bool = False,
    ) -> str:
        """The fresh access token, for a coroutine."""
        source = self.sources.source(scopes, client, metadata)
        return await (source.refreshed_token_async() if force_refresh else source.token_async())

    def forget(self, token: str, *, client: ClientName = None) -> None:
        """Have the next call get a newer token."""
        self.sources.check_client(client)
        for source in self.sources.of_client(client):
            source.forget(token)

    def auth(
        self,
        scopes: Scopes = None,
        *,
        client: ClientName = None,
        metadata: Metadata = None,
        retry_401: bool = True,
    ) -> BearerAuth:
        """An ``auth=`` with a fresh token for each request."""
        return bearer_auth(
            self.sources.source(scopes, client, metadata), retry_401, lambda: self.settings.allow_http_hosts
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
        """A session with a fresh token for each request."""
        from ..outbound.pooled_session import pooled_session

        auth = self.auth(scopes, client=client, metadata=metadata, retry_401=retry_401)
        return pooled_session(auth, timeout, retries)

    def client(self, name: ClientName = None) -> CognitoM2MClient:
        """The client underneath, which remembers nothing."""
        self.sources.check_client(name)
        return self._clients[name]

    @property
    def token_url(self) -> str | None:
        """Where callers of this application get tokens: the token endpoint of one of its own clients."""
        clients = self.settings.clients.values()
        urls = (each.token_urls[0] for each in clients if not each.client_token_api)
        return next(urls, None)

    @property
    def issuer(self) -> str | None:
        """The first issuer of the first trusted pool."""
        return next((trusted.pool.issuers[0] for trusted in self._pools()), None)

    @property
    def of_every_token(self) -> Demand:
        """What the settings demand of a token, whatever the view."""
        return requirement_of_every_token(self.settings)

    def health(self) -> Health:
        """The state of keys, tokens and cache, from memory."""
        return health_of(self._pools(), self.sources.all(), self._requests, self._store.backend, self._clock)

    def routes(self) -> list[Route]:
        """What each route requires, as data."""
        return routes_of(self._app)

    def warm_up(
        self, tokens: Iterable[Scopes | Mapping[str, Any]] = (), timeout: float = 5.0, required: bool = False
    ) -> Health:
        """Ask for the keys and for ``tokens`` now."""
        sources = [self._warmed(each) for each in ([tokens] if isinstance(tokens, str) else tokens)]
        asks = [*(trusted.keys.get for trusted in self._pools()), *(source.token for source in sources)]
        self._store.import_all()
        failures = ask_all(asks, timeout)
        if failures and required:
            raise failures[0]
        return self.health()

    def _warmed(self, token: Scopes | Mapping[str, Any]) -> TokenSource:
        if isinstance(token, Mapping):
            return self.sources.source(token.get("scopes"), token.get("client"))
        return self.sources.source(token)

    def _pools(self) -> tuple[TrustedPool, ...]:
        return () if self._validator is None else self._validator.pools


def requirement_of_every_token(settings: Settings) -> Demand:
    """What the settings demand of a token, whatever the view."""
    return Demand(scopes=settings.required_scopes, match=settings.scope_match)
