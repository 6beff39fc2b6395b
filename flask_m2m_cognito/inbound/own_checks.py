"""Run the application's own checks: ``TOKEN_CHECK`` and a callable ``ALLOWED_CLIENT_IDS``."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

from ..exceptions import TokenValidationError
from ..remote.clock import Clock
from ..remote.redaction import hidden_traceback
from ..remote.threads import PerProcess

MOST_LOGGED_A_MINUTE = 10

_MINUTE = 60.0

_logger = logging.getLogger("flask_m2m_cognito.auth")


class Objection(NamedTuple):
    """Why a check does not accept a token: its own message, if it has one, and what it raised."""

    text: str = ""
    cause: Exception | None = None


class OwnChecks:
    """Runs the application's own checks: a token is accepted only on a true answer.

    Args:
        answers: exceptions with which a check chooses the HTTP answer, such as werkzeug's ``HTTPException``.
            They are not failures, so they are not logged.
        clock: measures the minute of the log limit.
        hide: removes the checked token from a text, because a check may quote it.
    """

    def __init__(
        self,
        answers: tuple[type[Exception], ...],
        clock: Clock,
        hide: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._answers = answers
        self._hide = hide
        self._clock = clock
        self._logged_at: defaultdict[str, deque[float]] = defaultdict(
            lambda: deque(maxlen=MOST_LOGGED_A_MINUTE)
        )  # guarded by lock
        self._lock = PerProcess(threading.Lock)

    def find_objection(
        self, setting: str, check: Callable[[Any], object], subject: object
    ) -> Objection | None:
        """Return why ``check`` does not accept ``subject``, or ``None`` if it does.

        Args:
            setting: the name of the setting that holds the check, for the log.
        """
        try:
            try:
                return None if is_true_answer(check(subject)) else Objection()
            except self._answers as answer:
                return Objection(cause=answer)
            except TokenValidationError as error:
                is_quoted = hidden_traceback(error, self._hide)
                return Objection(self._hide(str(error)), None if is_quoted else error)
        except Exception as error:
            hidden = hidden_traceback(error, self._hide)
            if self._may_log(setting):
                name = type(error).__name__
                _logger.warning(
                    "%s raised an unexpected exception (%s), so the token is rejected.%s",
                    setting,
                    name,
                    "\n" + hidden if hidden else "",
                    exc_info=None if hidden else error,
                    extra={"event": "token-check-raised", "setting": setting, "error": name},
                )
            return Objection(cause=None if hidden else error)

    def _may_log(self, setting: str) -> bool:
        # Any caller with a valid token can make a check fail, as often as the caller likes.
        with self._lock.get():
            now, logged_at = self._clock.monotonic(), self._logged_at[setting]
            if len(logged_at) == MOST_LOGGED_A_MINUTE and now < logged_at[0] + _MINUTE:
                return False
            logged_at.append(now)
            return True


def is_true_answer(answer: object) -> bool:
    """Return whether a check's answer is true and already computed.

    The return value of an async function or a generator is always true in Python, so it does not count.

    Raises:
        Exception: whatever ``bool(answer)`` raises.
    """
    if answer is NotImplemented or isinstance(answer, (Awaitable, Iterator, AsyncIterator, Future)):
        return False
    return bool(answer)
