"""Parse the challenges of a ``WWW-Authenticate`` header (RFC 9110, section 11.6.1) in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

# API Gateway renames the header of a service behind a REST API.
_HEADERS = ("WWW-Authenticate", "x-amzn-Remapped-WWW-Authenticate")

_LONGEST = 4 * 1024
"""The number of characters read. A real header has a few hundred; a hostile one may be 64 KiB of commas."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r'[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"?|([^ \t,";]+))', re.DOTALL)
_TOKEN68 = re.compile(r"[ \t]+([A-Za-z0-9._~+/-]+=*)(?=[ \t]*(?:,|\Z))")
_GARBAGE = re.compile(r'"(?:[^"\\]|\\.)*"?|[^ \t,"]+|[ \t,]+', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Challenge(NamedTuple):
    """One challenge. The scheme and the names of the parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str]
    token68: str | None = None


def parse_challenges(header: str) -> list[Challenge]:
    """Return the challenges of a header, or of several headers joined with commas.

    Malformed text is parsed as far as possible: parameters may be separated by spaces, as in API Gateway's
    headers, and a quoted string may lack its closing quote. If a parameter is repeated, the first one counts.

    >>> parse_challenges('Basic realm="a, \\\\"b\\\\"", Bearer error=invalid_token, Negotiate YWI=')[1:]
    [Challenge(scheme='bearer', parameters={'error': 'invalid_token'}, token68=None), \
Challenge(scheme='negotiate', parameters={}, token68='YWI=')]
    """
    text, position = header[:_LONGEST], 0
    found: list[Challenge] = []
    parameters: dict[str, str] = {}
    while position < len(text):
        name = _TOKEN.match(text, position)
        if name is None:
            garbage = _GARBAGE.match(text, position)
            position = garbage.end() if garbage else len(text)
            continue
        position = name.end()
        value = _VALUE.match(text, position)
        if value is not None:
            position = value.end()
            given = value[2] if value[1] is None else _ESCAPED.sub(r"\1", value[1])
            parameters.setdefault(name[0].lower(), given)
            continue
        parameters = {}
        token68 = _TOKEN68.match(text, position)
        if token68 is not None:
            position = token68.end()
        found.append(Challenge(name[0].lower(), parameters, token68[1] if token68 else None))
    return found


def bearer_challenges(headers: Mapping[str, str]) -> Iterator[Challenge]:
    """Yield the Bearer challenges (RFC 6750, section 3) in the headers of a response."""
    for name in _HEADERS:
        yield from (each for each in parse_challenges(headers.get(name, "")) if each.scheme == "bearer")
