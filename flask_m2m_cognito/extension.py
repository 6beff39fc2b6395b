"""The extension: reads the settings, builds the parts, and passes calls on to them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask import Flask, current_app

from .app.app_m2m import AppM2M, M2MMethods
from .exceptions import ConfigurationError
from .web.decorators import authorize, require_scopes
from .web.decorators import optional_token as _optional_token
from .web.guard import EXTENSION, PrincipalLoader
from .web.protection import protect, public
from .web.request_globals import set_request_globals
from .web.requirement import REQUIREMENTS, requirements_of

# init_app imports what only it needs, so importing the package stays fast.
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
        self._last_app_name: str | None = None  # survives its application
        #: What turns a token into the application's own object, see :meth:`principal_loader`.
        self.loader: PrincipalLoader | None = None
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
        from .app.wiring import build_app_parts
        from .settings.app_settings import settings_from

        settings = settings_from(app.config, app_name=app.name)
        app.extensions[EXTENSION] = build_app_parts(app, settings, self._cache, self)
        set_request_globals(app)
        self._apps.add(app)
        self._last_app_name = app.name

    # -- tokens that come in -----------------------------------------------------------------

    def require_scopes(
        self,
        *scopes: str,
        match: ScopeMatch = "all",
        clients: Iterable[str] | None = None,
        by_method: ByMethod | None = None,
    ) -> Callable[[View], View]:
        """Decorate a view that only requests with a valid access token reach.

        For view functions, sync and async, for methods of a ``MethodView``, and for ``View.decorators``.
        It stands below the route's decorator. The token is on ``g.m2m_token`` and ``current_token``.

        Args:
            scopes: what the token must have; none is any valid token.
            match: ``"all"`` of them or ``"any"``.
            clients: client ids that may call this view; ``None`` is every one that the application lets in.
            by_method: instead of ``scopes``: for each HTTP method one scope or a list. GET covers HEAD.
                A method that is not in it is rejected with 403.

        Raises:
            ConfigurationError: an argument can't be right (a ``ValueError``), when the decorator runs.
        """
        return require_scopes(*scopes, match=match, clients=clients, by_method=by_method)

    def authorize(
        self, *scopes: str, match: ScopeMatch = "all", clients: Iterable[str] | None = None
    ) -> ValidatedAccessToken:
        """Check the current request's token in a view or a function, and return it.

        For what depends on the request, such as scopes by its body or by a row. The check and its answers are
        those of :meth:`require_scopes`; the view need not be guarded.

        Args:
            scopes: what the token must have; none is any valid token.
            match: ``"all"`` of them or ``"any"``.
            clients: client ids that may pass; ``None`` is every one that the application lets in.

        Raises:
            TokenValidationError, KeysUnavailableError: the request is rejected; it is the guard's answer.
            ConfigurationError: an argument can't be right (a ``ValueError``).
            RuntimeError: outside a request, or the application has no user pool.
        """
        return authorize(*scopes, match=match, clients=clients)

    def optional_token(self, view: View = _NOTHING) -> View:
        """Decorate a view that also serves requests without a token; an invalid token is 401.

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

        Nested blueprints are guarded, and a view's own :meth:`require_scopes` holds as well. Under
        an application's protection an unknown URL is 401 without a valid token. Automatic OPTIONS
        answers (CORS preflight) pass.

        Args:
            app_or_blueprint: an application, or a blueprint that is not registered yet.
            scopes, match, clients, by_method: as :meth:`require_scopes`.
            public: endpoints that everybody reaches, such as ``"static"``.

        Raises:
            ConfigurationError: an argument can't be right.
        """
        protect(app_or_blueprint, *scopes, match=match, clients=clients, by_method=by_method, public=public)

    def public(self, view: View = _NOTHING) -> View:
        """A decorator for a view, or a class's ``decorators``, that :meth:`protect` lets everybody reach."""
        return public(_decorated("public", view))

    def principal_loader(self, loader: Loader = _NOTHING) -> Loader:
        """Decorate the function that turns a token into the application's own object: a row, a tenant.

        Called once a request with the :class:`ValidatedAccessToken`, after every check; its result
        is on ``g.m2m_principal`` and ``current_principal``. It may reject the request by ``abort(403)``.

        Raises:
            ConfigurationError: it can't be called.
        """
        if not callable(_decorated("principal_loader", loader)):
            raise ConfigurationError(f"principal_loader decorates a function of the token, not {loader!r}.")
        self.loader = loader
        return loader

    def openapi(
        self, document: Mapping[str, Any], app: Flask | None = None, *, token_url: str | None = None
    ) -> dict[str, Any]:
        """Return a copy of an OpenAPI document in which each guarded operation has its scopes and errors.

        Args:
            document: an OpenAPI 3 or Swagger 2.0 document, as a dictionary.
            app: the application that it describes; the current one if not given.
            token_url: where callers get tokens; the token endpoint of the default client if not given.

        Raises:
            ConfigurationError: it is not such a document, or an operation in it matches no route.
        """
        from .web.openapi import with_security

        described = app if app is not None else _current_app()
        parts = self.for_app(described)
        return with_security(
            document, described, token_url or parts.token_url, parts.issuer, parts.of_every_token
        )

    # -- tokens that go out ------------------------------------------------------------------

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
            scopes: a text or a sequence; ``COGNITO_M2M_SCOPES`` if not given.
            client: a name of ``COGNITO_M2M_CLIENTS``; the default client if not given.
            metadata: text by name, sent as ``aws_client_metadata`` to the pool's Lambda triggers; merged
                over ``COGNITO_M2M_CLIENT_METADATA``. Tokens of different metadata are kept apart.
            force_refresh: return a token whose request began after this call, and raise if that fails.
                Other callers get the old token meanwhile. Each such request is billed.

        Raises:
            TokenUnavailableError: no token is cached and none could be fetched. In a view the answer
                is 503, unless the application handles it.
            ConfigurationError: the client is unknown, or scopes or metadata are invalid.
            RuntimeError: outside an application context, with several applications or none.
        """
        if scopes is None and client is None and metadata is None and not force_refresh:
            # What _parts does, for most calls: calling it is a fifth of what they cost.
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

        Methods of a rule that require the same are one :class:`Route`. What holds for every token, such as
        ``COGNITO_M2M_REQUIRED_SCOPES``, is not repeated.

        Args:
            app: the application; that of this context, or the only one, if not given.

        Raises:
            RuntimeError: this object was not initialised with it; or, without ``app``, there is no
                application context and not exactly one application.
        """
        return (self._parts() if app is None else self.for_app(app)).routes()

    def health_blueprint(self, name: str = "cognito_m2m_health") -> Blueprint:
        """A blueprint with ``/health`` and ``/ready``, to mount where probes look.

        ``/ready`` is 200 once every pool has had keys, and asks for them if not; ``/health`` has the
        details. Neither asks for a token of the caller, also under :meth:`protect` of the application: mount
        it where only probes come, or protect the blueprint itself.
        """
        from .web.health_views import health_blueprint_of

        return health_blueprint_of(self.health, self.warm_up, name)

    def for_app(self, app: Flask) -> AppM2M:
        """The same methods bound to one application, for threads, Celery tasks and scripts.

        Raises:
            RuntimeError: this object was not initialised with it.
        """
        parts: AppM2M | None = app.extensions.get(EXTENSION)
        if parts is None or parts.owner is not self:
            raise RuntimeError(f"CognitoM2M was not initialised with the application {app.name!r}.")
        return parts

    def _tokens(self, scopes: Scopes, client: ClientName, metadata: Metadata) -> FoundTokens:
        from .outbound.token_sources import FoundTokens

        return FoundTokens(lambda: self._parts().sources.get(scopes, client, metadata))

    def _parts(self) -> AppM2M:
        """The parts of the application of this context, else of the only one."""
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
                f"The application {self._last_app_name!r} that CognitoM2M was initialised with has been "
                "garbage-collected. Keep a reference to it, such as `app = create_app()` in its module."
            )
        known = ", ".join(sorted(repr(app.name) for app in apps)) or "none"
        raise RuntimeError(
            "Outside an application context CognitoM2M serves the one application that it was initialised "
            f"with, but there are {len(apps)}: {known}. Use for_app(app), or push app.app_context()."
        )


_current_app = cast("Any", current_app)._get_current_object


def _decorated(name: str, function: View) -> View:
    if function is _NOTHING:
        raise ConfigurationError(f"{name} takes no parentheses: write @m2m.{name} above the function.")
    return function
