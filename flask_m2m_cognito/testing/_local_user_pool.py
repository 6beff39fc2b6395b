"""An Amazon Cognito user pool on a local port, for tests and development. It needs no AWS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from email.message import Message
from typing import TYPE_CHECKING, Any

from ..exceptions import ConfigurationError
from ..formats.regions import region_of
from ..formats.urls import http_hosts_for, is_origin
from ..remote.clock import SYSTEM
from ._answers import KEEP_A_DAY, Answer, json_answer, service_error
from ._clients import Clients, LocalClient, build_client, clients_from, secrets_from
from ._faults import Delivery, Misbehaving, Target
from ._listener import Listener
from ._recorded import RecordedRequest, record_request
from ._server import HOST, reachable_host
from ._token_endpoint import token_answer
from ._tokens import Minting

if TYPE_CHECKING:
    from ..inbound.key_source import TrustedPool


class LocalUserPool(Minting, Misbehaving):
    """A Cognito user pool for tests: real HTTP, real RSA keys, and it fails when a test asks for it.

    >>> from flask_m2m_cognito.testing import LocalUserPool
    >>> with LocalUserPool() as pool:
    ...     settings = pool.config(LEEWAY=0)               # app.config.update(settings)
    ...     token = pool.token(scopes="inventory/read")    # a token without HTTP
    ...     with pool.fail("jwks", status=503):
    ...         pass                                       # what does your service do now?
    ...     pool.count("jwks")
    0
    >>> settings["COGNITO_M2M_USER_POOL_ID"], settings["COGNITO_M2M_CLIENT_ID"]
    ('us-east-1_LocalPool', 'local-client')

    Any thread may call any method at any time. A pool that is stopped and started again keeps
    its port, its keys and its clients.

    Args:
        pool_id: has the form ``<region>_<id>``.
        clients: client ids with the scopes that each may have, ``None`` for any, as in
            ``{"billing": "orders/read", "reports": None}``; or :class:`LocalClient` objects. The
            first is the default client. By default there is one, ``"local-client"``, which may
            have any scope. Secrets are made at run time.
        token_lifetime: seconds, for new tokens.
        port: the port to listen on; 0 takes a free one.
        host: the address to listen on. Not for production on any address: the pool is a test double.
        public_url: scheme, host and port under which applications reach the pool, such as
            ``"http://pool:9229"``: what its issuer and its other URLs begin with.
        clock: seconds since the epoch, for tokens, records and the ``Date`` header.

    Raises:
        ConfigurationError: ``pool_id``, a client id, a scope or ``public_url`` does not have the right form.
    """

    def __init__(
        self,
        pool_id: str = "us-east-1_LocalPool",
        *,
        clients: Clients | None = None,
        token_lifetime: int = 3600,
        port: int = 0,
        host: str = HOST,
        public_url: str | None = None,
        clock: Callable[[], float] = SYSTEM.wall,
    ) -> None:
        lock = threading.Condition()  # guards all state but the listener's
        Minting.__init__(self, lock, clock, token_lifetime)
        Misbehaving.__init__(self, lock)
        self._pool_id = pool_id
        self._region = _region_of(pool_id)
        self._clients = clients_from(clients)
        self._requests: list[RecordedRequest] = []
        self._host = host
        self._public_url = _parse_origin(public_url)
        self._listener = Listener(host, port, self._receive, clock, self._end_waits)

    def __enter__(self) -> LocalUserPool:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = f"at {self.url}" if self._listener.is_listening else "not listening"
        return f"<LocalUserPool {self._pool_id} {where}>"

    def start(self) -> LocalUserPool:
        """Listen, if it does not already, and return the pool itself."""
        self._listener.listen()
        return self

    def stop(self) -> None:
        """End the server, its threads and its connections. Does nothing if there are none."""
        self._listener.close()

    def offline(self) -> AbstractContextManager[object, None]:
        """Go offline: connections end, new ones are refused, the port stays this pool's.

        Until :meth:`online`, or to the end of a ``with`` block.
        """
        self._listener.refuse()
        block: ExitStack[None] = ExitStack()
        block.callback(self.online)
        return block

    def online(self) -> None:
        """Listen again, on the same port. Faults are as they were."""
        self._listener.listen()

    @property
    def pool_id(self) -> str:
        """The user pool id."""
        return self._pool_id

    @property
    def region(self) -> str:
        """The region in the pool id."""
        return self._region

    @property
    def url(self) -> str:
        """Scheme, host and port, or ``public_url``. Like all URLs of the pool, known from the first start.

        Raises:
            RuntimeError: the pool has not been started yet.
        """
        if self._public_url is not None:
            return self._public_url
        host = reachable_host(self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._listener.port}"

    @property
    def issuer(self) -> str:
        """The ``iss`` of its tokens."""
        return f"{self.url}/{self._pool_id}"

    @property
    def jwks_url(self) -> str:
        """Where its public keys are."""
        return f"{self.issuer}/.well-known/jwks.json"

    @property
    def token_url(self) -> str:
        """Where it gives tokens."""
        return f"{self.url}/oauth2/token"

    @property
    def api_url(self) -> str:
        """Where it answers ``GetClientToken`` of the user pools API."""
        return f"{self.url}/"

    def config(self, client_id: str | None = None, **extra: Any) -> dict[str, Any]:
        """Return the ``COGNITO_M2M_…`` settings for an app that trusts this pool and is a client of it.

        Policy is left to the app: nothing here says which clients it lets in.

        Args:
            client_id: the client that the app is; the default client by default.
            extra: more settings without their prefix, as in ``config(LEEWAY=0)``. They win.

        Raises:
            ConfigurationError: the pool has no such client.
        """
        client = self.client(client_id)
        settings = {
            "USER_POOL_ID": self.pool_id,
            "ISSUER": self.issuer,
            "JWKS_URL": self.jwks_url,
            "TOKEN_URL": self.api_url if extra.get("CLIENT_TOKEN_API") else self.token_url,
            "CLIENT_ID": client.client_id,
            "CLIENT_SECRET": client.secret,
            "SCOPES": list(client.scopes),
            **({"ALLOW_HTTP_HOSTS": http_hosts} if (http_hosts := http_hosts_for(self.url)) else {}),
            **{name.upper(): value for name, value in extra.items()},
        }
        return {f"COGNITO_M2M_{name}": value for name, value in settings.items()}

    def trusted_pool(self) -> TrustedPool:
        """Return this pool with its keys, for a validator without Flask.

        The keys are downloaded from this pool at first use:
        ``CognitoAccessTokenValidator(pools=[pool.trusted_pool()])``.
        """
        from ..inbound.key_source import trusted_pool_from
        from ..inbound.user_pool import user_pool_from

        return trusted_pool_from(user_pool_from(self.pool_id, issuer=self.issuer, jwks_url=self.jwks_url))

    @property
    def clients(self) -> tuple[LocalClient, ...]:
        """All clients, the default one first."""
        with self._lock:
            return tuple(self._clients.values())

    def client(self, client_id: str | None = None) -> LocalClient:
        """Return the client of this id, or the default one.

        Raises:
            ConfigurationError: there is none.
        """
        with self._lock:
            wanted = next(iter(self._clients), None) if client_id is None else client_id
            if wanted is None or wanted not in self._clients:
                raise ConfigurationError(f"This pool has no client {client_id!r}. (None is the first one.)")
            return self._clients[wanted]

    def add_client(
        self,
        client_id: str,
        secrets: str | Iterable[str] | None = None,
        scopes: str | Iterable[str] | None = None,
    ) -> LocalClient:
        """Add a client, or replace the one of this id.

        Args:
            client_id: any text without a colon.
            secrets: one or several; by default a random one, in ``.secret``.
            scopes: all that it may have; by default any.
        """
        client = build_client(client_id, secrets, scopes)
        with self._lock:
            self._clients = {**self._clients, client_id: client}
        return client

    def remove_client(self, client_id: str) -> None:
        """Remove a client: it gets ``invalid_client`` from now on; tokens that it has stay valid."""
        with self._lock:
            removed = self.client(client_id).client_id
            self._clients = {known: kept for known, kept in self._clients.items() if known != removed}

    def set_secrets(self, client_id: str, secrets: str | Iterable[str]) -> LocalClient:
        """Replace a client's secrets: two for the time of a change, one before and after it."""
        with self._lock:
            client = replace(self.client(client_id), secrets=secrets_from(secrets))
            self._clients = {**self._clients, client_id: client}
        return client

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every request since the start or :meth:`clear_requests`, in the order of arrival."""
        with self._lock:
            return tuple(self._requests)

    def count(self, endpoint: Target = "all") -> int:
        """Return how many of those went to ``endpoint``."""
        return sum(endpoint in ("all", request.endpoint) for request in self.requests)

    def clear_requests(self) -> None:
        """Forget all requests so far."""
        with self._lock:
            self._requests.clear()

    def wait_for(self, endpoint: Target, count: int = 1, timeout: float = 5.0) -> None:
        """Wait until ``endpoint`` has received ``count`` requests, answered or not.

        Raises:
            TimeoutError: they did not come in ``timeout`` seconds.
        """
        with self._lock:
            if not self._lock.wait_for(lambda: self.count(endpoint) >= count, timeout):
                seen = self.count(endpoint)
                raise TimeoutError(f"{seen} of {count} requests for {endpoint!r} came in {timeout} s.")

    def _receive(self, method: str, target: str, headers: Message, body: bytes) -> Delivery:
        """Record a request, and return what to send. Runs in the server's threads."""
        request = record_request(
            pool_id=self._pool_id, method=method, target=target, headers=headers, body=body, at=self._clock()
        )
        with self._lock:
            self._requests.append(request)
            delivery = self._delivery(request.endpoint, self._correct_answer(request))
            # Last, so a test that waits for a request finds its fault used up.
            self._lock.notify_all()
        self._note(request, delivery.answer)
        return delivery

    def _note(self, request: RecordedRequest, answer: Answer) -> None:
        """Do nothing: for a pool that logs its requests."""

    def _correct_answer(self, request: RecordedRequest) -> Answer:
        if request.endpoint == "other":
            return service_error(404)
        allowed = "POST" if request.endpoint == "token" else "GET"
        if request.method != allowed:
            return Answer(405, b"", {"Allow": allowed})
        if request.endpoint == "token":
            return token_answer(request, self._clients, self.token, self._token_lifetime)
        content = self.jwks() if request.endpoint == "jwks" else self._openid_configuration()
        return json_answer(content, headers=KEEP_A_DAY)

    def _openid_configuration(self) -> dict[str, Any]:
        """OpenID Connect Discovery 1.0, section 3, as far as there is something to find here."""
        return {
            "authorization_endpoint": f"{self.url}/oauth2/authorize",
            "id_token_signing_alg_values_supported": ["RS256"],
            "issuer": self.issuer,
            "jwks_uri": self.jwks_url,
            "response_types_supported": ["code", "token"],
            "scopes_supported": ["openid", "email", "phone", "profile"],
            "subject_types_supported": ["public"],
            "token_endpoint": self.token_url,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }

    def _client_or_default(self, client_id: str) -> LocalClient:
        with self._lock:
            return self._clients.get(client_id) or self.client()


def _region_of(pool_id: str) -> str:
    region = region_of(pool_id)
    if region is None:
        raise ConfigurationError(f"pool_id must be <region>_<id>, as us-east-1_LocalPool, not {pool_id!r}.")
    return region


def _parse_origin(public_url: str | None) -> str | None:
    origin = public_url.removesuffix("/") if public_url is not None else None
    if origin is not None and not is_origin(origin):
        raise ConfigurationError(
            f"public_url must be scheme, host and port, such as 'http://pool:9229', got {public_url!r}."
        )
    return origin
