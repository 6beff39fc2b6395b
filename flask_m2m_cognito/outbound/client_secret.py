"""Hold the secret of an app client: one, several, or a callable that is called again after a rotation."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import NamedTuple, TypeVar

from ..exceptions import CognitoTokenRequestError
from ..remote.clock import SYSTEM, Clock, Deadline
from ..remote.redaction import describe_error
from ..remote.threads import PerProcess

Secret = str | Sequence[str] | Callable[[], str | Sequence[str]]
R = TypeVar("R")

LONGEST_CALL = 300.0
"""Seconds after which a callable that never returned is called again."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class SecretText:
    """A secret that no ``repr`` shows, because error trackers send the locals of each stack frame."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretText) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)


class ClientSecret:
    """The secret of one client, shared by all its token sources. Cognito allows two secrets at a time.

    Args:
        secret: one; or several, of which the next is tried on ``invalid_client``; or a callable that
            returns one or several. It is called at first use, and again after ``invalid_client``.
        clock: measures when a call that never returns is abandoned.
    """

    def __init__(self, secret: Secret, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._read = secret if callable(secret) else None
        secrets = () if callable(secret) else _parse_secrets(secret)
        if isinstance(secrets, str):
            raise TypeError(f"The client secret must be {secrets}.")
        self._known = _Known(secrets, answers=0)  # immutable: replaced as a whole
        self._lock = PerProcess(threading.Lock)  # never held while the callable runs
        self._call: _Call | None = None  # the call in progress; guarded by the lock

    def __repr__(self) -> str:
        return "ClientSecret()"

    @property
    def known(self) -> tuple[SecretText, ...]:
        """Return every secret that may have been sent."""
        return self._known.secrets

    def try_with(self, request: Callable[[SecretText], R], deadline: Deadline) -> R:
        """Call ``request`` with each secret until Cognito accepts one, and return its result.

        Args:
            request: sends a token request with the secret that it is given.
            deadline: limits the wait for a call of the callable that another thread has started.

        Raises:
            CognitoTokenRequestError: Cognito accepted no secret, or the callable returned none.
        """
        known = self._known if self._known.secrets else self._fetch_newer(self._known, deadline)
        try:
            return self._try_each(known.secrets, request)
        except CognitoTokenRequestError as error:
            if error.error_code != "invalid_client" or self._read is None:
                raise
            newer = self._fetch_newer(known, deadline)
            if set(newer.secrets) == set(known.secrets):
                raise
        return self._try_each(newer.secrets, request)

    def _try_each(self, secrets: tuple[SecretText, ...], request: Callable[[SecretText], R]) -> R:
        for position, secret in enumerate(secrets, 1):
            try:
                response = request(secret)
            except CognitoTokenRequestError as error:
                if error.error_code != "invalid_client" or position == len(secrets):
                    raise
            else:
                if position > 1:
                    self._remember(secret, secrets)
                return response
        raise CognitoTokenRequestError("The client secret is empty.")

    def _remember(self, accepted: SecretText, secrets: tuple[SecretText, ...]) -> None:
        known = self._known
        if known.secrets == secrets:
            others = (each for each in secrets if each != accepted)
            self._known = known._replace(secrets=(accepted, *others))

    def _fetch_newer(self, rejected: _Known, deadline: Deadline) -> _Known:
        """Return the callable's result. One thread calls it; others with a rejected secret wait for it.

        "Nothing new yet" and "the call failed" are results, too.
        """
        with self._lock.get():
            known, call, read = self._known, self._call, self._read
            if read is None or known.answers != rejected.answers:
                return known
            leads = call is None or call.pid != os.getpid() or self._clock.monotonic() >= call.until
            if leads:
                call = self._call = _Call(os.getpid(), self._clock.monotonic() + LONGEST_CALL, Future())
        assert call is not None
        if leads:
            secrets_or_problem: tuple[SecretText, ...] | str = "the call was aborted."
            try:
                secrets_or_problem = _read_secrets(read)
            finally:
                # Also after gevent's Timeout or a SystemExit: the next attempt calls it again.
                call.answer.set_result(self._finish(call, secrets_or_problem, known))
        try:
            answer = call.answer.result(deadline.left())
        except FutureTimeout:
            answer = "the callable has not returned yet."
        if isinstance(answer, str):
            raise CognitoTokenRequestError(f"The client secret could not be read: {answer}")
        return answer

    def _finish(self, call: _Call, answer: tuple[SecretText, ...] | str, known: _Known) -> _Known | str:
        with self._lock.get():
            if self._call is call:
                self._call = None
            if self._known.answers != known.answers:
                return self._known  # another call, which started later, was faster
            if not isinstance(answer, str):
                self._known = _Known(answer, known.answers + 1)
                return self._known
            if known.secrets:
                self._known = self._known._replace(answers=known.answers + 1)
            return answer


class _Call(NamedTuple):
    """A call of the application's callable in one process. After ``until`` it counts as lost."""

    pid: int
    until: float
    answer: Future[_Known | str]


class _Known(NamedTuple):
    """The known secrets, the last accepted one first, and the number of results of the callable so far."""

    secrets: tuple[SecretText, ...]
    answers: int


def _read_secrets(read: Callable[[], object]) -> tuple[SecretText, ...] | str:
    """Return the secrets that the application's callable returns, or a sentence that explains the failure.

    Does not pass the exception on: its attributes, causes and frames may hold the secret, and error trackers
    send them all.
    """
    try:
        secrets = _parse_secrets(read())
    except Exception as error:
        return f"{describe_error(error)}."
    return f"the callable must return {secrets}." if isinstance(secrets, str) else secrets


def _parse_secrets(given: object) -> tuple[SecretText, ...] | str:
    """Return the secrets, or what they must be instead. Quotes nothing of the value."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Sequence) or isinstance(texts, (bytes, bytearray)):
        return f"a string or a list of strings, got {_kind_of(texts)}"
    for each in texts:
        if not isinstance(each, str):
            return f"a string or a list of strings, got a list with {_kind_of(each)}"
        if _SURROGATE.search(each):
            return "a string that can be encoded as UTF-8"  # a UnicodeEncodeError would hold the secret
    return tuple(SecretText(each) for each in texts if each)


def _kind_of(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"
