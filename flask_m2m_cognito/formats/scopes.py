"""Parse, compare and join scopes. No other module does.

Source: RFC 6749, section 3.3: ``scope = scope-token *( SP scope-token )``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal

from ..exceptions import ConfigurationError, InsufficientScopeError

ScopeMatch = Literal["all", "any"]

_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x2B\x2D-\x5B\x5D-\x7E]+")

SCOPE_FORM = "a scope may have only printable ASCII, without spaces, commas, quotes and backslashes"
"""The rule of :func:`is_scope`, for error messages."""


def parse_scopes(text: str) -> frozenset[str]:
    """Return the scopes in a token's ``scope`` claim. Only a space (U+0020) separates them.

    >>> sorted(parse_scopes("orders/read orders/write"))
    ['orders/read', 'orders/write']
    >>> parse_scopes("")
    frozenset()
    """
    return frozenset(part for part in text.split(" ") if part)


def requested_scopes(scopes: str | Iterable[str]) -> tuple[str, ...]:
    """Return the scopes to request, in order and without duplicates, from a string or a sequence.

    Whitespace of any kind separates them, as in m2m-cognito: a developer wrote this text, not Cognito.

    >>> requested_scopes("a/read  b/write a/read")
    ('a/read', 'b/write')
    >>> requested_scopes([" a/read", ""])
    ('a/read',)
    """
    parts = scopes.split() if isinstance(scopes, str) else [str(scope).strip() for scope in scopes]
    return tuple(dict.fromkeys(part for part in parts if part))


def join_scopes(scopes: Iterable[str]) -> str:
    """Return one sorted scope string, so equal sets give equal text.

    >>> join_scopes({"b", "a"})
    'a b'
    """
    return " ".join(sorted(scopes))


def is_scope(text: object) -> bool:
    """Return whether ``text`` is one scope: printable ASCII without space, comma, ``"`` and ``\\``.

    RFC 6749 allows a comma, but no Cognito scope has one: such a text is a list separated by commas.

    >>> [is_scope(text) for text in ("orders/read", "", "two words", "a,b", 'a"b', "é")]
    [True, False, False, False, False, False]
    """
    return isinstance(text, str) and _SCOPE_TOKEN.fullmatch(text) is not None


def check_scope(scope: object) -> None:
    """Raise :class:`ConfigurationError`, a ``ValueError``, unless ``scope`` is one scope."""
    if not is_scope(scope):
        raise ConfigurationError(f"Invalid scope {scope!r}: {SCOPE_FORM}.")


def has_scopes(held: Collection[str], required: frozenset[str], match: ScopeMatch = "all") -> bool:
    """Return whether ``held`` has all, or any, of ``required``. If nothing is required, return true.

    >>> has_scopes({"a"}, frozenset({"a", "b"})), has_scopes({"a"}, frozenset({"a", "b"}), "any")
    (False, True)
    """
    if not required:
        return True
    return required.issubset(held) if match == "all" else not required.isdisjoint(held)


def check_match(match: object, name: str = "match") -> None:
    """Raise :class:`ConfigurationError`, a ``ValueError``, unless ``match`` is ``"all"`` or ``"any"``."""
    if match not in ("all", "any"):
        raise ConfigurationError(f"{name} must be 'all' or 'any', got {match!r}.")


def insufficient_scope(
    held: frozenset[str], required: frozenset[str], match: ScopeMatch
) -> InsufficientScopeError:
    """Return the error for a token that lacks scopes of ``required``."""
    text = (
        "The access token lacks one or more required scopes."
        if match == "all"
        else "The access token has none of the required scopes."
    )
    return InsufficientScopeError(text, token_scopes=held, required_scopes=required)
