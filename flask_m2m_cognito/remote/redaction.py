"""Remove secrets from text that came from elsewhere, before it is shortened, logged or raised.

Every function takes time that grows with the length of the text: its author may be an attacker.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from urllib.parse import unquote
from urllib.request import getproxies

HIDDEN = "[hidden]"

_NAME = r"(?:access|refresh|(?<![a-z])id)_?token"
_TOKEN_MEMBER = re.compile(rf'("{_NAME}"\s*:\s*(?:\[\s*)?")(?:[^"\\]|\\.?)*("|\Z)', re.IGNORECASE)
_TOKEN_FIELD = re.compile(rf"({_NAME}=)[^\s&\"'<>,;]+", re.IGNORECASE)
# Whole runs, in which the first "eyJ" is looked for: a pattern that begins with it takes time that grows
# with the square of "eyJeyJeyJ…" (1.7 s for 64 KiB).
_RUN = re.compile(r"[A-Za-z0-9_.-]+")
_NOT_A_WORD = re.compile(r"[^A-Za-z0-9]+")
_SCHEME = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_SHORTEST_FRAGMENT = 3
_MARK = "\0"


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
        text = _TOKEN_MEMBER.sub(rf"\g<1>{HIDDEN}\g<2>", text)
        text = _TOKEN_FIELD.sub(rf"\g<1>{HIDDEN}", text)
        text = _RUN.sub(_without_jwt, text)
        # Longer ones first, since one may hold another. A mark, so that none is found in "[hidden]".
        text = text.replace(_MARK, "")
        for secret in sorted(self._secrets | _proxy_secrets(), key=len, reverse=True):
            text = text.replace(secret, _MARK)
        return text.replace(_MARK, HIDDEN)


def _without_jwt(run: re.Match[str]) -> str:
    start = run[0].find("eyJ")
    return run[0][:start] + HIDDEN if start >= 0 and "." in run[0][start:] else run[0]


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
