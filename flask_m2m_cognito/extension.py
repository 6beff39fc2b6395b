"""The front door: reads settings, builds the parts, hands on."""

from __future__ import annotations

import functools
import logging
import os
import warnings
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask import Flask, current_app

from .inbound.key_set import parse_key_set
from .inbound.key_source import KeyTimes, TrustedPool, trusted_pool_from
from .inbound.user_pool import UserPool, user_pool_from
from .inbound.validator import CognitoAccessTokenValidator
from .outbound.bearer_auth import BearerAuth, bearer_auth
from .outbound.token_endpoint import CognitoM2MClient
from .outbound.token_source import TokenPolicy, TokenSource
from .outbound.token_sources import ClientName, Scopes, TokenSources
from .remote.bounded_backend import BoundedBackend
from .remote.sealed_store import Seal, SealedStore
from .remote.transport import Transport
from .settings import ClientSettings, Settings, settings_from
from .state_log import refresh_log, store_log
from .web.cache_backend import backend_finder, is_in_process, shares_with_others, unpickles
from .web.demand import ByMethod
from .web.guard import EXTENSION, Guard, require_scopes
from .web.problems import TokenUnavailableProblem, Wording

if TYPE_CHECKING:
    import requests
    from flask_caching import Cache

View = TypeVar("View", bound=Callable[..., Any])

_logger = logging.getLogger("flask_m2m_cognito")


@dataclass(frozen=True)
class AppM2M:
    """One application's parts. What :meth:`CognitoM2M.for_app` gives: no application context needed.

    Attributes:
        settings: what was read from the application's config.
        guard: lets requests in; ``None`` without a user pool.
        sources: the token sources of its clients.
    """

    settings: Settings
    guard: Guard | None
    sources: TokenSources
    _validator: CognitoAccessTokenValidator | None = field(repr=False)
    _clients: dict[ClientName, CognitoM2MClient] = field(repr=False)

    @property
    def validator(self) -> CognitoAccessTokenValidator:
        """Checks the tokens of the trusted pools. Raises RuntimeError without any."""
        if self._validator is None:
            raise RuntimeError("No user pool is trusted: set COGNITO_M2M_USER_POOL_ID.")
        return self._validator

    def token(self, scopes: Scopes = None, *, client: ClientName = None) -> str:
        """The fresh access token, see :meth:`CognitoM2M.token`."""
        return self.sources.source(scopes, client).token()

    def forget(self, token: str, *, client: ClientName = None) -> None:
        """Have the next call get a newer token, see :meth:`CognitoM2M.forget`."""
        for source in self.sources.of_client(client):
            source.forget(token)

    def auth(self, scopes: Scopes = None, *, client: ClientName = None, retry_401: bool = True) -> BearerAuth:
        """An ``auth=`` with a fresh token for each request, see :meth:`CognitoM2M.auth`."""
        return bearer_auth(self.sources.source(scopes, client), retry_401)

    def session(
        self, scopes: Scopes = None, *, client: ClientName = None, retry_401: bool = True
    ) -> requests.Session:
        """A session with a fresh token for each request, see :meth:`CognitoM2M.session`."""
        return _session(self.auth(scopes, client=client, retry_401=retry_401))

    def client(self, name: ClientName = None) -> CognitoM2MClient:
        """The client underneath, which remembers nothing."""
        self.sources.check_client(name)
        return self._clients[name]


class CognitoM2M:
    """Amazon Cognito machine-to-machine tokens for Flask applications, in both directions.

    One object serves any number of applications, each with settings of its own::

        m2m = CognitoM2M()

        def create_app():
            app = Flask(__name__)
            app.config.from_prefixed_env()
            m2m.init_app(app)
            return app

    Args:
        app: initialise with this application now.
        cache: share keys and tokens over this ``flask_caching.Cache``; else over the application's own.
    """

    def __init__(self, app: Flask | None = None, *, cache: Cache | None = None) -> None:
        self._cache = cache
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read ``app``'s ``COGNITO_M2M_…`` settings and put the parts into ``app.extensions["cognito_m2m"]``.

        Raises:
            ConfigurationError: settings are wrong or missing; all of them in one message.
            RuntimeError: the application has a CognitoM2M already.
        """
        if EXTENSION in app.extensions:
            raise RuntimeError(f"The application {app.name!r} has a CognitoM2M already.")
        settings = settings_from(app.config, app_name=app.name)
        app.extensions[EXTENSION] = _parts(app, settings, self._cache)
        self._apps.add(app)

    # -- tokens that come in -----------------------------------------------------------------

    def require_scopes(
        self,
        *scopes: str,
        match: str = "all",
        clients: Iterable[str] | None = None,
        by_method: ByMethod | None = None,
    ) -> Callable[[View], View]:
        """A decorator that lets only requests with a good access token reach a view.

        See :func:`flask_m2m_cognito.require_scopes`, which is the same.
        """
        return require_scopes(*scopes, match=match, clients=clients, by_method=by_method)

    @property
    def validator(self) -> CognitoAccessTokenValidator:
        """Checks the tokens of the trusted pools. Raises RuntimeError without any."""
        return self._here().validator

    # -- tokens that go out ------------------------------------------------------------------

    def token(self, scopes: Scopes = None, *, client: ClientName = None) -> str:
        """The fresh access token, from memory except when one must be asked for.

        Args:
            scopes: a text or a sequence; ``COGNITO_M2M_SCOPES`` if not given.
            client: a name of ``COGNITO_M2M_CLIENTS``; the default client if not given.

        Raises:
            TokenUnavailableError: there is none, and none can be had now. In a view it is answered
                with 503, unless the application handles it.
            ConfigurationError: there is no such client, or that is not a scope.
            RuntimeError: outside an application context, with several applications or none.
        """
        return self._here().token(scopes, client=client)

    def auth(self, scopes: Scopes = None, *, client: ClientName = None, retry_401: bool = True) -> BearerAuth:
        """An ``auth=`` for requests and httpx that puts a fresh token on each request.

        After a 401 ``invalid_token`` it tries once more with a newer token, if ``retry_401`` and the
        body can be sent again. The token goes to no other scheme, host or port.

        Raises, when a request is sent:
            ConfigurationError: its URL is neither https nor http to loopback.
            TokenUnavailableError: as :meth:`token`.
        """
        return bearer_auth(_TokensHere(self, scopes, client), retry_401)

    def session(
        self, scopes: Scopes = None, *, client: ClientName = None, retry_401: bool = True
    ) -> requests.Session:
        """A ``requests.Session`` with :meth:`auth`. All sessions of a process share one connection pool."""
        return _session(self.auth(scopes, client=client, retry_401=retry_401))

    def forget(self, token: str, *, client: ClientName = None) -> None:
        """Say that a peer refused ``token``: the next call gets a newer one.

        A token younger than 10 s is not replaced, and none more than once in 30 s: a peer that
        answers 401 to everything must not buy a token for each call.
        """
        self._here().forget(token, client=client)

    def client(self, name: ClientName = None) -> CognitoM2MClient:
        """The client underneath, which remembers nothing."""
        return self._here().client(name)

    def for_app(self, app: Flask) -> AppM2M:
        """The same methods bound to one application, for threads, Celery tasks and scripts.

        Raises:
            RuntimeError: this object was not initialised with it.
        """
        parts = app.extensions.get(EXTENSION)
        if parts is None:
            raise RuntimeError(f"CognitoM2M was not initialised with the application {app.name!r}.")
        return cast("AppM2M", parts)

    def _here(self) -> AppM2M:
        """The parts of the application of this context, else of the only one."""
        try:
            app = _current_app()
        except RuntimeError:
            app = self._only_app()
        return self.for_app(app)

    def _only_app(self) -> Flask:
        apps = list(self._apps)
        if len(apps) == 1:
            return apps[0]
        known = ", ".join(sorted(repr(app.name) for app in apps)) or "none"
        raise RuntimeError(
            "Outside an application context CognitoM2M serves the one application that it was initialised "
            f"with, but there are {len(apps)}: {known}. Use for_app(app), or push app.app_context()."
        )


@dataclass(frozen=True, eq=False)
class _TokensHere:
    """The tokens of whichever application is the current one when a request is sent."""

    m2m: CognitoM2M
    scopes: Scopes
    client: ClientName

    def _source(self) -> TokenSource:
        return self.m2m._here().sources.source(self.scopes, self.client)

    def token(self) -> str:
        return self._source().token()

    def renew(self, refused: str) -> str:
        return self._source().renew(refused)

    def forget(self, refused: str) -> None:
        self._source().forget(refused)


_current_app = cast("Any", current_app)._get_current_object


def _session(auth: BearerAuth) -> requests.Session:
    from .outbound.pooled_session import pooled_session

    return pooled_session(auth)


def _parts(app: Flask, settings: Settings, cache: Cache | None) -> AppM2M:
    """The parts of an application, put together."""
    wording = Wording(settings.realm, settings.problem_type_base)
    store = _store(app, settings, cache)
    validator = _validator(settings, store) if settings.user_pool_ids else None
    clients = {name: _client(each) for name, each in settings.clients.items()}
    _warn_of_any_client(settings)
    return AppM2M(
        settings=settings,
        guard=None if validator is None else Guard(validator, wording, settings.header_name),
        sources=TokenSources(
            {name: each.scopes for name, each in settings.clients.items()},
            functools.partial(_token_source, settings, clients, store, wording),
        ),
        _validator=validator,
        _clients=clients,
    )


def _validator(settings: Settings, store: SealedStore) -> CognitoAccessTokenValidator:
    pools = [
        user_pool_from(
            pool_id,
            region=settings.region if len(settings.user_pool_ids) == 1 else None,
            replica_regions=settings.replica_regions,
            issuer=settings.issuer,
            jwks_url=settings.jwks_url,
        )
        for pool_id in settings.user_pool_ids
    ]
    return CognitoAccessTokenValidator(
        allowed_client_ids=settings.allowed_client_ids,
        required_scopes=settings.required_scopes,
        scope_match=settings.scope_match,
        audience=settings.audience or None,
        leeway=settings.leeway,
        machine_tokens_only=settings.machine_tokens_only,
        token_check=settings.token_check,
        verified_tokens=settings.verified_tokens,
        pools=[_trusted_pool(settings, pool, store) for pool in pools],
    )


def _trusted_pool(settings: Settings, pool: UserPool, store: SealedStore) -> TrustedPool:
    pinned = None if settings.jwks is None else parse_key_set(settings.jwks)
    return trusted_pool_from(
        pool,
        transport=Transport(settings.timeout),
        times=KeyTimes(
            fresh_for=settings.keys_fresh_for,
            usable_for=settings.keys_usable_for,
            unknown_key_cooldown=settings.unknown_key_cooldown,
            refresh_deadline=settings.refresh_deadline,
        ),
        pinned=pinned,
        store=store,
        in_background=settings.renew == "background",
        observer=refresh_log(f"the keys of user pool {pool.pool_id}"),
    )


def _client(settings: ClientSettings) -> CognitoM2MClient:
    urls = settings.token_urls
    return CognitoM2MClient(
        token_url=urls[0] if len(urls) == 1 else urls,
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        client_auth=settings.client_auth,
        client_metadata=settings.client_metadata,
    )


def _token_source(
    settings: Settings,
    clients: dict[ClientName, CognitoM2MClient],
    store: SealedStore,
    wording: Wording,
    name: ClientName,
    scopes: tuple[str, ...],
) -> TokenSource:
    mine = settings.clients[name]
    return TokenSource(
        clients[name],
        scopes,
        policy=TokenPolicy(
            fresh_fraction=mine.token_fresh_fraction,
            margin=mine.token_margin,
            timeout=mine.timeout,
            refresh_deadline=mine.refresh_deadline,
            scopes_missing=mine.scopes_missing,
        ),
        unavailable=functools.partial(TokenUnavailableProblem, wording=wording),
        store=store,
        in_background=settings.renew == "background",
        observer=refresh_log(f"an access token for client {mine.client_id}"),
    )


def _store(app: Flask, settings: Settings, cache: Cache | None) -> SealedStore:
    # Workers forked after this share the random key; others keep to themselves.
    key = settings.cache_key or os.urandom(32)
    in_process = is_in_process(app, cache)
    if in_process is False and settings.cache_key is None:
        _warn_of_no_key(settings)

    def on_found(backend: Any) -> None:
        if in_process is None and settings.cache_key is None and shares_with_others(backend):
            _warn_of_no_key(settings)
        if unpickles(backend):
            _logger.warning(
                "The cache %s reads with pickle: whoever can write to it can run code in this process. "
                "Set CACHE_SERIALIZER to cachelib's JSONSerializer, or leave making the cache to CognitoM2M.",
                type(backend).__name__,
            )

    backend = BoundedBackend(
        backend_finder(app, cache, on_found), timeout=settings.store_timeout, on_change=store_log
    )
    return SealedStore(backend, Seal(key))


def _warn_of_no_key(settings: Settings) -> None:
    problem = "is shorter than 16 bytes" if settings.cache_key_too_short else "is not set"
    _warn(
        f"COGNITO_M2M_CACHE_KEY (or SECRET_KEY) {problem}, so that what is put into the cache is sealed with "
        "a random key: only workers forked from this process share it. Set the same COGNITO_M2M_CACHE_KEY, "
        "of 16 bytes or more, for every process."
    )


def _warn_of_any_client(settings: Settings) -> None:
    if settings.any_client_unwarned:
        _warn(
            "COGNITO_M2M_ALLOWED_CLIENT_IDS is not set, nor COGNITO_M2M_REQUIRED_SCOPES or "
            "COGNITO_M2M_AUDIENCE: each client of the user pool passes a guard without scopes. List the "
            "clients that may call, or say '*' if all of them may."
        )


def _warn(message: str) -> None:
    """For whoever starts the application by hand, and for whoever reads its log."""
    _logger.warning(message)
    warnings.warn(message, stacklevel=4)
