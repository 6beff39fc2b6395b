"""Decorators for views, and ``authorize``. They reject a request unless its token meets a requirement."""

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
"""A key of what a guard stores for a request, present while the principal loader runs."""
_OPTIONAL = Requirement(is_optional=True)


def require_scopes(
    *scopes: str,
    match: ScopeMatch = "all",
    clients: Iterable[str] | None = None,
    by_method: ByMethod | None = None,
) -> Callable[[View], View]:
    """Decorate a view so that only requests with a valid access token reach it.

    Use it on view functions, sync and async, on methods of a ``MethodView``, and in ``View.decorators``,
    below the route's decorator. The view finds the token in ``g.m2m_token`` and ``current_token``, and its
    claims in ``g.m2m_claims``. The application is found at each request, through ``current_app``.

    Args:
        scopes: the scopes that the token must have; without any, every valid token is accepted.
        match: ``"all"`` if the token needs all of them, ``"any"`` if one is enough.
        clients: the client ids that may call this view; ``None`` allows every client that the settings allow.
        by_method: instead of ``scopes``, one scope or a list for each HTTP method. GET covers HEAD. A method
            that is not in it is rejected with 403.

    Raises:
        ConfigurationError: an argument is invalid (a ``ValueError``), when the decorator runs.
    """
    requirement = requirement_from(scopes, match, clients, by_method)

    def decorate(view: View) -> View:
        return _guard(view, requirement)

    # Frameworks keep decorators in lists, where tools that read requirements find this attribute.
    setattr(decorate, REQUIREMENTS, (requirement,))
    return decorate


def authorize(
    *scopes: str, match: ScopeMatch = "all", clients: Iterable[str] | None = None
) -> ValidatedAccessToken:
    """Check the current request's token in a view or a function: see ``CognitoM2M.authorize``.

    After a rejection the request keeps the token that it had.
    """
    requirement = requirement_from(scopes, match, clients, None)
    parts = current_context().app.extensions.get(EXTENSION)
    guard: Guard | None = None if parts is None else parts.guard
    # A coroutine function cannot run inside the event loop that runs an async view.
    loads = guard is None or not (_in_event_loop() and inspect.iscoroutinefunction(guard.owner.loader))
    is_remembered = admit(requirement, loads)
    token: ValidatedAccessToken = get_request_global("m2m_token")
    if is_remembered is not None and guard is not None and guard.listeners:
        guard.on_accepted(token, is_remembered)  # without a principal, which is not loaded
    return token


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def optional_token(view: View) -> View:
    """Decorate a view that accepts requests without a token, and rejects invalid tokens.

    Without a token ``g.m2m_token`` is ``None`` and ``current_token`` is false.
    """
    if not callable(view):
        raise ConfigurationError(f"optional_token decorates a view function, got {view!r}.")
    return _guard(view, _OPTIONAL)


# Like the decorator that require_scopes returns, for tools that find it in a list.
setattr(optional_token, REQUIREMENTS, (_OPTIONAL,))


def _guard(view: View, requirement: Requirement) -> View:
    """Return ``view`` behind a guard that rejects requests which do not meet ``requirement``."""
    if inspect.isclass(view):
        raise ConfigurationError(
            f"A guard cannot decorate the class {view.__name__}. Set decorators = [the guard] in the class, "
            "or decorate its methods."
        )
    if not callable(view):  # such as Flask-Sock's route, which returns nothing
        raise ConfigurationError(
            f"require_scopes decorates a view function, got {view!r}. Put the route's decorator above it."
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
    """Store the token on the current request, where ``flask.g`` finds it, if it meets ``requirement``.

    A request that is rejected keeps the token that it had.

    The fast path is in this function and in :meth:`CognitoAccessTokenValidator.recall`, because inside a
    request each function call costs a few times what it costs in a loop.

    Args:
        loads: whether to load the principal; otherwise the caller loads it.

    Returns:
        ``None``, or, if the principal is still to be loaded, whether the token was remembered.

    Raises:
        HTTPException: the token is missing or rejected. A Problem, or what a check of the application raised.
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
            # A remembered token was decoded strictly when it was new.
            known = guard.recall(value[7:])
        value = None
        if known is None or known.__class__ is bytes:
            token, is_remembered = guard.validate(request, known)
        else:
            token, is_remembered = known, True
        if not (requirement.is_plain and requirement.scopes <= token.scopes):
            # Flask dispatches by request.method, which the application may override.
            _check(token, requirement, request.method)
    except (TokenValidationError, KeysUnavailableError) as error:
        value = None  # error trackers send the variables of each frame
        if requirement.is_optional and error.reason == "missing_token":
            held["m2m_token"] = held["m2m_claims"] = held["m2m_principal"] = None
            return None
        answer = guard.reject(error.with_traceback(None), request, requirement, token)
    except BaseException:
        value = None  # the application's check may raise a BaseException, such as a timeout
        raise
    if answer is not None:
        raise answer
    held["m2m_token"] = token
    held["m2m_claims"] = token.claims
    # Once for each request, although several guards may apply.
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
            f"A view of {app.name!r} is guarded, but CognitoM2M was not initialised with this application. "
            "Call m2m.init_app(app)."
        )
    return RuntimeError(
        f"A view of {app.name!r} is guarded, but no user pool is configured. Set COGNITO_M2M_USER_POOL_ID."
    )


def _check(token: ValidatedAccessToken, requirement: Requirement, method: str) -> None:
    """Raise TokenValidationError unless ``token`` meets ``requirement`` for ``method``."""
    scopes = requirement.scopes_for(method)
    if scopes is None:
        raise TokenValidationError(
            "This HTTP method is not allowed for any access token.", reason="method_not_allowed"
        )
    if requirement.clients is not None and token.client_id not in requirement.clients:
        raise TokenValidationError(
            "This client is not allowed to call this endpoint.", reason="client_not_allowed"
        )
    if not has_scopes(token.scopes, scopes, requirement.match):
        raise insufficient_scope(token.scopes, scopes, requirement.match)


async def _load_principal(requirement: Requirement, is_remembered: bool) -> None:
    """Do the last part of :func:`admit` in a coroutine, which awaits the principal loader."""
    guard: Guard = current_context().app.extensions[EXTENSION].guard
    held, loader = getattr(current_request(), guard.held_key), guard.owner.loader
    with _loading(guard, requirement, held):
        principal = loader(held["m2m_token"]) if loader is not None else None
        held["m2m_principal"] = await principal if inspect.isawaitable(principal) else principal
    if guard.listeners:
        guard.on_accepted(held["m2m_token"], is_remembered)


@contextmanager
def _loading(guard: Guard, requirement: Requirement, held: dict[str, Any]) -> Iterator[None]:
    """Report a rejection that a principal loader raises, and remove the token from the request.

    Raises:
        HTTPException: the answer to an error of the library that the loader raised.
    """
    held[_LOADING] = True  # because the loader may call authorize
    answer: HTTPException | None = None
    try:
        yield
    except BaseException as error:
        token = held["m2m_token"]
        if isinstance(error, HTTPException):
            if not isinstance(error, Problem):  # which has been reported
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
"""The access token of the current request, false if there is none."""

current_principal: Any = LocalProxy(lambda: get_request_global("m2m_principal"))
"""What the principal loader returned for the current request, false if there is no token."""
