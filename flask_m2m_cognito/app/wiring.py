"""Builds the parts of one application from its settings."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException

from .. import signals
from ..exceptions import ConfigurationError
from ..formats.scopes import join_scopes
from ..inbound.key_set import KeySet, NoUsableKeys, parse_key_set
from ..inbound.key_source import TrustedPool, trusted_pool_from
from ..inbound.revocation_source import RevocationSource
from ..inbound.user_pool import UserPool, user_pool_from
from ..inbound.validator import CognitoAccessTokenValidator
from ..outbound.client_secret import Secret
from ..outbound.token_endpoint import CognitoM2MClient
from ..outbound.token_source import TokenSource
from ..outbound.token_sources import ClientName, TokenSources
from ..remote.bounded_backend import BoundedBackend
from ..remote.clock import clock_for_new_apps
from ..remote.freshness import RefreshObserver
from ..remote.refreshable import Refreshing
from ..remote.reports import report
from ..remote.sealed_store import Seal, SealedStore
from ..remote.threads import explain_subinterpreters
from ..remote.transport import Answer, Transport
from ..settings.app_settings import ClientSettings, Settings
from ..telemetry.clock_offset import ClockOffset
from ..telemetry.events import Events
from ..telemetry.instrumentation import observe_requests
from ..telemetry.request_count import RequestCount
from ..web.first_request import prepare_first_request
from ..web.guard import Guard, HasPrincipalLoader
from ..web.problems import Wording, problem_from
from ..web.request_globals import hide_request_token
from ..web.resource_metadata import metadata_url, serve_metadata
from ..web.routes import named_scopes_of
from .advice import advice_on, no_key_text
from .app_m2m import AppM2M, requirement_of_every_token
from .cache_backend import (
    backend_finder,
    existing_backend,
    import_client,
    is_configured,
    is_in_process,
    shares_with_others,
    unpickles,
)

# The methods of AppM2M import these. Imported now, because a child that is forked during an import waits for
# it forever.
from ..outbound import bearer_auth  # noqa: F401  # isort: skip
from ..telemetry import health  # noqa: F401  # isort: skip
from . import revocations as _revocations  # noqa: F401  # isort: skip
from . import warm_up  # noqa: F401  # isort: skip

if TYPE_CHECKING:
    from flask import Flask
    from flask_caching import Cache

_logger = logging.getLogger("flask_m2m_cognito")


def build_app_parts(
    app: Flask,
    settings: Settings,
    cache: Cache | None,
    owner: HasPrincipalLoader,
) -> AppM2M:
    """Build the parts of ``app``.

    Raises:
        ConfigurationError: the pinned key set has no usable key.
    """
    return _Assembly(app, settings, cache, owner).parts()


class _Assembly:
    """Builds the parts of one application, and holds what they share meanwhile."""

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
        self._wording = _wording(settings)
        self._requests = {
            name: RequestCount(each.client_id, self._clock) for name, each in settings.clients.items()
        }
        self._clients = {name: self._client(name, each) for name, each in settings.clients.items()}
        # Without a configured key it is random: only workers forked after this share it.
        self._store = SealedStore(
            self._bounded_backend(),
            Seal(settings.cache_key or os.urandom(32)),
            clock=self._clock,
        )

    def parts(self) -> AppM2M:
        settings = self._settings
        pools = [self._trusted_pool(pool_id) for pool_id in settings.user_pool_ids]
        revocations = self._revocations(pools) if settings.revocations else None
        validator = self._validator(pools, revocations) if pools else None
        guard = None if validator is None else self._guard(validator)
        prepare_first_request(self._app, guard, self._wording)
        for text in advice_on(self._app, self._cache, settings):
            _warn(text)
        if validator is not None and settings.resource is not None:
            issuers = (trusted.pool.issuers[0] for trusted in validator.pools)
            serve_metadata(
                self._app,
                settings.resource,
                issuers,
                settings.resource_metadata,
                requirement_of_every_token(settings),
            )
        _logger.info(*_startup_record(self._app.name, settings), extra={"event": "configured"})
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
            _revocations=revocations,
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

    def _revocations(self, pools: Sequence[TrustedPool]) -> RevocationSource:
        return RevocationSource(
            self._store,
            pools,
            deadline=self._settings.key_times.refresh_deadline,
            refreshing=self._refreshing(self._events.of_revocations()),
        )

    def _validator(
        self, pools: Sequence[TrustedPool], revocations: RevocationSource | None
    ) -> CognitoAccessTokenValidator:
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
            pools=pools,
            revocations=None if revocations is None else revocations.refreshable,
            answers=(HTTPException,),
            hide=hide_request_token,
        )

    def _trusted_pool(self, pool_id: str) -> TrustedPool:
        settings, of = self._settings, {"pool_id": pool_id}
        return trusted_pool_from(
            self._user_pool(pool_id),
            transport=Transport(
                settings.timeout, on_request=observe_requests(self._app, of, self._offset.look_at)
            ),
            times=settings.key_times,
            pinned=_pinned_keys(settings, pool_id),
            store=self._store,
            refreshing=self._refreshing(self._events.of_keys(pool_id)),
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
            self._offset.look_at(answer)
            count.look_at(answer)

        of = {"client": name or "default", "client_id": settings.client_id}
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
            on_request=observe_requests(self._app, of, look_at),
        )

    def _token_source(
        self, name: ClientName, scopes: tuple[str, ...], metadata: dict[str, str]
    ) -> TokenSource:
        mine = self._settings.clients[name]
        return TokenSource(
            self._clients[name],
            scopes,
            metadata,
            policy=mine.policy,
            unavailable=functools.partial(problem_from, wording=self._wording),
            store=self._store,
            on_refused_by_peer=self._events.call_refused,
            refreshing=self._refreshing(self._events.of_token(name, mine.client_id, join_scopes(scopes))),
        )

    def _refreshing(self, observer: RefreshObserver) -> Refreshing:
        return Refreshing(
            clock=self._clock, in_background=self._settings.renew == "background", observer=observer
        )

    def _bounded_backend(self) -> BoundedBackend:
        settings = self._settings
        has_warned = is_in_process(self._app, self._cache) is False
        known = existing_backend(self._app, self._cache)
        if known is not None:
            _log_if_it_unpickles(known)

        def on_found(backend: Any) -> None:
            # Only logged, because this runs in a request: where warnings are errors, the cache would fail.
            if not has_warned and settings.cache_key is None and shares_with_others(backend):
                text = no_key_text(settings)
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
    """Return ``secret``. If it is a callable, it may use ``current_app`` on any thread."""
    if not callable(secret):
        return secret

    def call() -> str | Sequence[str]:
        with app.app_context():
            return secret()

    return call


def _wording(settings: Settings) -> Wording:
    suffix = ""
    if settings.resource is not None:
        suffix = f', resource_metadata="{metadata_url(settings.resource)}"'
    return Wording(settings.realm, settings.problem_type_base, suffix)


def _pinned_keys(settings: Settings, pool_id: str) -> KeySet | None:
    if pool_id not in settings.jwks:
        return None
    try:
        with explain_subinterpreters():
            return parse_key_set(settings.jwks[pool_id])
    except NoUsableKeys as error:
        raise ConfigurationError(
            f"COGNITO_M2M_JWKS, for the user pool {pool_id}: {error}. "
            "Use the pool's jwks.json, with RSA keys of 2048 bits or more."
        ) from None


_PICKLE = "The cache %s reads with pickle: anyone who can write to it can run code in this process. %s"
_PICKLE_ADVICE = "Set CACHE_SERIALIZER to cachelib's JSONSerializer, or let CognitoM2M create the cache."
_PICKLE_ALWAYS = "It has no other serializer, so do not let others write to it."


def _log_if_it_unpickles(backend: Any) -> None:
    if unpickles(backend):
        advice = _PICKLE_ADVICE if hasattr(backend, "serializer") else _PICKLE_ALWAYS
        kind, extra = type(backend).__name__, {"event": "cache-unpickles"}
        report(lambda: _logger.warning(_PICKLE, kind, advice, extra=extra))


def _startup_record(app_name: str, settings: Settings) -> tuple[str, str, str, str]:
    """Return the arguments of the log record that describes an application's configuration."""
    accepts = "accepts no tokens (no user pool)"
    if settings.user_pool_ids:
        allowed = settings.allowed_client_ids
        clients = "a callable decides" if callable(allowed) else ", ".join(sorted(allowed or ())) or "any"
        accepts = f"accepts tokens of {', '.join(settings.user_pool_ids)} (allowed clients: {clients})"
    ids = ", ".join(each.client_id for each in settings.clients.values())
    return "%s %s and %s.", app_name, accepts, f"requests tokens as {ids}" if ids else "requests none"


def _warn(message: str) -> None:
    """Log ``message`` and issue it as a warning, for an application that is started without a log."""
    if _logger.hasHandlers():  # without handlers, logging itself would print it as well
        _logger.warning(message, extra={"event": "configuration"})
    warnings.warn(message, stacklevel=5)  # the caller of init_app
