"""The app clients of a local pool, with their secrets and allowed scopes."""

from __future__ import annotations

import secrets as randomness
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..exceptions import ConfigurationError
from ..formats.scopes import SCOPE_FORM, is_scope, requested_scopes

DEFAULT_CLIENT_ID = "local-client"
DEFAULT_SCOPES = ("inventory/read", "inventory/write", "orders/read", "orders/write")

Clients = Mapping[str, "str | Iterable[str] | None"] | Iterable["LocalClient"]


@dataclass(frozen=True)
class LocalClient:
    """One app client of a :class:`LocalUserPool`. Its repr hides the secrets.

    Attributes:
        client_id: the client id.
        secrets: the accepted secrets. Cognito allows two at a time.
        scopes: the scopes of a token that is requested without scopes.
        any_scope: whether the client may request any other scope. If not, that is ``invalid_scope``.
    """

    client_id: str
    secrets: tuple[str, ...] = field(repr=False)
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    any_scope: bool = False

    def __post_init__(self) -> None:
        # RFC 7617, section 2: the first colon of Basic credentials ends the user id.
        if not self.client_id or ":" in self.client_id:
            raise ConfigurationError(
                f"client_id must be text without a colon, and not empty, got {self.client_id!r}."
            )
        if not self.secrets or not all(self.secrets):
            raise ConfigurationError("secrets must be at least one text, and none may be empty.")
        for scope in self.scopes:
            if not is_scope(scope):
                raise ConfigurationError(f"Invalid scope {scope!r}: {SCOPE_FORM}.")

    @property
    def secret(self) -> str:
        """The first of the client's secrets."""
        return self.secrets[0]

    def may_have(self, scope: str) -> bool:
        """Return whether the pool grants ``scope`` to the client."""
        return is_scope(scope) if self.any_scope else scope in self.scopes


def build_client(
    client_id: str, secrets: str | Iterable[str] | None, scopes: str | Iterable[str] | None
) -> LocalClient:
    """Build a client. Without secrets it gets a random one; without scopes it may have any scope."""
    return LocalClient(
        client_id,
        secrets=secrets_from(secrets),
        scopes=DEFAULT_SCOPES if scopes is None else requested_scopes(scopes),
        any_scope=scopes is None,
    )


def clients_from(clients: Clients | None) -> dict[str, LocalClient]:
    """Return the clients by id, the default one first."""
    if clients is None:
        clients = {DEFAULT_CLIENT_ID: None}
    if isinstance(clients, Mapping):
        clients = [build_client(client_id, None, scopes) for client_id, scopes in clients.items()]
    return {client.client_id: client for client in clients}


def secrets_from(secrets: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the given secrets, or a random one that is as long as Cognito's."""
    if secrets is None:
        return (randomness.token_hex(26),)
    return (secrets,) if isinstance(secrets, str) else tuple(secrets)
