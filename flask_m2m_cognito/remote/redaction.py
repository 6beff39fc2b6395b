"""Remove secrets from text of other programs, before it is shortened, logged or raised.

Every function takes time linear in the length of the text, because an attacker may have written it.
"""

from __future__ import annotations

import base64
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote
from urllib.request import getproxies

from ..exceptions import ConfigurationError

HIDDEN = "[hidden]"

_NAME = r"(?:access|refresh|(?<![a-z])id)_?token"
_TOKEN_MEMBER = re.compile(rf'"{_NAME}"\s*:\s*(?:\[\s*)?"((?:[^"\\]|\\.?)*)', re.IGNORECASE)
_TOKEN_FIELD = re.compile(rf"{_NAME}=([^\s&\"'<>,;]+)", re.IGNORECASE)
# Matches what follows the first "eyJ" of a token. A pattern that begins with "eyJ" takes quadratic time for
# "eyJeyJeyJ…" (1.7 s for 64 KiB), and matching every run of characters takes 10 ms for 64 KiB of short ones.
_RUN = re.compile(r"[A-Za-z0-9_.-]+")
_NOT_A_WORD = re.compile(r"[^A-Za-z0-9]+")
_SCHEME = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_SHORTEST_FRAGMENT = 3
_AWS_CODE = re.compile(r"[A-Za-z]{1,50}")
_MODULE = re.compile(r"[A-Za-z0-9_.]{1,100}")
_MOST_CAUSES = 10
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep


class Redaction:
    """Remove secrets, tokens and the passwords of proxies from text.

    Like ``Body`` it has no ``__dict__``, which error trackers print in stack frames.

    Args:
        list_secrets: returns every spelling in which a text might quote a secret. Called for each text,
            because most requests have no text to redact.
    """

    __slots__ = ("_list_secrets",)

    def __init__(self, list_secrets: Callable[[], Iterable[str]] = tuple) -> None:
        self._list_secrets = list_secrets

    def __call__(self, text: str) -> str:
        """Return ``text`` with ``[hidden]`` in place of each secret."""
        secrets = (frozenset(self._list_secrets()) - {""}) | _proxy_secrets()
        # Search the unchanged text for all of them, because one secret may be a part of another.
        shown: list[str] = []
        end = 0
        for start, stop in sorted([*_token_spans(text), *_spans_of(secrets, text)]):
            if start > end or not shown:
                shown += [text[end:start], HIDDEN]
            end = max(end, stop)
        return "".join([*shown, text[end:]])


def hidden_traceback(error: BaseException, hide: Callable[[str], str]) -> str:
    """Return the traceback of ``error`` with its secrets removed; "" if neither it nor a cause quotes one.

    Use it in log records. A record that has the exception keeps its frames, which error trackers read.

    Args:
        hide: returns a text without the secret.
    """
    waiting: list[BaseException | None] = [error]
    known: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in known:
            continue
        known.add(id(each))
        # Look at the texts first: formatting the traceback takes 100 us, and most errors quote no secret.
        text = "".join([_text_of(each), repr(each.args), *getattr(each, "__notes__", ())])
        if hide(text) != text:
            return hide("".join(traceback.format_exception(error)))
        waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return ""


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _token_spans(text: str) -> Iterator[tuple[int, int]]:
    for pattern in (_TOKEN_MEMBER, _TOKEN_FIELD):
        yield from (found.span(1) for found in pattern.finditer(text))
    start = text.find("eyJ")
    while start >= 0:
        end = _end_of_run(text, start)
        if text.find(".", start, end) >= 0:
            yield start, end
        start = text.find("eyJ", end)


def _end_of_run(text: str, start: int) -> int:
    run = _RUN.match(text, start)
    return start if run is None else run.end()


def _spans_of(secrets: Iterable[str], text: str) -> Iterator[tuple[int, int]]:
    for secret in secrets:
        start = text.find(secret)
        while start >= 0:
            yield start, start + len(secret)
            start = text.find(secret, start + len(secret))


def describe_error(error: BaseException) -> str:
    """Return a safe description of an exception whose text, causes and frames may hold a secret.

    It has the type, the file and the line. It has a reason if that is from a closed set: a missing module,
    the code of an AWS error, or an error of the operating system.
    """
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    kind, reason = type(error).__name__, _find_reason(error)
    shown = f"{kind} ({reason})" if reason else kind
    if frame is None:
        return shown
    path = frame.tb_frame.f_code.co_filename
    if isinstance(error, ConfigurationError | TimeoutError) and path.startswith(_PACKAGE):
        return str(error)  # the library's own text, which quotes nothing
    place = "/".join(path.replace("\\", "/").split("/")[-2:])
    return f"{shown} in {place}, line {frame.tb_lineno}"


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, at most ten in all, because a chain may be circular."""
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _find_reason(error: BaseException) -> str | None:
    for cause in causes_of(error):
        if isinstance(cause, ModuleNotFoundError) and _MODULE.fullmatch(str(cause.name)):
            return f"the module {cause.name} is not installed"
        if isinstance(cause, OSError) and isinstance(cause.errno, int) and cause.errno > 0:
            return os.strerror(cause.errno)
        code = _aws_code_of(cause)
        if code is not None:
            return code
    return None


def _aws_code_of(error: Any) -> str | None:
    """Return the code of a botocore ``ClientError``, such as ``AccessDeniedException``."""
    try:
        code = error.response["Error"]["Code"]
    except Exception:
        return None
    return code if isinstance(code, str) and _AWS_CODE.fullmatch(code) else None


def proxy_urls() -> list[str]:
    """Return the URLs of the environment's proxies."""
    return [url for scheme, url in getproxies().items() if scheme != "no"]


def _proxy_secrets() -> frozenset[str]:
    """Return the passwords in the proxy URLs of the environment, and their fragments.

    A parser that rejects a URL quotes a part of it, and a host in lower case.
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
