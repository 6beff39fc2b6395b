"""The token sources of an application's clients: one for each client and set of scopes, bounded in number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..exceptions import ConfigurationError
from ..formats.scopes import check_scope, requested_scopes
from ..remote.threads import PerProcess
from .refused_calls import Refusal
from .token_source import TokenSource

MOST_SOURCES = 256
"""Kept for each application: scopes and metadata may be any caller's text. The first with metadata is
dropped, else the first: a tenant's token must not cost the service its own."""

Scopes = str | Sequence[str] | None
ClientName = str | None
Metadata = Mapping[str, str] | None
_MetadataKey = frozenset[tuple[str, str]]
_NO_METADATA: _MetadataKey = frozenset()


@dataclass(frozen=True, eq=False)
class FoundTokens:
    """The tokens of the source that ``find`` returns when a request is sent: the current application's."""

    find: Callable[[], TokenSource]

    def token(self) -> str:
        return self.find().token()

    async def token_async(self) -> str:
        return await self.find().token_async()

    def renew(self, token: str) -> str:
        return self.find().renew(token)

    def forget(self, token: str) -> None:
        self.find().forget(token)

    def note_refusal(self, token: str, refusal: Refusal) -> None:
        self.find().note_refusal(token, refusal)


class TokenSources:
    """Holds the token source for each client, set of scopes and metadata; builds it when it is first needed.

    Args:
        default_scopes: for each client's name (``None`` is the default client), the scopes of a call
            that names none.
        build: builds the source for a client's name, scopes and metadata.
        most: how many are kept.
    """

    def __init__(
        self,
        default_scopes: Mapping[ClientName, Sequence[str]],
        build: Callable[[ClientName, tuple[str, ...], dict[str, str]], TokenSource],
        most: int = MOST_SOURCES,
    ) -> None:
        self._default_scopes = default_scopes
        self._build = build
        self._most = most
        self._sources: dict[tuple[ClientName, frozenset[str], _MetadataKey], TokenSource] = {}
        self._by_arguments: dict[tuple[ClientName, Scopes, _MetadataKey], TokenSource] = {}
        #: Returns the default client's token for its own scopes, once it was needed.
        self.default_token: Callable[[], str] | None = None
        self._lock = PerProcess(threading.Lock)  # for writing

    def get(self, scopes: Scopes = None, client: ClientName = None, metadata: Metadata = None) -> TokenSource:
        """Return the source for ``scopes``, or for the client's own if none are named.

        Raises:
            ConfigurationError: there is no such client, or that is not a scope, or not metadata.
        """
        given = scopes if scopes is None or isinstance(scopes, str) else tuple(scopes)
        extra = _NO_METADATA if metadata is None else _metadata_key(metadata)
        source = self._by_arguments.get((client, given, extra))
        return source if source is not None else self._get_or_build(given, client, extra)

    def of_client(self, client: ClientName) -> tuple[TokenSource, ...]:
        """Return those of a client."""
        with self._lock.get():
            return tuple(source for (name, *_), source in self._sources.items() if name == client)

    def all(self) -> tuple[tuple[ClientName, TokenSource], ...]:
        """Return all, with their clients' names."""
        with self._lock.get():
            return tuple((name, source) for (name, *_), source in self._sources.items())

    def check_client(self, client: ClientName) -> None:
        """Raise :class:`ConfigurationError` unless there is such a client."""
        if client in self._default_scopes:
            return
        if client is None:
            raise ConfigurationError(
                "There is no default client: set COGNITO_M2M_CLIENT_ID, COGNITO_M2M_CLIENT_SECRET and "
                "COGNITO_M2M_DOMAIN or COGNITO_M2M_TOKEN_URL, or name one of COGNITO_M2M_CLIENTS."
            )
        known = ", ".join(sorted(repr(name) for name in self._default_scopes if name is not None))
        raise ConfigurationError(
            f"There is no client {client!r} in COGNITO_M2M_CLIENTS, which has: {known or 'none'}."
        )

    def _get_or_build(self, given: Scopes, client: ClientName, extra: _MetadataKey) -> TokenSource:
        self.check_client(client)
        scopes = requested_scopes(given) if given else ()
        for scope in scopes:
            check_scope(scope)
        scopes = scopes or tuple(self._default_scopes[client])
        key = (client, frozenset(scopes), extra)
        with self._lock.get():
            source = self._sources.get(key)
            if source is None:
                while len(self._sources) >= self._most:
                    oldest = next(iter(self._sources))
                    del self._sources[next((each for each in self._sources if each[2]), oldest)]
                    self._by_arguments.clear()
                    self.default_token = None
                source = self._sources[key] = self._build(client, scopes, dict(extra))
            if len(self._by_arguments) < 4 * self._most:
                self._by_arguments[(client, given, extra)] = source
            if client is None and given is None and not extra:
                self.default_token = source.token
        return source


def _metadata_key(metadata: Mapping[str, str]) -> _MetadataKey:
    if not isinstance(metadata, Mapping) or not all(
        isinstance(text, str) for item in metadata.items() for text in item
    ):
        raise ConfigurationError("metadata must be a dict whose keys and values are text.")
    return frozenset(metadata.items())
