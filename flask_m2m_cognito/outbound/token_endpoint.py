"""One token request to Cognito's token endpoint, and what it answers.

Source: RFC 6749, sections 4.4 and 5; Amazon Cognito Developer Guide, "The token issuer endpoint".
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, quote_plus

from ..exceptions import CognitoTokenRequestError, ConfigurationError
from ..formats.scopes import requested_scopes
from ..formats.urls import http_hosts_from, url_problem
from ..remote.clock import Deadline
from ..remote.redaction import Redaction
from ..remote.reports import unobserved
from ..remote.transport import (
    Answer,
    BasicCredentials,
    Form,
    Json,
    OnRequest,
    Transport,
    TransportError,
    merge_headers,
)
from .client_secret import ClientSecret, Secret, SecretText
from .client_token_api import client_token_request, in_oauth_words

ClientAuth = Literal["post", "basic"]

_TOKEN_CHARACTERS = re.compile(r"[\x21-\x7E]+")
_NOT_IN_A_CODE = re.compile(r"[^\x20-\x7E]")  # RFC 6749, section 5.2
_DIGITS = re.compile(r"[0-9]{1,15}")
_LONGEST_CODE = 100
_LONGEST_REQUEST_ID = 200
# The API's, the token endpoint's, and that of other AWS services that may stand in front.
_REQUEST_ID_HEADERS = ("x-amzn-requestid", "x-amz-cognito-request-id", "x-amz-request-id")

# RFC 6749, sections 4.1.2.1 and 5.2, and what AWS says when it throttles: they decide what happens next.
_STANDARD_CODES = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_type",
        "access_denied",
        "server_error",
        "temporarily_unavailable",
        "TooManyRequestsException",
    }
)


@dataclass(frozen=True)
class TokenResponse:
    """What the token endpoint gave.

    Attributes:
        access_token: the token. Not in the ``repr``.
        expires_in: seconds that it lives, if the endpoint said so.
        token_type: usually ``Bearer``.
        raw: the whole JSON object. Not in the ``repr``.
    """

    access_token: str = field(repr=False)
    expires_in: int | None
    token_type: str | None
    raw: dict[str, Any] = field(repr=False)


class DatedToken(NamedTuple):
    """An answer, and when it came by the servers' clocks, in seconds since the epoch, if they say."""

    response: TokenResponse
    answered_at: float | None


class TokenRequest(NamedTuple):
    """What a token is requested for."""

    scopes: Sequence[str]
    metadata: dict[str, str]


class CognitoM2MClient:
    """Asks Cognito for access tokens with the client credentials grant. Remembers none: see ``TokenSource``.

    Safe to use from any number of threads.

    Args:
        token_url: the ``/oauth2/token`` endpoint; or several, asked in order until one answers
            with less than 500.
        client_id: the app client's id.
        client_secret: the app client's secret, or several, or a callable that gives it: see ``ClientSecret``.
        client_auth: ``"post"`` sends id and secret in the form, ``"basic"`` in the header.
        client_metadata: sent as ``aws_client_metadata`` to the pool's Lambda triggers.
        headers: more headers of each request, such as one that a WAF requires. Never shown.
        client_token_api: ask ``GetClientToken`` of the user pools API, which ``token_url`` is the address
            of: for a pool without a domain. ``client_auth`` has no meaning there.
        allow_http_hosts: hosts that ``token_url`` may reach over plain http besides loopback, such as
            ``["stock", "*.svc.cluster.local"]``.
        on_request: what each HTTP request happens in, see ``Transport``.

    Raises:
        ConfigurationError: ``token_url`` is no URL that a secret may be sent to.
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
        self._token_url: str | tuple[str, ...] = ()  # for the repr, if the one that is given raises
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
        """The token endpoint, or several; may be replaced, and is checked each time."""
        return self._token_url

    @token_url.setter
    def token_url(self, token_url: str | Sequence[str]) -> None:
        # A copy: a list that changes later would not be checked.
        checked = token_url if isinstance(token_url, str) else tuple(token_url)
        problems = [
            url_problem(url, self._http_hosts) if isinstance(url, str) else "give text"
            for url in _as_urls(checked)
        ]
        if not problems or any(problems):
            problem = next(filter(None, problems), "give at least one URL")
            raise ConfigurationError(f"token_url cannot be used: {problem}.")
        self._token_url = checked

    @property
    def client_secret(self) -> Secret:
        """What was given as the secret; may be replaced."""
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
        """A new token for ``scopes``, by one billed request.

        Args:
            scopes: separated by spaces, or a sequence. At least one.
            timeout: seconds for connecting and for the answer, or one for each.

        Raises:
            CognitoTokenRequestError: no scope, no answer, an error, or an answer that is no token.
        """
        wanted = requested_scopes(scopes)
        if not wanted:
            raise CognitoTokenRequestError("At least one non-empty scope is required for fetch_token.")
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        return self.request_token(wanted, (connect, read), Deadline(connect + read))

    def request_token(
        self,
        scopes: Sequence[str],
        timeout: tuple[float, float],
        deadline: Deadline,
    ) -> TokenResponse:
        """As :meth:`fetch_token`, ending by ``deadline``. Without scopes: all that the client may have."""
        return self.request_dated_token(scopes, timeout, deadline).response

    def request_dated_token(
        self,
        scopes: Sequence[str],
        timeout: tuple[float, float],
        deadline: Deadline,
        metadata: Mapping[str, str] | None = None,
    ) -> DatedToken:
        """As :meth:`request_token`, with its time. ``metadata`` is merged over ``client_metadata``."""
        wanted = TokenRequest(scopes, self.merged_metadata(metadata))
        return self._secret.try_with(
            lambda secret: self._request(wanted, secret, timeout, deadline), deadline
        )

    def merged_metadata(self, metadata: Mapping[str, str] | None) -> dict[str, str]:
        """Return what is sent as ``aws_client_metadata`` with ``metadata``."""
        return {**(self.client_metadata or {}), **(metadata or {})}

    def _request(
        self, wanted: TokenRequest, secret: SecretText, timeout: tuple[float, float], deadline: Deadline
    ) -> DatedToken:
        redact = self.redaction(secret)
        transport = Transport(timeout, on_request=self._on_request, redact=redact)
        try:
            answer = self._answer(wanted, secret, transport, deadline)
        except TransportError as error:
            cause, text = error.cause, str(error)
        else:
            in_words = in_oauth_words if self.client_token_api else dict
            response = _AnswerReader(answer, redact, in_words).token_response()
            return DatedToken(response, _answered_at(answer))
        raise CognitoTokenRequestError(f"Token request failed: {text}") from cause

    def _answer(
        self, wanted: TokenRequest, secret: SecretText, transport: Transport, deadline: Deadline
    ) -> Answer:
        body: Form | Json
        if self.client_token_api:
            body = client_token_request(self.client_id, secret, wanted.scopes, wanted.metadata)
            credentials = None
        else:
            body, credentials = self._form(wanted, secret), self._credentials(secret)
        with_headers = _BodyWithHeaders(body, self._headers)
        return transport.post_form(_as_urls(self._token_url), with_headers, deadline, _is_final, credentials)

    def _form(self, wanted: TokenRequest, secret: SecretText) -> Form:
        fields = {"grant_type": "client_credentials"}
        if self.client_auth == "post":
            fields |= {"client_id": self.client_id, "client_secret": secret.reveal()}
        if wanted.scopes:
            fields["scope"] = " ".join(wanted.scopes)
        if wanted.metadata:
            fields["aws_client_metadata"] = json.dumps(wanted.metadata, separators=(",", ":"))
        return Form(fields)

    def _credentials(self, secret: SecretText) -> BasicCredentials | None:
        return BasicCredentials(f"Basic {self._pair(secret)}") if self.client_auth == "basic" else None

    def _pair(self, secret: SecretText) -> str:
        # Both are form-encoded first (RFC 6749, section 2.3.1).
        pair = f"{quote_plus(self.client_id)}:{quote_plus(secret.reveal())}"
        return base64.b64encode(pair.encode()).decode("ascii")

    def redaction(self, *sent: SecretText) -> Redaction:
        """Removes each secret as it is and as it was sent: a proxy's error page may quote any request."""
        secrets = {*sent, *self._secret.known, *self._headers.values()}
        return Redaction(lambda: (spelling for each in secrets for spelling in self._spellings(each)))

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


class _BodyWithHeaders(Form):
    """A body that is sent with the client's own headers too; as mute as the body."""

    __slots__ = ("_body", "_more")

    def __init__(self, body: Form | Json, more: Mapping[str, SecretText]) -> None:
        self._body = body
        self._more = more

    def headers(self) -> Mapping[str, str]:
        return merge_headers(self._body.headers(), {name: text.reveal() for name, text in self._more.items()})

    def encoded(self) -> bytes:
        return self._body.encoded()


def _as_urls(token_url: str | tuple[str, ...]) -> tuple[str, ...]:
    return (token_url,) if isinstance(token_url, str) else token_url


def _is_final(answer: Answer) -> bool:
    return answer.status < 500


_NO_JSON = object()
_LOWER_HEX = re.compile(r"%[0-9A-F]{2}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


class _AnswerReader:
    """An answer of the token endpoint, read step by step; each step returns or raises."""

    def __init__(
        self,
        answer: Answer,
        redact: Redaction,
        in_words: Callable[[Mapping[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        self._answer = answer
        self._redact = redact
        self._in_words = in_words  # from what the endpoint said to what RFC 6749 would have it say

    def token_response(self) -> TokenResponse:
        try:
            return self._token_response()
        except CognitoTokenRequestError as error:
            failure = error.with_traceback(None)
        # Without the frames of the steps, whose locals hold the payload with the token in it.
        raise failure

    def _token_response(self) -> TokenResponse:
        raw = self._payload()
        payload = self._in_words(raw)
        if self._answer.status >= 300:
            raise self._error(self._failed_text(payload), payload)
        if "error" in payload:
            raise self._error("Token response contained an OAuth2 error field.", payload)
        return TokenResponse(
            access_token=self._access_token(payload),
            expires_in=self._expires_in(payload),
            token_type=self._text(payload.get("token_type")),
            raw=raw,
        )

    def _payload(self) -> dict[str, Any]:
        try:
            payload = json.loads(self._answer.body)
        except (ValueError, RecursionError):
            payload = _NO_JSON
        if payload is _NO_JSON:
            # Not raised above: what was caught holds the body, and would be the error's context.
            # A proxy's page, or a redirect, says more by its status.
            is_error = self._answer.status >= 300
            raise self._error(self._failed_text({}) if is_error else "Token response was not valid JSON.")
        if not isinstance(payload, dict):
            raise self._error("Token response JSON was not an object.")
        return payload

    def _failed_text(self, payload: dict[str, Any]) -> str:
        status, code = self._answer.status, self._error_code(payload)
        if 300 <= status < 400:
            return f"Token endpoint returned a redirect, which is not followed: {status}"
        return f"Token endpoint returned an error response: {status}" + (f" {code}" if code else "")

    def _access_token(self, payload: dict[str, Any]) -> str:
        token = payload.get("access_token")
        if not token or not isinstance(token, str):
            raise self._error("Token response missing string access_token.")
        # It is going to be sent in a header: a line end in it would be a header of its own.
        if _TOKEN_CHARACTERS.fullmatch(token) is None:
            raise self._error("Token response access_token has characters that no token has.")
        return token

    def _expires_in(self, payload: dict[str, Any]) -> int | None:
        seconds = payload.get("expires_in")
        if seconds is None:
            return None
        if isinstance(seconds, str) and _DIGITS.fullmatch(seconds):
            seconds = int(seconds)  # as some gateways and emulators have it
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not _is_whole(seconds):
            raise self._error("Token response expires_in was not an integer.")
        return int(seconds)

    def _error(self, message: str, payload: Mapping[str, Any] | None = None) -> CognitoTokenRequestError:
        payload = payload or {}
        return CognitoTokenRequestError(
            message,
            status_code=self._answer.status,
            error_code=self._error_code(payload),
            error_description=self._text(payload.get("error_description") or None),
            response_body=self._redact(self._answer.text),
            request_id=self._request_id(),
            retry_after=self._answer.retry_after(time.time()),
        )

    def _text(self, value: object) -> str | None:
        if value is None or value == "Bearer":
            return value
        return self._redact(str(value))

    def _request_id(self) -> str | None:
        found = (self._answer.headers.get(name) for name in _REQUEST_ID_HEADERS)
        request_id = next((each for each in found if each), None)
        return None if request_id is None else self._redact(request_id)[:_LONGEST_REQUEST_ID]

    def _error_code(self, payload: Mapping[str, Any]) -> str | None:
        """The OAuth 2.0 ``error``, or the ``__type`` with which AWS says that it is throttling."""
        given = payload.get("error") or payload.get("__type")
        if not given:
            return None
        code = str(given).rpartition("#")[2]
        if code in _STANDARD_CODES:
            return code
        # It goes into texts of errors and into logs: it is to be one short line there. A secret that was
        # cut in two would not be found, so it is removed first.
        return _NOT_IN_A_CODE.sub("?", self._redact(code)[:_LONGEST_CODE])


def _answered_at(answer: Answer) -> float | None:
    """Return when an answer came by the servers' clocks.

    A cache on the way sends the ``Date`` of its own answer, or that of the first one with its ``Age``.
    """
    date, age = answer.clock_offset(0.0), answer.headers.get("Age", "")
    return None if date is None else date + (int(age) if _DIGITS.fullmatch(age) else 0)


def _is_whole(seconds: float) -> bool:
    # Beyond 2**53 it is no time that anybody means, and too much for a clock.
    return abs(seconds) < 2**53 and seconds == seconds // 1
