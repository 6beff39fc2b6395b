"""Remove secrets from text that came from elsewhere, before it is shortened, logged or raised.

Every function takes time that grows with the length of the text: its author may be an attacker.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote
from urllib.request import getproxies

HIDDEN = "[hidden]"

_NAME = r"(?:access|refresh|(?<![a-z])id)_?token"
_TOKEN_MEMBER = re.compile(rf'"{_NAME}"\s*:\s*(?:\[\s*)?"((?:[^"\\]|\\.?)*)', re.IGNORECASE)
_TOKEN_FIELD = re.compile(rf"{_NAME}=([^\s&\"'<>,;]+)", re.IGNORECASE)
# Whole runs, in which the first "eyJ" is looked for: a pattern that begins with it takes time that grows
# with the square of "eyJeyJeyJ…" (1.7 s for 64 KiB).
_RUN = re.compile(r"[A-Za-z0-9_.-]+")
_NOT_A_WORD = re.compile(r"[^A-Za-z0-9]+")
_SCHEME = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_SHORTEST_FRAGMENT = 3


class Redaction:
    """Removes secrets, tokens and the passwords of proxies from text.

    Mute, as a ``Form`` is: error trackers walk what they find in stack frames.

    Args:
        secrets: every spelling in which a text might quote a secret.
    """

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(secrets) - {""}

    def __call__(self, text: str) -> str:
        """Return ``text`` with ``[hidden]`` in the place of each secret."""
        # All are looked for in the text as it is: each may be a part of another.
        shown: list[str] = []
        end = 0
        for start, stop in sorted([*_token_spans(text), *_spans_of(self._secrets | _proxy_secrets(), text)]):
            if start > end or not shown:
                shown += [text[end:start], HIDDEN]
            end = max(end, stop)
        return "".join([*shown, text[end:]])


def _token_spans(text: str) -> Iterator[tuple[int, int]]:
    for pattern in (_TOKEN_MEMBER, _TOKEN_FIELD):
        yield from (found.span(1) for found in pattern.finditer(text))
    for run in _RUN.finditer(text):
        start = text.find("eyJ", *run.span())
        if start >= 0 and "." in text[start : run.end()]:
            yield start, run.end()


def _spans_of(secrets: Iterable[str], text: str) -> Iterator[tuple[int, int]]:
    for secret in secrets:
        start = text.find(secret)
        while start >= 0:
            yield start, start + len(secret)
            start = text.find(secret, start + len(secret))


def proxy_urls() -> list[str]:
    """The URLs of the environment's proxies."""
    return [url for scheme, url in getproxies().items() if scheme != "no"]


def _proxy_secrets() -> frozenset[str]:
    """The passwords in the proxy URLs of the environment, and their fragments.

    A parser that does not understand a URL quotes a part of it, a host in lower case.
    """
    found: set[str] = set()
    for url in proxy_urls():
        user, colon, password = _SCHEME.sub("", url.rpartition("@")[0]).partition(":")
        secret = password if colon else user
        if not secret:
            continue
        pair = f"{unquote(user)}:{unquote(password)}".encode()
        found |= {secret, unquote(secret), base64.b64encode(pair).decode("ascii")}
        found |= {part for part in _NOT_A_WORD.split(secret) if len(part) >= _SHORTEST_FRAGMENT}
    return frozenset(found | {each.lower() for each in found})
