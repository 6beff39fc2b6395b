"""What a guard requires of a token, as plain data that guards check and tools read."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from ..exceptions import ConfigurationError
from ..formats.scopes import ScopeMatch, check_match, check_scope

REQUIREMENTS = "__cognito_m2m_requirements__"
"""The attribute of a guarded view that holds its requirements, a tuple. All of them apply."""

PUBLIC = "__cognito_m2m_public__"
"""The attribute of a view that is public: ``protect`` does not guard it.

It is ``True``, or the view's own blueprint, whose guard then still applies.
"""

_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""An HTTP method may be any ``token`` of RFC 9110, section 9.1."""

ByMethod = Mapping[str, "str | Iterable[str]"]


@dataclass(frozen=True)
class Requirement:
    """What one guard requires.

    Attributes:
        scopes: the scopes that the token must have; without any, every valid token is accepted.
        match: whether the token needs all of them, or any.
        clients: the client ids that may call; ``None`` allows every client that the settings allow.
        by_method: instead of ``scopes``, the scopes for each HTTP method; other methods are rejected.
        is_optional: a request without a token is accepted too.
    """

    scopes: frozenset[str] = frozenset()
    match: ScopeMatch = "all"
    clients: frozenset[str] | None = None
    by_method: Mapping[str, frozenset[str]] | None = None
    is_optional: bool = False
    is_plain: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # All scopes, whatever the method: most views, and the quickest to check.
        is_plain = self.by_method is None and self.clients is None and self.match == "all"
        object.__setattr__(self, "is_plain", is_plain)

    def scopes_for(self, method: str) -> frozenset[str] | None:
        """Return the scopes for an HTTP method, or ``None`` if ``by_method`` does not have it."""
        if self.by_method is None:
            return self.scopes
        method = method.upper()  # werkzeug ignores the case, too
        scopes = self.by_method.get(method)
        # HEAD is GET without the body. Flask routes it to the same view.
        return self.by_method.get("GET") if scopes is None and method == "HEAD" else scopes


ANY_TOKEN = Requirement()


def requirement_from(
    scopes: tuple[Any, ...], match: ScopeMatch, clients: Iterable[str] | None, by_method: ByMethod | None
) -> Requirement:
    """Return the requirement that a decorator's arguments describe.

    Raises:
        ConfigurationError: an argument is invalid. Raised when the decorator runs, at import.
    """
    if len(scopes) == 1 and callable(scopes[0]):
        raise ConfigurationError(
            "require_scopes needs parentheses: write @require_scopes() to accept any valid token."
        )
    check_match(match)
    if by_method is not None and scopes:
        raise ConfigurationError("Pass either *scopes or by_method, not both.")
    return Requirement(
        scopes=_checked_scopes(scopes),
        match=match,
        clients=_client_ids(clients),
        by_method=None if by_method is None else _by_method(by_method),
    )


def requirements_of(view: object) -> tuple[Requirement, ...]:
    """Return the requirements of a view function, which are empty if no decorator guards it."""
    requirements: tuple[Requirement, ...] = getattr(view, REQUIREMENTS, ())
    return requirements


_guarded: weakref.WeakSet[Any] = weakref.WeakSet()


def note_guard_around(view: object) -> None:
    """Remember that a guard wraps a function. A bound method is a new object at each access, so skip it."""
    if isinstance(view, FunctionType):
        _guarded.add(view)


def has_guard_around(view: object) -> bool:
    """Return whether a guard wraps a function, wherever that guard is."""
    return isinstance(view, FunctionType) and view in _guarded


def layers_of(view: Any) -> Iterable[Any]:
    """Yield ``view`` and the functions that its decorators wrap, the outermost first."""
    while view is not None:
        yield view
        view = getattr(view, "__wrapped__", None)


def _checked_scopes(scopes: Iterable[Any]) -> frozenset[str]:
    checked = set()
    for scope in scopes:
        if isinstance(scope, (list, tuple, set, frozenset)):
            raise ConfigurationError(
                f"Pass scopes one by one, as in require_scopes('a/read', 'b/read'), got {scope!r}."
            )
        check_scope(scope)
        checked.add(str(scope))
    return frozenset(checked)


def _client_ids(clients: Iterable[str] | None) -> frozenset[str] | None:
    if clients is None:
        return None
    if isinstance(clients, (str, bytes)) or not isinstance(clients, Iterable):
        raise ConfigurationError(f"clients must be a list of client ids, got {clients!r}.")
    ids = list(clients)
    if not ids or not all(isinstance(each, str) and each for each in ids):
        raise ConfigurationError(f"clients must be a list of at least one client id, got {ids!r}.")
    return frozenset(ids)


def _by_method(by_method: ByMethod) -> dict[str, frozenset[str]]:
    if not isinstance(by_method, Mapping) or not by_method:
        raise ConfigurationError(
            f'by_method must be a dict such as {{"GET": "items/read"}}, got {by_method!r}.'
        )
    required: dict[str, frozenset[str]] = {}
    for method, scopes in by_method.items():
        if not isinstance(method, str) or _METHOD.fullmatch(method) is None:
            raise ConfigurationError(f"The keys of by_method must be HTTP methods, got {method!r}.")
        if method.upper() in required:
            raise ConfigurationError(f"by_method has the method {method.upper()} twice.")
        is_one = isinstance(scopes, str) or not isinstance(scopes, Iterable)
        required[method.upper()] = _checked_scopes((scopes,) if is_one else scopes)
    return required
