"""Guards views: a request's token is validated and held to what the view demands."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from flask import Flask, Request, Response, current_app
from werkzeug.exceptions import HTTPException
from werkzeug.local import LocalProxy

from ..exceptions import ConfigurationError, KeysUnavailableError, Reason, TokenValidationError
from ..formats.scopes import ScopeMatch, has_scopes, insufficient_scope
from ..inbound.bearer import MAX_HEADER, bearer_token
from .problems import Problem, Wording, noted, problem_from, problem_from_any
from .rejection_log import Rejection
from .request_globals import EXTENSION as EXTENSION
from .request_globals import current_context, current_request, principal_of, token_of
from .requirement import ATTRIBUTE, ByMethod, Demand, demand_from, demands_of, note_guard_around

if TYPE_CHECKING:
    from ..inbound.validated_access_token import ValidatedAccessToken
    from ..inbound.validator import CognitoAccessTokenValidator
    from ..inbound.verified_token import VerifiedToken

View = TypeVar("View", bound=Callable[..., Any])

PrincipalLoader = Callable[["ValidatedAccessToken"], Any]

_PREFIX = "Bearer "
_LOADING = "loading"
"""Among what a guard holds for a request: its principal loader runs."""
_OPTIONAL = Demand(is_optional=True)


class HasPrincipalLoader(Protocol):
    """Whose loader may be set after the guard was made."""

    loader: PrincipalLoader | None


class _NoPrincipal:
    loader: PrincipalLoader | None = None


class Guard:
    """Lets requests of one application in, or raises the answer that refuses them.

    Args:
        validator: checks tokens.
        wording: the application's part of answers.
        header_name: the header that holds the token.
        on_accepted, on_rejected: are told of each request; the first only while there are ``listeners``,
            and whether the token's signature had been verified before.
        owner: has the loader that turns a token into the application's own object, or ``None``.
        named_scopes: returns every scope that the guards of a request's route name.
    """

    def __init__(
        self,
        validator: CognitoAccessTokenValidator,
        wording: Wording,
        header_name: str = "Authorization",
        *,
        on_accepted: Callable[[ValidatedAccessToken, bool], None] = lambda token, is_remembered: None,
        listeners: Collection[Any] = (),
        on_rejected: Callable[[Rejection], None] = lambda rejection: None,
        owner: HasPrincipalLoader | None = None,
        named_scopes: Callable[[Request], frozenset[str]] = lambda request: frozenset(),
    ) -> None:
        self._validator = validator
        self.recall: Callable[[str], ValidatedAccessToken | bytes] = validator.recall
        self._wording = wording
        self.on_accepted = on_accepted
        self.listeners = listeners
        self._on_rejected = on_rejected
        self.owner: HasPrincipalLoader = owner or _NoPrincipal()
        self._named_scopes = named_scopes
        self._header_name = header_name
        self.environ_key: str = "HTTP_" + header_name.upper().replace("-", "_")
        # The attribute of a request for what this guard found: its token, or nothing if it was rejected. Each
        # guard has its own, as the context of one application may be pushed inside a request to another.
        self.held_key: str = f"_flask_m2m_cognito_{id(self)}"

    def validated(self, request: Request, digest: bytes | None) -> tuple[ValidatedAccessToken, bool]:
        """The request's token, checked from the beginning, and whether its signature was known to be good.

        Args:
            digest: of what stands after ``Bearer`` and one space, if it was computed.
        """
        # In two, as a callable of the application may raise in the checks: then no frame has the token.
        verified = self._verified(request.environ, digest)
        is_remembered = verified.used
        return self._validator.check(verified), is_remembered

    def _verified(self, environ: dict[str, Any], digest: bytes | None = None) -> VerifiedToken:
        value = environ.get(self.environ_key)
        token = bearer_token([] if value is None else [value], self._header_name)
        if value is None or token is None:
            raise TokenValidationError("This request has no access token.", reason="missing_token")
        # With more spaces around the token the digest is not its own.
        return self._validator.verify(token, digest if value[7:] == token else None)

    def keep_private(self, response: Response) -> Response:
        """Keep shared caches from giving an answer that depends on this guard's header to other callers.

        For headers other than ``Authorization``, for which caches do so themselves (RFC 9111, section 3.5).
        """
        if self.held_key in current_request().__dict__:
            response.vary.add(self._header_name)
            response.cache_control.public = False
            response.cache_control.private = True
        return response

    def refusal(
        self,
        error: TokenValidationError | KeysUnavailableError,
        request: Request,
        demand: Demand,
        token: ValidatedAccessToken | None,
    ) -> HTTPException:
        """The answer to a request that was rejected, after the rejection was reported.

        Args:
            token: what passed the validator's checks, if ``demand`` is what rejected it.
        """
        if isinstance(error, TokenValidationError):
            if token is not None:
                self._identify(error, request.environ, token)
            if error.required_scopes is None:
                error.required_scopes = self._needed(request, demand)
        answer = _own_answer(error) or noted(problem_from(error, self._wording))
        self._report(error, answer, request)
        return answer

    def answer_to(
        self, error: TokenValidationError | KeysUnavailableError, request: Request
    ) -> HTTPException:
        """The answer to an error of the library that a view raised, which is a rejection too."""
        problem = problem_from_any(error, self._wording)
        token = request.__dict__.get(self.held_key, {}).get("m2m_token")
        # Only a 403 is about the request's own token for certain: a view may validate other tokens.
        if isinstance(problem, TokenValidationError):
            if token is not None and problem.code == 403:
                self._identify(problem, request.environ, token)
            if problem.required_scopes is None:
                problem.required_scopes = self._needed(request, Demand())
        answer = _own_answer(problem) or problem
        self._report(problem, answer, request)
        return answer

    def _report(self, error: Exception, answer: HTTPException, request: Request) -> None:
        self._on_rejected(
            Rejection(
                reason=getattr(error, "reason", "invalid"),
                status=answer.code or getattr(answer.response, "status_code", None) or 0,
                kid=getattr(error, "kid", None),
                pool=getattr(error, "pool", None),
                path=request.environ.get("PATH_INFO", ""),
                **_who(error),
            )
        )

    def _identify(
        self, error: TokenValidationError, environ: dict[str, Any], token: ValidatedAccessToken
    ) -> None:
        """Put on ``error`` which client was rejected, with which key of which pool."""
        error.client_id, error.token_scopes = token.client_id, token.scopes
        try:
            self._verified(environ).identify(error)
        except (TokenValidationError, KeysUnavailableError):
            return  # the key has been removed since the token passed

    def _needed(self, request: Request, demand: Demand) -> frozenset[str]:
        """Every scope that a token needs here: those of the settings, of ``demand`` and of the route."""
        here = demand.scopes_for(request.method) or frozenset()
        return self._validator.required_scopes | here | self._named_scopes(request)


def require_scopes(
    *scopes: str,
    match: ScopeMatch = "all",
    clients: Iterable[str] | None = None,
    by_method: ByMethod | None = None,
) -> Callable[[View], View]:
    """A decorator that lets only requests with a good access token reach a view.

    For view functions, sync and async, for methods of a ``MethodView``, and for ``View.decorators``.
    The token is on ``g.m2m_token``, its claims on ``g.m2m_claims``.

    Args:
        scopes: what the token must have; none is any valid token.
        match: ``"all"`` of them or ``"any"``.
        clients: client ids that may call this view; ``None`` is every one that the application lets in.
        by_method: instead of ``scopes``: for each HTTP method one scope or a list. GET covers HEAD.
            A method that is not in it is refused with 403.

    Raises:
        ConfigurationError: an argument can't be right (a ``ValueError``), when the decorator runs.
    """
    demand = demand_from(scopes, match, clients, by_method)

    def decorate(view: View) -> View:
        return guarded(view, demand)

    # Frameworks keep decorators in lists; tools that read demands find this one there.
    setattr(decorate, ATTRIBUTE, (demand,))
    return decorate


def authorize(
    *scopes: str, match: ScopeMatch = "all", clients: Iterable[str] | None = None
) -> ValidatedAccessToken:
    """Check the current request's token in a view or a function, and return it.

    For what depends on the request, such as scopes by its body or by a row. The check and its answers are
    those of :func:`require_scopes`; the view need not be guarded. A rejection leaves the request's token.

    Args:
        scopes: what the token must have; none is any valid token.
        match: ``"all"`` of them or ``"any"``.
        clients: client ids that may pass; ``None`` is every one that the application lets in.

    Raises:
        TokenValidationError, KeysUnavailableError: the request is rejected; it is the guard's answer.
        ConfigurationError: an argument can't be right (a ``ValueError``).
        RuntimeError: outside a request, or the application has no guard.
    """
    demand = demand_from(scopes, match, clients, None)
    parts = current_context().app.extensions.get(EXTENSION)
    guard: Guard | None = None if parts is None else parts.guard
    # A coroutine function can't be run inside the event loop that runs an async view.
    loads = guard is None or not (_in_event_loop() and inspect.iscoroutinefunction(guard.owner.loader))
    is_remembered = admit(demand, loads)
    token: ValidatedAccessToken = token_of(current_context())
    if is_remembered is not None and guard is not None and guard.listeners:
        guard.on_accepted(token, is_remembered)  # without its principal, which nobody loads
    return token


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def optional_token(view: View) -> View:
    """A decorator: a request without a token reaches the view as nobody's, one with a bad token is refused.

    Without a token ``g.m2m_token`` is ``None`` and ``current_token`` is false.
    """
    if not callable(view):
        raise ConfigurationError(f"optional_token decorates a view function, not {view!r}.")
    return guarded(view, _OPTIONAL)


# As the decorator that require_scopes returns, for tools that find it in a list.
setattr(optional_token, ATTRIBUTE, (_OPTIONAL,))


def guarded(view: View, demand: Demand) -> View:
    """``view``, reached only by requests that meet ``demand``."""
    if inspect.isclass(view):
        raise ConfigurationError(
            f"require_scopes guards functions: for the class {view.__name__} use its "
            "decorators = [require_scopes(…)], or decorate its methods."
        )
    if not callable(view):  # such as Flask-Sock's route, which returns nothing
        raise ConfigurationError(
            f"require_scopes decorates a view function, got {view!r}: put the route's decorator above it."
        )
    wrapper: Callable[..., Any]
    if inspect.iscoroutinefunction(view):

        @functools.wraps(view)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            is_remembered = admit(demand, loads=False)
            if is_remembered is not None:
                await _load_principal(demand, is_remembered)
            return await view(*args, **kwargs)

    else:

        @functools.wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            admit(demand)
            return view(*args, **kwargs)

    setattr(wrapper, ATTRIBUTE, (demand, *demands_of(view)))
    note_guard_around(view)
    return cast("View", wrapper)


def admit(demand: Demand, loads: bool = True) -> bool | None:
    """Put the token on the current request, where ``flask.g`` finds it, if it meets ``demand``.

    A request that is rejected keeps the token that it had.

    All that a request pays is in here and in :meth:`CognitoAccessTokenValidator.recall`: inside a
    request each call of a function costs a few times what it costs in a loop.

    Args:
        loads: whether the application's own object is put there as well; else that is the caller's.

    Returns:
        ``None``, or with ``loads=False``, where it is still to be loaded, whether the token was remembered.

    Raises:
        HTTPException: it is not, or there is none: a Problem, or what the application's own check raised.
        RuntimeError: the application has no guard.
    """
    context, request = current_context(), current_request()
    parts = context.app.extensions.get(EXTENSION)
    guard: Guard | None = None if parts is None else parts.guard
    if guard is None:
        raise _no_guard(context.app, parts)
    held = request.__dict__.setdefault(guard.held_key, {})
    refusal = value = None
    known: Any = None
    token: Any = None  # until one has passed the validator's checks
    try:
        value = request.environ.get(guard.environ_key)
        if value is not None and value.startswith(_PREFIX) and len(value) <= MAX_HEADER:
            # A token that is remembered was taken apart strictly when it was new.
            known = guard.recall(value[7:])
        value = None
        if known is None or known.__class__ is bytes:
            token, is_remembered = guard.validated(request, known)
        else:
            token, is_remembered = known, True
        if not (demand.is_plain and demand.scopes <= token.scopes):
            # Flask dispatches by request.method, which an application may override.
            _hold(token, demand, request.method)
    except (TokenValidationError, KeysUnavailableError) as error:
        value = None  # as error trackers send what is in each frame
        if demand.is_optional and error.reason == "missing_token":
            held["m2m_token"] = held["m2m_claims"] = held["m2m_principal"] = None
            return None
        refusal = guard.refusal(error.with_traceback(None), request, demand, token)
    except BaseException:
        value = None  # the application's check may be ended by one that is no Exception, such as a timeout
        raise
    if refusal is not None:
        raise refusal
    held["m2m_token"] = token
    held["m2m_claims"] = token.claims
    # Once a request, although several guards may hold.
    if guard.owner.loader is not None and "m2m_principal" not in held and _LOADING not in held:
        if not loads:
            return is_remembered
        held[_LOADING] = True  # as a loader may call authorize
        try:
            held["m2m_principal"] = current_app.ensure_sync(guard.owner.loader)(token)
        except BaseException as error:
            _reject_by_loader(guard, demand, error)
            raise
        finally:
            del held[_LOADING]
    if guard.listeners:
        guard.on_accepted(token, is_remembered)
    return None


def _who(error: Exception) -> dict[str, Any]:
    """The fields that only the rejection of a verified token has."""
    if getattr(error, "token_scopes", None) is None:
        return {}
    return {name: getattr(error, name) for name in ("client_id", "token_scopes", "required_scopes")}


def _no_guard(app: Flask, parts: object) -> RuntimeError:
    if parts is None:
        return RuntimeError(
            f"A view of {app.name!r} is guarded, but CognitoM2M was not initialised with this application: "
            "call m2m.init_app(app)."
        )
    return RuntimeError(
        f"A view of {app.name!r} is guarded, but no user pool is trusted: set COGNITO_M2M_USER_POOL_ID."
    )


current_token: ValidatedAccessToken = cast(
    "ValidatedAccessToken", LocalProxy(lambda: token_of(current_context()))
)
"""The access token of the current request; false where there is none."""

current_principal: Any = LocalProxy(lambda: principal_of(current_context()))
"""What the principal loader returned for the current request; false where there is no token."""


async def _load_principal(demand: Demand, is_remembered: bool) -> None:
    """What :func:`admit` does from the loader on, in a coroutine: there the loader is awaited."""
    guard: Guard = current_context().app.extensions[EXTENSION].guard
    held, loader = getattr(current_request(), guard.held_key), guard.owner.loader
    held[_LOADING] = True
    try:
        principal = loader(held["m2m_token"]) if loader is not None else None
        held["m2m_principal"] = await principal if inspect.isawaitable(principal) else principal
    except BaseException as error:
        _reject_by_loader(guard, demand, error)
        raise
    finally:
        del held[_LOADING]
    if guard.listeners:
        guard.on_accepted(held["m2m_token"], is_remembered)


def _reject_by_loader(guard: Guard, demand: Demand, error: BaseException) -> None:
    """Report what a principal loader raised, if it is a rejection; the request keeps no token.

    Raises:
        HTTPException: the answer to an error of the library.
    """
    request = current_request()
    held = getattr(request, guard.held_key)
    token = held["m2m_token"]
    answer: HTTPException | None = None
    if isinstance(error, HTTPException):
        if not isinstance(error, Problem):
            guard.refusal(_rejected_by(error), request, demand, token)
    elif isinstance(error, (TokenValidationError, KeysUnavailableError)):
        answer = guard.answer_to(error, request)
    del held["m2m_token"], held["m2m_claims"]
    if answer is not None:
        raise answer


def _own_answer(error: BaseException) -> HTTPException | None:
    """What a check of the application's own raised as its answer, if that is why a token was rejected."""
    own = error.__cause__.__cause__ if isinstance(error, Problem) and error.__cause__ else error.__cause__
    is_by_check = getattr(error, "reason", None) in ("rejected_by_check", "client_not_allowed")
    return own if is_by_check and isinstance(own, HTTPException) else None


def _rejected_by(answer: HTTPException) -> TokenValidationError:
    rejection = _refused("rejected_by_check", "The principal loader rejected the access token.")
    rejection.__cause__ = answer
    return rejection


def _hold(token: ValidatedAccessToken, demand: Demand, method: str) -> None:
    """Raise unless ``token`` is what ``demand`` wants for ``method``."""
    scopes = demand.scopes_for(method)
    if scopes is None:
        raise _refused("method_not_allowed", "This method is not allowed here for any access token.")
    if demand.clients is not None and token.client_id not in demand.clients:
        raise _refused("client_not_allowed", "The access token's client is not allowed here.")
    if not has_scopes(token.scopes, scopes, demand.match):
        raise insufficient_scope(token.scopes, scopes, demand.match)


def _refused(reason: Reason, message: str) -> TokenValidationError:
    return TokenValidationError(message, reason=reason)
