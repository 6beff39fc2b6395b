"""Hold an application's token sources: one for each client, set of scopes and metadata, bounded in number."""

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
"""The number kept for each application, because scopes and metadata may come from callers.

The oldest with metadata is dropped, else the oldest: a tenant's token must not displace the service's own."""

Scopes = str | Sequence[str] | None
ClientName = str | None
Metadata = Mapping[str, str] | None
_MetadataKey = frozenset[tuple[str, str]]
_NO_METADATA: _MetadataKey = frozenset()


@dataclass(frozen=True, eq=False)
class FoundTokens:
    """The tokens of the source that ``find`` returns for each request: that of the current application."""

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
    """The token sources by client, set of scopes and metadata. Builds each at its first use.

    Args:
        default_scopes: for each client name (``None`` is the default client), the scopes of a call
            that names none.
        build: builds the source for a client name, scopes and metadata.
        most: the largest number of sources to keep.
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
        #: Return the default client's token for its own scopes. ``None`` until the first call that needs it.
        self.default_token: Callable[[], str] | None = None
        self._lock = PerProcess(threading.Lock)  # for writers only

    def get(self, scopes: Scopes = None, client: ClientName = None, metadata: Metadata = None) -> TokenSource:
        """Return the source for ``scopes``, or for the client's own scopes if there are none.

        Raises:
            ConfigurationError: the client is unknown, or a scope or the metadata is invalid.
        """
        given = scopes if scopes is None or isinstance(scopes, str) else tuple(scopes)
        extra = _NO_METADATA if metadata is None else _metadata_key(metadata)
        source = self._by_arguments.get((client, given, extra))
        return source if source is not None else self._get_or_build(given, client, extra)

    def of_client(self, client: ClientName) -> tuple[TokenSource, ...]:
        """Return the sources of a client."""
        with self._lock.get():
            return tuple(source for (name, *_), source in self._sources.items() if name == client)

    def all(self) -> tuple[tuple[ClientName, TokenSource], ...]:
        """Return all sources, each with its client's name."""
        with self._lock.get():
            return tuple((name, source) for (name, *_), source in self._sources.items())

    def check_client(self, client: ClientName) -> None:
        """Raise :class:`ConfigurationError` if the client is unknown."""
        if client in self._default_scopes:
            return
        if client is None:
            raise ConfigurationError(
                "No default client is configured. Set COGNITO_M2M_CLIENT_ID, COGNITO_M2M_CLIENT_SECRET and "
                "COGNITO_M2M_DOMAIN or COGNITO_M2M_TOKEN_URL, or pass client= with a name from "
                "COGNITO_M2M_CLIENTS."
            )
        known = ", ".join(sorted(repr(name) for name in self._default_scopes if name is not None))
        raise ConfigurationError(
            f"Unknown client {client!r}. COGNITO_M2M_CLIENTS has {known or 'no clients'}."
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
        raise ConfigurationError("metadata must be a dict whose keys and values are strings.")
    return frozenset(metadata.items())
