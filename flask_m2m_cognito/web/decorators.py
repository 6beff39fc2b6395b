"""Decorators for views, and ``authorize``: they let a request in if its token meets a requirement."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask import Flask, current_app
from werkzeug.exceptions import HTTPException
from werkzeug.local import LocalProxy

from ..exceptions import ConfigurationError, KeysUnavailableError, TokenValidationError
from ..formats.scopes import ScopeMatch, has_scopes, insufficient_scope
from ..inbound.bearer import MAX_HEADER
from .guard import Guard
from .problems import Problem
from .request_globals import EXTENSION, current_context, current_request, get_request_global
from .requirement import (
    REQUIREMENTS,
    ByMethod,
    Requirement,
    note_guard_around,
    requirement_from,
    requirements_of,
)

if TYPE_CHECKING:
    from ..inbound.validated_access_token import ValidatedAccessToken

View = TypeVar("View", bound=Callable[..., Any])

_PREFIX = "Bearer "
_LOADING = "loading"
"""Among what a guard holds for a request: its principal loader runs."""
_OPTIONAL = Requirement(is_optional=True)


def require_scopes(
    *scopes: str,
    match: ScopeMatch = "all",
    clients: Iterable[str] | None = None,
    by_method: ByMethod | None = None,
) -> Callable[[View], View]:
    """A decorator that lets only requests with a valid access token reach a view.

    For view functions, sync and async, for methods of a ``MethodView``, and for ``View.decorators``.
    The token is on ``g.m2m_token``, its claims on ``g.m2m_claims``.

    Args:
        scopes: what the token must have; none is any valid token.
        match: ``"all"`` of them or ``"any"``.
        clients: client ids that may call this view; ``None`` is every one that the application lets in.
        by_method: instead of ``scopes``: for each HTTP method one scope or a list. GET covers HEAD.
            A method that is not in it is rejected with 403.

    Raises:
        ConfigurationError: an argument can't be right (a ``ValueError``), when the decorator runs.
    """
    requirement = requirement_from(scopes, match, clients, by_method)

    def decorate(view: View) -> View:
        return _guard(view, requirement)

    # Frameworks keep decorators in lists; tools that read requirements find this one there.
    setattr(decorate, REQUIREMENTS, (requirement,))
    return decorate


def authorize(
    *scopes: str, match: ScopeMatch = "all", clients: Iterable[str] | None = None
) -> ValidatedAccessToken:
    """Check the current request's token in a view or a function: see ``CognitoM2M.authorize``.

    A rejection leaves the request's token.
    """
    requirement = requirement_from(scopes, match, clients, None)
    parts = current_context().app.extensions.get(EXTENSION)
    guard: Guard | None = None if parts is None else parts.guard
    # A coroutine function can't be run inside the event loop that runs an async view.
    loads = guard is None or not (_in_event_loop() and inspect.iscoroutinefunction(guard.owner.loader))
    is_remembered = admit(requirement, loads)
    token: ValidatedAccessToken = get_request_global("m2m_token")
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
    """A decorator: no token reaches the view as anonymous, an invalid one is rejected.

    Without a token ``g.m2m_token`` is ``None`` and ``current_token`` is false.
    """
    if not callable(view):
        raise ConfigurationError(f"optional_token decorates a view function, not {view!r}.")
    return _guard(view, _OPTIONAL)


# As the decorator that require_scopes returns, for tools that find it in a list.
setattr(optional_token, REQUIREMENTS, (_OPTIONAL,))


def _guard(view: View, requirement: Requirement) -> View:
    """``view``, reached only by requests that meet ``requirement``."""
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
            is_remembered = admit(requirement, loads=False)
            if is_remembered is not None:
                await _load_principal(requirement, is_remembered)
            return await view(*args, **kwargs)

    else:

        @functools.wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            admit(requirement)
            return view(*args, **kwargs)

    setattr(wrapper, REQUIREMENTS, (requirement, *requirements_of(view)))
    note_guard_around(view)
    return cast("View", wrapper)


def admit(requirement: Requirement, loads: bool = True) -> bool | None:
    """Put the token on the current request, where ``flask.g`` finds it, if it meets ``requirement``.

    A request that is rejected keeps the token that it had.

    All that a request pays is in here and in :meth:`CognitoAccessTokenValidator.recall`: inside a
    request each call of a function costs a few times what it costs in a loop.

    Args:
        loads: whether the application's own object is put there as well; else that is the caller's.

    Returns:
        ``None``, or with ``loads=False``, where it is still to be loaded, whether the token was remembered.

    Raises:
        HTTPException: it does not, or there is none: a Problem, or what the application's own check raised.
        RuntimeError: the application has no guard.
    """
    context, request = current_context(), current_request()
    parts = context.app.extensions.get(EXTENSION)
    guard: Guard | None = None if parts is None else parts.guard
    if guard is None:
        raise _no_guard(context.app, parts)
    held = request.__dict__.setdefault(guard.held_key, {})
    answer = value = None
    known: Any = None
    token: Any = None  # until one has passed the validator's checks
    try:
        value = request.environ.get(guard.environ_key)
        if value is not None and value.startswith(_PREFIX) and len(value) <= MAX_HEADER:
            # A token that is remembered was decoded strictly when it was new.
            known = guard.recall(value[7:])
        value = None
        if known is None or known.__class__ is bytes:
            token, is_remembered = guard.validate(request, known)
        else:
            token, is_remembered = known, True
        if not (requirement.is_plain and requirement.scopes <= token.scopes):
            # Flask dispatches by request.method, which an application may override.
            _check(token, requirement, request.method)
    except (TokenValidationError, KeysUnavailableError) as error:
        value = None  # as error trackers send what is in each frame
        if requirement.is_optional and error.reason == "missing_token":
            held["m2m_token"] = held["m2m_claims"] = held["m2m_principal"] = None
            return None
        answer = guard.reject(error.with_traceback(None), request, requirement, token)
    except BaseException:
        value = None  # the application's check may be ended by one that is no Exception, such as a timeout
        raise
    if answer is not None:
        raise answer
    held["m2m_token"] = token
    held["m2m_claims"] = token.claims
    # Once a request, although several guards may hold.
    if guard.owner.loader is not None and "m2m_principal" not in held and _LOADING not in held:
        if not loads:
            return is_remembered
        with _loading(guard, requirement, held):
            held["m2m_principal"] = current_app.ensure_sync(guard.owner.loader)(token)
    if guard.listeners:
        guard.on_accepted(token, is_remembered)
    return None


def _no_guard(app: Flask, parts: object) -> RuntimeError:
    if parts is None:
        return RuntimeError(
            f"A view of {app.name!r} is guarded, but CognitoM2M was not initialised with this application: "
            "call m2m.init_app(app)."
        )
    return RuntimeError(
        f"A view of {app.name!r} is guarded, but no user pool is trusted: set COGNITO_M2M_USER_POOL_ID."
    )


def _check(token: ValidatedAccessToken, requirement: Requirement, method: str) -> None:
    """Raise unless ``token`` meets ``requirement`` for ``method``."""
    scopes = requirement.scopes_for(method)
    if scopes is None:
        raise TokenValidationError(
            "This method is not allowed here for any access token.", reason="method_not_allowed"
        )
    if requirement.clients is not None and token.client_id not in requirement.clients:
        raise TokenValidationError(
            "The access token's client is not allowed here.", reason="client_not_allowed"
        )
    if not has_scopes(token.scopes, scopes, requirement.match):
        raise insufficient_scope(token.scopes, scopes, requirement.match)


async def _load_principal(requirement: Requirement, is_remembered: bool) -> None:
    """What :func:`admit` does from the loader on, in a coroutine: there the loader is awaited."""
    guard: Guard = current_context().app.extensions[EXTENSION].guard
    held, loader = getattr(current_request(), guard.held_key), guard.owner.loader
    with _loading(guard, requirement, held):
        principal = loader(held["m2m_token"]) if loader is not None else None
        held["m2m_principal"] = await principal if inspect.isawaitable(principal) else principal
    if guard.listeners:
        guard.on_accepted(held["m2m_token"], is_remembered)


@contextmanager
def _loading(guard: Guard, requirement: Requirement, held: dict[str, Any]) -> Iterator[None]:
    """Report what a principal loader raises, if it is a rejection; the request then keeps no token.

    Raises:
        HTTPException: the answer to an error of the library.
    """
    held[_LOADING] = True  # as a loader may call authorize
    answer: HTTPException | None = None
    try:
        yield
    except BaseException as error:
        token = held["m2m_token"]
        if isinstance(error, HTTPException):
            if not isinstance(error, Problem):  # which is reported already
                text = "The principal loader rejected the access token."
                rejection = TokenValidationError(text, reason="rejected_by_check")
                rejection.__cause__ = error
                guard.reject(rejection, current_request(), requirement, token)
        elif isinstance(error, (TokenValidationError, KeysUnavailableError)):
            answer = guard.reject(error, current_request(), token=token)
        del held["m2m_token"], held["m2m_claims"]
        if answer is None:
            raise
    finally:
        del held[_LOADING]
    if answer is not None:
        raise answer


current_token: ValidatedAccessToken = cast(
    "ValidatedAccessToken", LocalProxy(lambda: get_request_global("m2m_token"))
)
"""The access token of the current request; false where there is none."""

current_principal: Any = LocalProxy(lambda: get_request_global("m2m_principal"))
"""What the principal loader returned for the current request; false where there is no token."""
