"""Send one token request to Cognito's token endpoint.

Source: RFC 6749, section 4.4; Amazon Cognito Developer Guide, "The token issuer endpoint".
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Literal, NamedTuple
from urllib.parse import quote, quote_plus, urlencode

from ..exceptions import CognitoTokenRequestError, ConfigurationError
from ..formats.scopes import requested_scopes
from ..formats.urls import http_hosts_from, url_problem
from ..remote.clock import Deadline
from ..remote.redaction import Redaction
from ..remote.reports import unobserved
from ..remote.transport import Body, OnRequest, Transport, TransportError, merge_headers
from .client_secret import ClientSecret, Secret, SecretText
from .client_token_api import build_client_token_request, translate_to_oauth
from .token_answer import DatedToken, TokenResponse, parse_token

ClientAuth = Literal["post", "basic"]

_LOWER_HEX = re.compile(r"%[0-9A-F]{2}")


class TokenRequest(NamedTuple):
    """The scopes and the metadata of a token request."""

    scopes: Sequence[str]
    metadata: Mapping[str, str]


class CognitoM2MClient:
    """Fetch access tokens from Cognito with the client credentials grant (RFC 6749, section 4.4).

    Caches nothing: each call sends a request. Safe to use from any number of threads.

    Args:
        token_url: the ``/oauth2/token`` endpoint, or several, which are tried in order until one returns
            a status below 500.
        client_id: the app client's id.
        client_secret: the app client's secret; or several, of which the next is tried on ``invalid_client``;
            or a callable that returns one or several, and is called again after ``invalid_client``.
        client_auth: ``"post"`` sends id and secret in the form, ``"basic"`` in the ``Authorization`` header.
        client_metadata: sent as ``aws_client_metadata`` to the pool's Lambda triggers.
        headers: more headers for each request, such as one that a WAF requires. Their values are secret.
        client_token_api: call ``GetClientToken`` of the user pools API at ``token_url``, for a pool
            without a domain. ``client_auth`` is ignored then.
        allow_http_hosts: hosts that ``token_url`` may reach over plain http besides loopback, such as
            ``["stock", "*.svc.cluster.local"]``.
        on_request: returns a context manager around each HTTP request, see ``Transport``.

    Raises:
        ConfigurationError: ``token_url`` is invalid, or a secret may not be sent to it.
        TypeError: ``client_secret`` is neither a string, nor a list of strings, nor a callable.
    """

    def __init__(
        self,
        token_url: str | Sequence[str],
        client_id: str,
        client_secret: Secret,
        *,
        client_auth: ClientAuth = "post",
        client_metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        client_token_api: bool = False,
        allow_http_hosts: str | Iterable[str] = (),
        on_request: OnRequest = unobserved,
    ) -> None:
        self._token_url: str | tuple[str, ...] = ()  # for the repr, if the setter below raises
        #: The token endpoints, in the order in which they are tried.
        self.urls: tuple[str, ...] = ()
        self.client_id = client_id
        self.client_secret = client_secret
        self._headers = {name: SecretText(text) for name, text in (headers or {}).items()}
        del client_secret, headers  # error trackers send the locals of each frame
        self._http_hosts = http_hosts_from(allow_http_hosts)
        self.token_url = token_url
        self.client_auth = client_auth
        self.client_metadata = client_metadata
        self.client_token_api = client_token_api
        self._on_request = on_request

    @property
    def token_url(self) -> str | Sequence[str]:
        """The token endpoint, or several. You may assign another, which is checked as well."""
        return self._token_url

    @token_url.setter
    def token_url(self, token_url: str | Sequence[str]) -> None:
        # A copy, because changes to the caller's list would not be checked.
        checked = token_url if isinstance(token_url, str) else tuple(token_url)
        urls = (checked,) if isinstance(checked, str) else checked
        problems = [
            url_problem(url, self._http_hosts) if isinstance(url, str) else "give text" for url in urls
        ]
        if not problems or any(problems):
            problem = next(filter(None, problems), "give at least one URL")
            raise ConfigurationError(f"token_url is invalid: {problem}.")
        self._token_url, self.urls = checked, urls

    @property
    def client_secret(self) -> Secret:
        """The secret, or the list or callable, as it was passed. You may assign another."""
        return self._given_secret

    @client_secret.setter
    def client_secret(self, secret: Secret) -> None:
        self._given_secret = secret
        self._secret = ClientSecret(secret)

    def __repr__(self) -> str:
        return f"CognitoM2MClient(token_url={self.token_url!r}, client_id={self.client_id!r})"

    def fetch_token(
        self, scopes: str | Sequence[str], timeout: float | tuple[float, float] = 30.0
    ) -> TokenResponse:
        """Fetch a new token for ``scopes`` with one request, which AWS bills.

        Args:
            scopes: at least one scope, as a string separated by spaces or as a sequence.
            timeout: seconds for connecting and for the response, or a tuple with one value for each.

        Raises:
            CognitoTokenRequestError: ``scopes`` is empty, the request failed, or the response has no token.
        """
        wanted = requested_scopes(scopes)
        if not wanted:
            raise CognitoTokenRequestError("fetch_token requires at least one scope.")
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        return self.request_token(wanted, (connect, read), Deadline(connect + read))

    def request_token(
        self,
        scopes: Sequence[str],
        timeout: tuple[float, float],
        deadline: Deadline,
    ) -> TokenResponse:
        """Fetch a new token before ``deadline``. Without scopes, request all that the client may have."""
        return self.request_dated_token(scopes, timeout, deadline).response

    def request_dated_token(
        self,
        scopes: Sequence[str],
        timeout: tuple[float, float],
        deadline: Deadline,
        metadata: Mapping[str, str] | None = None,
    ) -> DatedToken:
        """Fetch a new token and its time. ``metadata`` is sent instead of ``client_metadata``."""
        wanted = TokenRequest(scopes, (self.client_metadata or {}) if metadata is None else metadata)
        return self._secret.try_with(
            lambda secret: self._request(wanted, secret, timeout, deadline), deadline
        )

    def _request(
        self, wanted: TokenRequest, secret: SecretText, timeout: tuple[float, float], deadline: Deadline
    ) -> DatedToken:
        redact = self.build_redaction(secret)
        transport = Transport(timeout, on_request=self._on_request, redact=redact)
        body = self._build_body(wanted, secret)
        try:
            answer = transport.post(self.urls, body, deadline, lambda answer: answer.status < 500)
        except TransportError as error:
            cause, text = error.cause, str(error)
        else:
            return parse_token(answer, redact, translate_to_oauth if self.client_token_api else dict)
        raise CognitoTokenRequestError(f"Token request failed: {text}") from cause

    def _build_body(self, wanted: TokenRequest, secret: SecretText) -> Body:
        if self.client_token_api:
            body = build_client_token_request(self.client_id, secret, wanted.scopes, wanted.metadata)
        else:
            body = self._build_form(wanted, secret)
        if self._headers:
            more = {name: text.reveal() for name, text in self._headers.items()}
            body.headers = merge_headers(more, body.headers)
        return body

    def _build_form(self, wanted: TokenRequest, secret: SecretText) -> Body:
        fields = {"grant_type": "client_credentials"}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self.client_auth == "post":
            fields |= {"client_id": self.client_id, "client_secret": secret.reveal()}
        else:
            headers["Authorization"] = f"Basic {self._pair(secret)}"
        if wanted.scopes:
            fields["scope"] = " ".join(wanted.scopes)
        if wanted.metadata:
            fields["aws_client_metadata"] = json.dumps(dict(wanted.metadata), separators=(",", ":"))
        return Body(urlencode(fields).encode("ascii"), headers)

    def _pair(self, secret: SecretText) -> str:
        # RFC 6749, section 2.3.1: both are form-encoded before they are joined.
        return _base64(f"{quote_plus(self.client_id)}:{quote_plus(secret.reveal())}")

    def build_redaction(self, *sent: SecretText) -> Redaction:
        """Return a redaction that removes each secret, in every encoding in which it is sent.

        The error page of a proxy may quote the whole request.
        """

        def list_spellings() -> Iterator[str]:
            for secret in {*sent, *self._secret.known, *self._headers.values()}:
                yield from self._spellings(secret)

        return Redaction(list_spellings)

    def _spellings(self, secret: SecretText) -> Iterator[str]:
        text = secret.reveal()
        if text:
            in_json = json.dumps(text)[1:-1]
            yield from (text, in_json, in_json.replace("/", "\\/"), escape(text))
            for quoted in (quote_plus(text), quote(text, safe="")):
                in_lower_case = _LOWER_HEX.sub(lambda found: found[0].lower(), quoted)
                yield from (quoted, in_lower_case, quote(quoted, safe=""))
            for pair in (self._pair(secret), _base64(f"{self.client_id}:{text}"), _base64(text)):
                yield from (pair, pair.rstrip("="), pair.rstrip("=").replace("+", "-").replace("/", "_"))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
