"""An Amazon Cognito user pool on a local port, for tests and development without AWS."""

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
    """A local Cognito user pool for tests, with real HTTP, real RSA keys, and faults on request.

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

    All methods are thread-safe. A pool that is stopped and restarted keeps its port, its keys and
    its clients.

    Args:
        pool_id: the user pool id, in the form ``<region>_<id>``.
        clients: the client ids with the scopes that each may have, or ``None`` for any scope, as in
            ``{"billing": "orders/read", "reports": None}``; or :class:`LocalClient` objects. The
            first one is the default client. Without this argument the only client is
            ``"local-client"``, which may have any scope. Secrets are generated at run time.
        token_lifetime: lifetime of new tokens, in seconds.
        port: the port to listen on; 0 takes a free one.
        host: the address to listen on. Never use the pool in production: it is a test double.
        public_url: scheme, host and port at which applications reach the pool, such as
            ``"http://pool:9229"``. The issuer and all other URLs of the pool begin with it.
        clock: returns seconds since the epoch, for tokens, recorded requests and the ``Date`` header.

    Raises:
        ConfigurationError: ``pool_id``, a client id, a scope or ``public_url`` is malformed.
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
        lock = threading.Condition()  # guards all state except the listener's
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
        """Start the server, and return the pool itself. Do nothing if it is already running."""
        self._listener.listen()
        return self

    def stop(self) -> None:
        """Stop the server, its threads and its connections. Does nothing if the pool is stopped."""
        self._listener.close()

    def offline(self) -> AbstractContextManager[object, None]:
        """Close all connections and refuse new ones, until :meth:`online` or the end of a ``with`` block.

        The pool keeps its port.
        """
        self._listener.refuse()
        block: ExitStack[None] = ExitStack()
        block.callback(self.online)
        return block

    def online(self) -> None:
        """Listen again on the same port. Faults stay as they were."""
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
        """The URL of the pool, which is scheme, host and port, or ``public_url``.

        Without ``public_url``, this and all other URLs are available only after the first start.

        Raises:
            RuntimeError: the pool has not been started.
        """
        if self._public_url is not None:
            return self._public_url
        host = reachable_host(self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._listener.port}"

    @property
    def issuer(self) -> str:
        """The issuer of the pool, which is the ``iss`` of its tokens."""
        return f"{self.url}/{self._pool_id}"

    @property
    def jwks_url(self) -> str:
        """The URL of the public keys."""
        return f"{self.issuer}/.well-known/jwks.json"

    @property
    def token_url(self) -> str:
        """The URL of the token endpoint."""
        return f"{self.url}/oauth2/token"

    @property
    def api_url(self) -> str:
        """The URL of the user pools API, for ``GetClientToken``."""
        return f"{self.url}/"

    def config(self, client_id: str | None = None, **extra: Any) -> dict[str, Any]:
        """Return the ``COGNITO_M2M_…`` settings of an app that trusts this pool and is a client of it.

        They do not restrict which clients may call: pass ``ALLOWED_CLIENT_IDS=…`` for that.

        Args:
            client_id: the client that the app uses; the default client if unset.
            extra: more settings without their prefix, as in ``config(LEEWAY=0)``. They override the others.

        Raises:
            ConfigurationError: the pool has no such client.
            RuntimeError: the pool has not been started, and has no ``public_url``.
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
        """Return this pool as a trusted pool, for a validator without Flask.

        The validator downloads the keys from this pool at first use:
        ``CognitoAccessTokenValidator(pools=[pool.trusted_pool()])``.
        """
        from ..inbound.key_source import trusted_pool_from
        from ..inbound.user_pool import user_pool_from

        return trusted_pool_from(user_pool_from(self.pool_id, issuer=self.issuer, jwks_url=self.jwks_url))

    @property
    def clients(self) -> tuple[LocalClient, ...]:
        """The clients of the pool, the default one first."""
        with self._lock:
            return tuple(self._clients.values())

    def client(self, client_id: str | None = None) -> LocalClient:
        """Return the client with this id, or the default client.

        Raises:
            ConfigurationError: the pool has no such client.
        """
        with self._lock:
            wanted = next(iter(self._clients), None) if client_id is None else client_id
            if wanted is None or wanted not in self._clients:
                raise ConfigurationError(
                    f"This pool has no client {client_id!r}. Its clients are {list(self._clients)}."
                )
            return self._clients[wanted]

    def add_client(
        self,
        client_id: str,
        secrets: str | Iterable[str] | None = None,
        scopes: str | Iterable[str] | None = None,
    ) -> LocalClient:
        """Add a client, or replace the one with this id.

        Args:
            client_id: any text without a colon.
            secrets: one or several; by default a random one, which is in ``.secret`` of the result.
            scopes: the scopes that it may have; by default any.

        Raises:
            ConfigurationError: the client id, a secret or a scope is invalid.
        """
        client = build_client(client_id, secrets, scopes)
        with self._lock:
            self._clients = {**self._clients, client_id: client}
        return client

    def remove_client(self, client_id: str) -> None:
        """Remove a client. It gets ``invalid_client`` from now on, but its tokens stay valid.

        Raises:
            ConfigurationError: the pool has no such client.
        """
        with self._lock:
            removed = self.client(client_id).client_id
            self._clients = {known: kept for known, kept in self._clients.items() if known != removed}

    def set_secrets(self, client_id: str, secrets: str | Iterable[str]) -> LocalClient:
        """Replace a client's secrets. During a rotation a client has two.

        Raises:
            ConfigurationError: the pool has no such client, or a secret is empty.
        """
        with self._lock:
            client = replace(self.client(client_id), secrets=secrets_from(secrets))
            self._clients = {**self._clients, client_id: client}
        return client

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """All requests since the start or :meth:`clear_requests`, in the order of arrival."""
        with self._lock:
            return tuple(self._requests)

    def count(self, endpoint: Target = "all") -> int:
        """Return how many of :attr:`requests` went to ``endpoint``."""
        return sum(endpoint in ("all", request.endpoint) for request in self.requests)

    def clear_requests(self) -> None:
        """Remove all recorded requests."""
        with self._lock:
            self._requests.clear()

    def wait_for(self, endpoint: Target, count: int = 1, timeout: float = 5.0) -> None:
        """Wait until ``endpoint`` has received ``count`` requests, whether answered or not.

        Args:
            timeout: the maximum time to wait, in seconds.

        Raises:
            TimeoutError: fewer requests arrived within ``timeout``.
        """
        with self._lock:
            if not self._lock.wait_for(lambda: self.count(endpoint) >= count, timeout):
                seen = self.count(endpoint)
                raise TimeoutError(
                    f"Only {seen} of {count} requests for {endpoint!r} arrived within {timeout} s."
                )

    def _receive(self, method: str, target: str, headers: Message, body: bytes) -> Delivery:
        """Record a request, and return the answer. Runs on the server's threads."""
        request = record_request(
            pool_id=self._pool_id, method=method, target=target, headers=headers, body=body, at=self._clock()
        )
        with self._lock:
            self._requests.append(request)
            delivery = self._delivery(request.endpoint, self._correct_answer(request))
            # Notify last, so a test that waits for a request finds its fault used up.
            self._lock.notify_all()
        self._note(request, delivery.answer)
        return delivery

    def _note(self, request: RecordedRequest, answer: Answer) -> None:
        """Do nothing. A subclass may log the request."""

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
        """Return the document of OpenID Connect Discovery 1.0, section 3, as far as this pool supports it."""
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
        raise ConfigurationError(
            f"pool_id must be <region>_<id>, such as us-east-1_LocalPool, got {pool_id!r}."
        )
    return region


def _parse_origin(public_url: str | None) -> str | None:
    origin = public_url.removesuffix("/") if public_url is not None else None
    if origin is not None and not is_origin(origin):
        raise ConfigurationError(
            f"public_url must be scheme, host and port, such as 'http://pool:9229', got {public_url!r}."
        )
    return origin
