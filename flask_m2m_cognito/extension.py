"""The Flask extension: reads the settings, builds the parts, and delegates calls to them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask import Flask, current_app

from .app.app_m2m import AppM2M, M2MMethods
from .exceptions import ConfigurationError
from .web.decorators import authorize, require_scopes
from .web.decorators import optional_token as _optional_token
from .web.guard import PrincipalLoader
from .web.protection import protect, public
from .web.request_globals import EXTENSION, set_request_globals
from .web.requirement import REQUIREMENTS, requirements_of

# init_app imports the modules that only it needs, which keeps the import of the package fast.
if TYPE_CHECKING:
    from flask import Blueprint
    from flask_caching import Cache

    from .formats.scopes import ScopeMatch
    from .inbound.validated_access_token import ValidatedAccessToken
    from .outbound.token_sources import ClientName, FoundTokens, Metadata, Scopes
    from .web.requirement import ByMethod
    from .web.routes import Route

View = TypeVar("View", bound=Callable[..., Any])
Loader = TypeVar("Loader", bound=PrincipalLoader)

_NOTHING: Any = object()


class CognitoM2M(M2MMethods):
    """Validate the Amazon Cognito tokens of callers, and obtain tokens for your own calls.

    One object serves any number of applications, each with its own settings::

        m2m = CognitoM2M()

        def create_app():
            app = Flask(__name__)
            app.config.from_prefixed_env()
            m2m.init_app(app)
            return app

    Args:
        app: an application to initialise now; else call :meth:`init_app`.
        cache: the ``flask_caching.Cache`` that shares keys and tokens; by default the application's own.
    """

    def __init__(self, app: Flask | None = None, *, cache: Cache | None = None) -> None:
        self._cache = cache
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        self._last_app_name: str | None = None  # kept when the application is garbage-collected
        #: The function that turns a token into the application's own object, see :meth:`principal_loader`.
        self.loader: PrincipalLoader | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Initialise ``app`` with its ``COGNITO_M2M_…`` settings.

        The parts are stored in ``app.extensions["cognito_m2m"]``. The settings are read once. Nothing is
        fetched yet.

        Args:
            app: the application, with its configuration loaded.

        Raises:
            ConfigurationError: settings are invalid or missing. One message lists all of them.
            RuntimeError: the application already has a CognitoM2M.
        """
        if EXTENSION in app.extensions:
            raise RuntimeError(
                f"The application {app.name!r} already has a CognitoM2M. Call init_app once per application."
            )
        from .app.cache_backend import may_share
        from .app.wiring import build_app_parts
        from .settings.app_settings import settings_from

        settings = settings_from(app.config, app_name=app.name, has_shared_cache=may_share(app, self._cache))
        app.extensions[EXTENSION] = build_app_parts(app, settings, self._cache, self)
        set_request_globals(app)
        self._apps.add(app)
        self._last_app_name = app.name

    # -- incoming tokens ---------------------------------------------------------------------

    def require_scopes(
        self,
        *scopes: str,
        match: ScopeMatch = "all",
        clients: Iterable[str] | None = None,
        by_method: ByMethod | None = None,
    ) -> Callable[[View], View]:
        """Decorate a view so that only requests with a valid access token reach it.

        Put it below the route's decorator. It works on sync and async view functions, on methods of a
        ``MethodView``, and in ``View.decorators``. The view finds the token in ``g.m2m_token`` and
        ``current_token``.

        Args:
            scopes: the scopes that the token must have; without any, every valid token is accepted.
            match: ``"all"`` if the token needs all of them, ``"any"`` if one is enough.
            clients: the client ids that may call this view; ``None`` allows every client that the settings
                allow.
            by_method: instead of ``scopes``, one scope or a list for each HTTP method. GET covers HEAD. A
                method that is not in it is rejected with 403.

        Raises:
            ConfigurationError: an argument is invalid (a ``ValueError``), when the decorator runs.
        """
        return require_scopes(*scopes, match=match, clients=clients, by_method=by_method)

    def authorize(
        self, *scopes: str, match: ScopeMatch = "all", clients: Iterable[str] | None = None
    ) -> ValidatedAccessToken:
        """Check the current request's token in a view or a function, and return it.

        Use it for scopes that depend on the request, such as on its body or on a database row. The check and
        its answers are those of :meth:`require_scopes`. The view needs no guard.

        Args:
            scopes: the scopes that the token must have; without any, every valid token is accepted.
            match: ``"all"`` if the token needs all of them, ``"any"`` if one is enough.
            clients: the client ids that may call; ``None`` allows every client that the settings allow.

        Raises:
            TokenValidationError, KeysUnavailableError: the request is rejected. Unless you catch it, the
                caller gets the same answer as from a guard.
            ConfigurationError: an argument is invalid (a ``ValueError``).
            RuntimeError: there is no request, or the application has no user pool.
        """
        return authorize(*scopes, match=match, clients=clients)

    def optional_token(self, view: View = _NOTHING) -> View:
        """Decorate a view that accepts requests without a token. An invalid token gets 401.

        Without a token ``g.m2m_token`` is ``None`` and ``current_token`` is false.
        """
        return _optional_token(_decorated("optional_token", view))

    setattr(optional_token, REQUIREMENTS, requirements_of(_optional_token))  # found in lists

    def protect(
        self,
        app_or_blueprint: Flask | Blueprint,
        *scopes: str,
        match: ScopeMatch = "all",
        clients: Iterable[str] | None = None,
        by_method: ByMethod | None = None,
        public: Iterable[str] = (),
    ) -> None:
        """Require a valid token for every view of an application or a blueprint.

        Nested blueprints are guarded too, and a view's own :meth:`require_scopes` also applies. In a
        protected application, an unknown URL returns 401 unless the request has a valid token. OPTIONS
        requests that Flask answers automatically (CORS preflight) pass.

        Args:
            app_or_blueprint: an application, or a blueprint that is not registered yet.
            scopes, match, clients, by_method: as for :meth:`require_scopes`.
            public: endpoints that need no token, such as ``"static"``.

        Raises:
            ConfigurationError: an argument is invalid (a ``ValueError``).
        """
        protect(app_or_blueprint, *scopes, match=match, clients=clients, by_method=by_method, public=public)

    def public(self, view: View = _NOTHING) -> View:
        """Decorate a view that needs no token under :meth:`protect`. Also for a class's ``decorators``.

        A token in the request is ignored. A :meth:`require_scopes` on the same view still applies.
        """
        return public(_decorated("public", view))

    def principal_loader(self, loader: Loader = _NOTHING) -> Loader:
        """Decorate the function that turns a token into your own object, such as a row or a tenant.

        It is called once for each request with the :class:`ValidatedAccessToken`, after every check. Its
        result is in ``g.m2m_principal`` and ``current_principal``. It may reject the request with
        ``abort(403)``.

        Raises:
            ConfigurationError: ``loader`` is not callable.
        """
        if not callable(_decorated("principal_loader", loader)):
            raise ConfigurationError(
                f"principal_loader decorates a function that takes a token, got {loader!r}."
            )
        self.loader = loader
        return loader

    def openapi(
        self, document: Mapping[str, Any], app: Flask | None = None, *, token_url: str | None = None
    ) -> dict[str, Any]:
        """Return a copy of an OpenAPI document in which each guarded operation has its scopes and errors.

        Args:
            document: an OpenAPI 3 or Swagger 2.0 document, as a dict.
            app: the application that it describes; by default the current one.
            token_url: where callers get tokens; by default the token endpoint of the first client that has
                one.

        Raises:
            ConfigurationError: it is not such a document, or an operation in it matches no route.
        """
        from .web.openapi import with_security

        described = app if app is not None else _current_app()
        parts = self.for_app(described)
        return with_security(
            document, described, token_url or parts.token_url, parts.issuer, parts.of_every_token
        )

    # -- outgoing tokens ---------------------------------------------------------------------

    def token(
        self,
        scopes: Scopes = None,
        *,
        client: ClientName = None,
        metadata: Metadata = None,
        force_refresh: bool = False,
    ) -> str:
        """Return a fresh access token, from memory unless one must be requested.

        Args:
            scopes: the scopes, as text or a sequence; by default ``COGNITO_M2M_SCOPES``.
            client: a name of ``COGNITO_M2M_CLIENTS``; by default the default client.
            metadata: a dict of text, sent as ``aws_client_metadata`` to the pool's Lambda triggers, and
                merged over ``COGNITO_M2M_CLIENT_METADATA``. Each combination is cached separately.
            force_refresh: return a token that is requested after this call, or raise. Other callers get the
                old token meanwhile. Each such request is billed.

        Raises:
            TokenUnavailableError: no usable token is cached, and none could be fetched. In a view the caller
                gets 503, unless the application handles the error.
            ConfigurationError: the client is unknown, or the scopes or the metadata are invalid.
            RuntimeError: there is no application context, and this object has none or several applications.
        """
        if scopes is None and client is None and metadata is None and not force_refresh:
            # The same as _parts() in most calls. Calling that function is a fifth of the cost of such a call.
            try:
                parts: AppM2M | None = _current_app().extensions[EXTENSION]
            except (RuntimeError, KeyError):
                parts = None
            if parts is not None and parts.owner is self:
                get_token = parts.sources.default_token
                if get_token is not None:
                    return get_token()
        source = self._parts().sources.get(scopes, client, metadata)
        return source.refreshed_token() if force_refresh else source.token()

    # -- for operators -----------------------------------------------------------------------

    def routes(self, app: Flask | None = None) -> list[Route]:
        """Return what each route requires of a token, for a unit test; ``flask m2m routes`` prints it.

        ::

            assert {route.endpoint for route in m2m.routes(app) if route.is_open} == {"static", "about"}

        The methods of a rule that have the same requirements are one :class:`Route`. Requirements of every
        token, such as ``COGNITO_M2M_REQUIRED_SCOPES``, are not repeated.

        Args:
            app: the application; by default that of the current context, or the only one.

        Raises:
            RuntimeError: this object was not initialised with ``app``; or, without ``app``, there is no
                application context and not exactly one application.
        """
        return (self._parts() if app is None else self.for_app(app)).routes()

    def health_blueprint(self, name: str = "cognito_m2m_health") -> Blueprint:
        """Return a blueprint with ``/health`` and ``/ready`` for probes.

        ``/ready`` returns 200 once the keys of every pool were fetched, and fetches missing ones. Until then
        it returns 503. ``/health`` returns the details. Neither needs a token, not even if you
        :meth:`protect` the application. Register it where only probes can call it, or protect the blueprint
        itself.

        Args:
            name: the name of the blueprint.
        """
        from .web.health_views import health_blueprint_of

        return health_blueprint_of(self.health, self.warm_up, name)

    def for_app(self, app: Flask) -> AppM2M:
        """Return the same methods bound to one application, for threads, Celery tasks and scripts.

        Raises:
            RuntimeError: this object was not initialised with ``app``.
        """
        parts: AppM2M | None = app.extensions.get(EXTENSION)
        if parts is None or parts.owner is not self:
            raise RuntimeError(f"CognitoM2M was not initialised with {app.name!r}. Call m2m.init_app(app).")
        return parts

    def _tokens(self, scopes: Scopes, client: ClientName, metadata: Metadata) -> FoundTokens:
        from .outbound.token_sources import FoundTokens

        return FoundTokens(lambda: self._parts().sources.get(scopes, client, metadata))

    def _parts(self) -> AppM2M:
        """Return the parts of the application of this context, or of the only application."""
        try:
            app = _current_app()
        except RuntimeError:
            app = self._only_app()
        parts: AppM2M | None = app.extensions.get(EXTENSION)
        return parts if parts is not None and parts.owner is self else self.for_app(app)

    def _only_app(self) -> Flask:
        apps = list(self._apps)
        if len(apps) == 1:
            return apps[0]
        if not apps and self._last_app_name is not None:
            raise RuntimeError(
                f"The application {self._last_app_name!r} of this CognitoM2M has been garbage-collected. "
                "Keep a reference to it, such as `app = create_app()` in a module."
            )
        known = ", ".join(sorted(repr(app.name) for app in apps)) or "none"
        raise RuntimeError(
            "No application context is active, and CognitoM2M is initialised with "
            f"{len(apps)} applications: {known}. Use m2m.for_app(app), or push app.app_context()."
        )


_current_app = cast("Any", current_app)._get_current_object


def _decorated(name: str, function: View) -> View:
    if function is _NOTHING:
        raise ConfigurationError(f"{name} takes no parentheses. Write @m2m.{name} above the function.")
    return function
