"""A client's secret, which may be one of two, or something that must be asked again after a rotation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from ..exceptions import CognitoTokenRequestError
from ..remote.process_lock import ProcessLock

Secret = str | Sequence[str] | Callable[[], str | Sequence[str]]
R = TypeVar("R")


class SecretText:
    """A secret that shows in no ``repr``: error trackers send the locals of each stack frame."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretText) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)


class ClientSecret:
    """The secret that works, for all token sources of one client. Cognito allows two at a time.

    Args:
        secret: one; or several, of which the next is tried on ``invalid_client``; or a callable
            that gives one or several, asked at first use and once more after ``invalid_client``.
    """

    def __init__(self, secret: Secret) -> None:
        self._ask = secret if callable(secret) else None
        # Replaced whole.
        self._known = _Known(() if callable(secret) else _as_tuple(secret), answers=0)
        self._lock = ProcessLock()

    def __repr__(self) -> str:
        return "ClientSecret()"

    @property
    def known(self) -> tuple[SecretText, ...]:
        """Every secret that may have been sent."""
        return self._known.secrets

    def try_with(self, request: Callable[[SecretText], R]) -> R:
        """What ``request`` gives with the first secret that Cognito takes.

        Raises:
            CognitoTokenRequestError: none is taken, or the callable gave none.
        """
        known = self._known if self._known.secrets else self._asked(self._known)
        try:
            return self._first_taken(known.secrets, request)
        except CognitoTokenRequestError as error:
            if error.error_code != "invalid_client" or self._ask is None:
                raise
            newer = self._asked(known)
            if set(newer.secrets) == set(known.secrets):
                raise
        return self._first_taken(newer.secrets, request)

    def _first_taken(self, secrets: tuple[SecretText, ...], request: Callable[[SecretText], R]) -> R:
        for position, secret in enumerate(secrets, 1):
            try:
                response = request(secret)
            except CognitoTokenRequestError as error:
                if error.error_code != "invalid_client" or position == len(secrets):
                    raise
            else:
                self._remember(secret, secrets)
                return response
        raise CognitoTokenRequestError("The client secret is empty.")

    def _remember(self, taken: SecretText, secrets: tuple[SecretText, ...]) -> None:
        known = self._known
        if secrets[0] != taken and known.secrets == secrets:
            self._known = known._replace(secrets=(taken, *(each for each in secrets if each != taken)))

    def _asked(self, refused: _Known) -> _Known:
        """The callable's answer; one thread asks, whoever else was refused with the same gets it too.

        It is an answer as well that there is nothing new yet, or that it can't be said now.
        """
        with self._lock:
            known = self._known
            if self._ask is None or known.answers != refused.answers:
                return known
            try:
                self._known = _Known(_as_tuple(self._ask()), known.answers + 1)
            except Exception as error:
                if known.secrets:
                    self._known = known._replace(answers=known.answers + 1)
                raise CognitoTokenRequestError(
                    f"The client secret could not be read: {type(error).__name__}."
                ) from error
            return self._known


class _Known(NamedTuple):
    """Secrets, the one that was taken last before the others, after so many answers of the callable."""

    secrets: tuple[SecretText, ...]
    answers: int


def _as_tuple(secret: object) -> tuple[SecretText, ...]:
    if isinstance(secret, str):
        secret = (secret,)
    if isinstance(secret, Sequence) and all(isinstance(each, str) for each in secret):
        return tuple(SecretText(each) for each in secret if each)
    raise TypeError("a client secret is text, or a list of texts")
