"""What a scope string is: the one place that parses, compares and joins scopes.

Source: RFC 6749, section 3.3: ``scope = scope-token *( SP scope-token )``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal

from ..exceptions import ConfigurationError, InsufficientScopeError

ScopeMatch = Literal["all", "any"]

_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x2B\x2D-\x5B\x5D-\x7E]+")

SCOPE_FORM = "a scope is printable ASCII without space, comma, quote and backslash"
"""What :func:`is_scope` checks, for errors."""


def parse_scopes(text: str) -> frozenset[str]:
    """The scopes of a token's ``scope`` claim. Only U+0020 separates them.

    >>> sorted(parse_scopes("orders/read orders/write"))
    ['orders/read', 'orders/write']
    >>> parse_scopes("")
    frozenset()
    """
    return frozenset(part for part in text.split(" ") if part)


def requested_scopes(scopes: str | Iterable[str]) -> tuple[str, ...]:
    """The scopes that somebody asks for, in order and each once, from a string or a sequence.

    White space of any kind separates them, as in m2m-cognito: this is a person's text, not a token's.

    >>> requested_scopes("a/read  b/write a/read")
    ('a/read', 'b/write')
    >>> requested_scopes([" a/read", ""])
    ('a/read',)
    """
    parts = scopes.split() if isinstance(scopes, str) else [str(scope).strip() for scope in scopes]
    return tuple(dict.fromkeys(part for part in parts if part))


def join_scopes(scopes: Iterable[str]) -> str:
    """One scope string, sorted, so that equal sets give equal text.

    >>> join_scopes({"b", "a"})
    'a b'
    """
    return " ".join(sorted(scopes))


def is_scope(text: object) -> bool:
    """Whether ``text`` is one scope token: printable ASCII without space, comma, ``"`` and ``\\``.

    RFC 6749 allows a comma. No Cognito scope has one, so it is a list that was written with commas.

    >>> [is_scope(text) for text in ("orders/read", "", "two words", "a,b", 'a"b', "é")]
    [True, False, False, False, False, False]
    """
    return isinstance(text, str) and _SCOPE_TOKEN.fullmatch(text) is not None


def check_scope(scope: object) -> None:
    """Raise :class:`ConfigurationError`, a ``ValueError``, unless ``scope`` is one scope token."""
    if not is_scope(scope):
        raise ConfigurationError(f"Invalid scope {scope!r}: {SCOPE_FORM}.")


def has_scopes(held: Collection[str], required: frozenset[str], match: ScopeMatch = "all") -> bool:
    """Whether ``held`` has all, or any, of ``required``. Nothing required is always had.

    >>> has_scopes({"a"}, frozenset({"a", "b"})), has_scopes({"a"}, frozenset({"a", "b"}), "any")
    (False, True)
    """
    if not required:
        return True
    return required.issubset(held) if match == "all" else not required.isdisjoint(held)


def check_match(match: object, name: str = "match") -> None:
    """Raise :class:`ConfigurationError`, a ``ValueError``, unless ``match`` is ``"all"`` or ``"any"``."""
    if match not in ("all", "any"):
        raise ConfigurationError(f"{name} must be 'all' or 'any', not {match!r}.")


def insufficient_scope(
    held: frozenset[str], required: frozenset[str], match: ScopeMatch
) -> InsufficientScopeError:
    """The error for a token that lacks all, or any, of ``required``."""
    text = (
        "The access token lacks one or more required scopes."
        if match == "all"
        else "The access token has none of the required scopes."
    )
    return InsufficientScopeError(text, token_scopes=held, required_scopes=required)
