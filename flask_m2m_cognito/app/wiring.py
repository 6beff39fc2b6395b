"""One application's parts, put together from its settings."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException

from .. import signals
from ..exceptions import ConfigurationError
from ..formats.scopes import join_scopes
from ..formats.urls import is_redis_url
from ..inbound.key_set import KeySet, NoUsableKeys, parse_key_set
from ..inbound.key_source import TrustedPool, trusted_pool_from
from ..inbound.user_pool import UserPool, user_pool_from
from ..inbound.validator import CognitoAccessTokenValidator
from ..outbound.bearer_auth import BearerAuth, SessionTimeout, bearer_auth
from ..outbound.client_secret import Secret
from ..outbound.token_endpoint import CognitoM2MClient
from ..outbound.token_source import TokenSource
from ..outbound.token_sources import ClientName, Metadata, Scopes, TokenSources
from ..remote.bounded_backend import BoundedBackend
from ..remote.clock import clock_for_new_apps
from ..remote.reports import report
from ..remote.sealed_store import Seal, SealedStore
from ..remote.transport import Answer, Transport
from ..settings.app_settings import ClientSettings, Settings, runs_without_threads
from ..telemetry.clock_offset import ClockOffset
from ..telemetry.events import Events
from ..telemetry.health import Health, health_of
from ..telemetry.instrumentation import observe_refreshes, observe_requests
from ..telemetry.request_count import RequestCount
from ..web.first_request import FirstRequest
from ..web.guard import Guard, HasPrincipalLoader
from ..web.library_errors import answer_library_errors
from ..web.misplaced import check_guards, note_app
from ..web.problems import Wording, token_unavailable
from ..web.request_globals import hide_request_token
from ..web.requirement import Demand
from ..web.resource_metadata import metadata_url, serve_metadata
from ..web.route_requirements import named_scopes_of
from ..web.routes import Route, routes_of
from .cache_backend import (
    backend_finder,
    existing_backend,
    import_client,
    is_configured,
    is_in_process,
    shares_with_others,
    unpickles,
)
from .warm_up import ask_all

if TYPE_CHECKING:
    import requests
    from flask import Flask
    from flask_caching import Cache

_logger = logging.getLogger("flask_m2m_cognito")

_CLOCK_OFFSET_TO_WARN_OF = 60.0


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
        return _of_every_token(self.settings)

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


def app_parts_from(
    app: Flask,
    settings: Settings,
    cache: Cache | None,
    owner: HasPrincipalLoader,
) -> AppM2M:
    """The parts of ``app``.

    Raises:
        ConfigurationError: the pinned keys are of no use.
    """
    return _Assembly(app, settings, cache, owner).parts()


class _Assembly:
    """What the parts have in common while they are made."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        cache: Cache | None,
        owner: HasPrincipalLoader,
    ) -> None:
        self._app = app
        self._owner = owner
        self._settings = settings
        self._cache = cache
        self._clock = clock_for_new_apps()
        self._events = Events(app, self._clock)
        self._offset = ClockOffset(self._clock)
        self._has_warned_of_clock = False
        self._wording = _wording(settings)
        self._requests = {
            name: RequestCount(each.client_id, self._clock) for name, each in settings.clients.items()
        }
        self._clients = {name: self._client(name, each) for name, each in settings.clients.items()}
        # Workers forked after this share a random key; others keep to themselves.
        self._store = SealedStore(
            self._bounded_backend(),
            Seal(settings.cache_key or os.urandom(32)),
            clock=self._clock,
        )

    def parts(self) -> AppM2M:
        settings = self._settings
        validator = self._validator() if settings.user_pool_ids else None
        guard = None if validator is None else self._guard(validator)
        FirstRequest(self._app, [answer_library_errors(guard, self._wording), check_guards])
        note_app(self._app)
        if settings.any_client_unwarned:
            _warn(_ANY_CLIENT)
        if cache_url_problem(self._app):
            _warn(f"{cache_url_problem(self._app)} {QUOTE_PASSWORD}")
        if settings.is_resource_unchecked:
            _warn(f"{RESOURCE_UNCHECKED} {SET_AUDIENCE}")
        if settings.allow_http_hosts:
            _warn(plain_http_text(settings))
        if runs_without_threads() and self._app.config.get("COGNITO_M2M_RENEW") != "inline":
            _warn(_no_threads_text(settings))
        if settings.cache_key is None and is_in_process(self._app, self._cache) is False:
            _warn(_no_key_text(settings))
        if validator is not None and settings.resource is not None:
            issuers = (trusted.pool.issuers[0] for trusted in validator.pools)
            serve_metadata(
                self._app, settings.resource, issuers, settings.resource_metadata, _of_every_token(settings)
            )
        _logger.info(*_configured(self._app.name, settings), extra={"event": "configured"})
        return AppM2M(
            settings=settings,
            guard=guard,
            sources=TokenSources(
                {name: each.scopes for name, each in settings.clients.items()}, self._token_source
            ),
            owner=self._owner,
            _validator=validator,
            _clients=self._clients,
            _requests=self._requests,
            _store=self._store,
            _app=self._app,
            _clock=self._offset,
        )

    def _guard(self, validator: CognitoAccessTokenValidator) -> Guard:
        guard = Guard(
            validator,
            self._wording,
            self._settings.header_name,
            on_accepted=self._events.token_accepted,
            listeners=signals.token_accepted.receivers,
            on_rejected=self._events.token_rejected,
            owner=self._owner,
            named_scopes=named_scopes_of(self._app),
        )
        if self._settings.header_name.lower() != "authorization":
            self._app.after_request(guard.keep_private)
        return guard

    def _validator(self) -> CognitoAccessTokenValidator:
        settings = self._settings
        return CognitoAccessTokenValidator(
            allowed_client_ids=settings.allowed_client_ids,
            required_scopes=settings.required_scopes,
            scope_match=settings.scope_match,
            audience=settings.audience or None,
            leeway=settings.leeway,
            machine_tokens_only=settings.machine_tokens_only,
            token_check=settings.token_check,
            verified_tokens=settings.verified_tokens,
            clock=self._clock,
            pools=[self._trusted_pool(pool_id) for pool_id in settings.user_pool_ids],
            answers=(HTTPException,),
            hide=hide_request_token,
        )

    def _trusted_pool(self, pool_id: str) -> TrustedPool:
        settings, of = self._settings, {"pool_id": pool_id}
        return trusted_pool_from(
            self._user_pool(pool_id),
            transport=Transport(
                settings.timeout, on_request=observe_requests(self._app, of, self._note_clock)
            ),
            times=settings.key_times,
            pinned=_pinned_keys(settings, pool_id),
            store=self._store,
            in_background=settings.renew == "background",
            observer=self._events.of_keys(pool_id),
            on_refresh=observe_refreshes(self._app, "keys", of),
            clock=self._clock,
        )

    def _user_pool(self, pool_id: str) -> UserPool:
        settings = self._settings
        return user_pool_from(
            pool_id,
            region=settings.region if len(settings.user_pool_ids) == 1 else None,
            replica_regions=settings.replica_regions,
            issuer=settings.issuer.get(pool_id),
            jwks_url=settings.jwks_url.get(pool_id),
            allow_http_hosts=settings.allow_http_hosts,
        )

    def _client(self, name: ClientName, settings: ClientSettings) -> CognitoM2MClient:
        count = self._requests[name]

        def look_at(answer: Answer) -> None:
            self._note_clock(answer)
            count.look_at(answer)

        urls = settings.token_urls
        return CognitoM2MClient(
            token_url=urls[0] if len(urls) == 1 else urls,
            client_id=settings.client_id,
            client_secret=_in_context_of(self._app, settings.client_secret),
            client_auth=settings.client_auth,
            client_metadata=settings.client_metadata,
            headers=settings.token_headers,
            client_token_api=settings.client_token_api,
            allow_http_hosts=self._settings.allow_http_hosts,
            on_request=observe_requests(self._app, _of_client(name, settings), look_at),
        )

    def _note_clock(self, answer: Answer) -> None:
        self._offset.look_at(answer)
        ahead = -(self._offset.seconds or 0.0)
        if abs(ahead) < _CLOCK_OFFSET_TO_WARN_OF or self._has_warned_of_clock:
            return
        self._has_warned_of_clock = True
        text = (
            f"This machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the "
            "servers'. Callers' tokens may be rejected as expired or not yet valid: synchronize the clock "
            "(NTP). The lifetimes of this service's own tokens do not depend on it."
        )
        extra = {"event": "clock-offset", "clock_offset": -ahead}
        report(lambda: _logger.warning(text, extra=extra))

    def _token_source(
        self, name: ClientName, scopes: tuple[str, ...], metadata: dict[str, str]
    ) -> TokenSource:
        mine, text = self._settings.clients[name], join_scopes(scopes)
        return TokenSource(
            self._clients[name],
            scopes,
            metadata,
            policy=mine.policy,
            unavailable=functools.partial(token_unavailable, wording=self._wording),
            store=self._store,
            on_refused=self._events.call_refused,
            in_background=self._settings.renew == "background",
            observer=self._events.of_token(name, mine.client_id, text),
            on_refresh=observe_refreshes(self._app, "token", {**_of_client(name, mine), "scopes": text}),
            clock=self._clock,
        )

    def _bounded_backend(self) -> BoundedBackend:
        settings = self._settings
        was_told = is_in_process(self._app, self._cache) is False
        known = existing_backend(self._app, self._cache)
        if known is not None:
            _log_if_it_unpickles(known)

        def on_found(backend: Any) -> None:
            # In a request, so only to the log: where warnings are errors, the cache would have failed.
            if not was_told and settings.cache_key is None and shares_with_others(backend):
                text = _no_key_text(settings)
                report(lambda: _logger.warning(text, extra={"event": "configuration"}))
            if backend is not known:
                _log_if_it_unpickles(backend)

        return BoundedBackend(
            backend_finder(self._app, self._cache, on_found),
            is_configured=functools.partial(is_configured, self._app, self._cache),
            import_client=functools.partial(import_client, self._app, self._cache),
            timeout=settings.store_timeout,
            context=self._app.app_context,
            on_change=self._events.store_changed,
            clock=self._clock,
        )


def _in_context_of(app: Flask, secret: Secret) -> Secret:
    """Return ``secret``; a callable of the application's may use ``current_app`` on whatever thread."""
    if not callable(secret):
        return secret

    def ask() -> str | Sequence[str]:
        with app.app_context():
            return secret()

    return ask


def _of_client(name: ClientName, settings: ClientSettings) -> dict[str, str]:
    return {"client": name or "default", "client_id": settings.client_id}


def _of_every_token(settings: Settings) -> Demand:
    """What the settings demand of a token, whatever the view."""
    return Demand(scopes=settings.required_scopes, match=settings.scope_match)


def _wording(settings: Settings) -> Wording:
    suffix = ""
    if settings.resource is not None:
        suffix = f', resource_metadata="{metadata_url(settings.resource)}"'
    return Wording(settings.realm, settings.problem_type_base, suffix)


def _pinned_keys(settings: Settings, pool_id: str) -> KeySet | None:
    if pool_id not in settings.jwks:
        return None
    try:
        return parse_key_set(settings.jwks[pool_id])
    except NoUsableKeys as error:
        raise ConfigurationError(
            f"COGNITO_M2M_JWKS, for the user pool {pool_id}: {error}. "
            "Use the pool's jwks.json, with RSA keys of 2048 bits or more."
        ) from None


_ANY_CLIENT = (
    "COGNITO_M2M_ALLOWED_CLIENT_IDS is not set, nor COGNITO_M2M_REQUIRED_SCOPES or COGNITO_M2M_AUDIENCE: "
    "each client of the user pool passes a guard without scopes. List the clients that may call, "
    "or say '*' if all of them may."
)
RESOURCE_UNCHECKED = (
    "COGNITO_M2M_RESOURCE is set and COGNITO_M2M_AUDIENCE is not: tokens that are bound to another resource "
    "(their aud) are accepted."
)
SET_AUDIENCE = "Set COGNITO_M2M_AUDIENCE to this service's resource."
_PICKLE = "The cache %s reads with pickle: whoever can write to it can run code in this process. %s"
_PICKLE_ADVICE = "Set CACHE_SERIALIZER to cachelib's JSONSerializer, or leave making the cache to CognitoM2M."
_PICKLE_ALWAYS = "It can't do otherwise: let nobody else write to it."


def _log_if_it_unpickles(backend: Any) -> None:
    if unpickles(backend):
        advice = _PICKLE_ADVICE if hasattr(backend, "serializer") else _PICKLE_ALWAYS
        kind, extra = type(backend).__name__, {"event": "cache-unpickles"}
        report(lambda: _logger.warning(_PICKLE, kind, advice, extra=extra))


def _configured(app_name: str, settings: Settings) -> tuple[str, str, str, str]:
    """The arguments of the log record that says what an application is configured for."""
    pools = "trusts no user pool"
    if settings.user_pool_ids:
        allowed = settings.allowed_client_ids
        of = "those of a callable" if callable(allowed) else ", ".join(sorted(allowed or ())) or "any"
        pools = f"trusts {', '.join(settings.user_pool_ids)} (allowed clients: {of})"
    calls = ", ".join(each.client_id for each in settings.clients.values())
    return "%s %s and %s.", app_name, pools, f"calls as {calls}" if calls else "has no client for calls"


def plain_http_text(settings: Settings) -> str:
    """What plain http to the allowed hosts means; ``flask m2m check`` says the same."""
    hosts = ", ".join(settings.allow_http_hosts)
    return (
        f"COGNITO_M2M_ALLOW_HTTP_HOSTS allows plain http to {hosts}: anyone on the network path can read the "
        "tokens and secrets that are sent there. If COGNITO_M2M_ISSUER or COGNITO_M2M_JWKS_URL is such a "
        "URL, they choose the signing keys, and so can forge tokens."
    )


def cache_url_problem(app: Flask) -> str | None:
    """What is wrong with the ``CACHE_REDIS_URL`` of an application, or ``None``. Quotes nothing of it."""
    url = app.config.get("CACHE_REDIS_URL")
    is_used = "redis" in str(app.config.get("CACHE_TYPE")).lower()
    if not is_used or not isinstance(url, str) or is_redis_url(url):
        return None
    return "CACHE_REDIS_URL cannot be parsed (not shown), so the cache is unavailable."


QUOTE_PASSWORD = (
    "The password in it must be percent-encoded, as urllib.parse.quote(password, safe='') returns it."
)


def _no_key_text(settings: Settings) -> str:
    problem = "is shorter than 16 bytes" if settings.cache_key_too_short else "is not set"
    return (
        f"COGNITO_M2M_CACHE_KEY (or SECRET_KEY) {problem}, so that what is put into the cache is sealed with "
        "a random key: only workers forked from this process share it. Set the same COGNITO_M2M_CACHE_KEY, "
        "of 16 bytes or more, for every process."
    )


def _no_threads_text(settings: Settings) -> str:
    consequence = "requests wait for the renewal of keys and tokens (COGNITO_M2M_RENEW is 'inline')"
    if settings.renew == "background":
        consequence = "COGNITO_M2M_RENEW = 'background' does not work: renewals stand still and time out"
    return f"uWSGI runs without threads, so {consequence}. Set enable-threads in uWSGI's configuration."


def _warn(message: str) -> None:
    """For whoever starts the application by hand, and for whoever reads its log."""
    if _logger.hasHandlers():  # else logging itself would print it, beside the warning
        _logger.warning(message, extra={"event": "configuration"})
    warnings.warn(message, stacklevel=5)  # whoever called init_app
