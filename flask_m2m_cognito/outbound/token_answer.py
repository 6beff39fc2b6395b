"""Parse and check a response of the token endpoint. Uses no network and no state.

Source: RFC 6749, section 5; Amazon Cognito Developer Guide, "The token issuer endpoint".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..exceptions import CognitoTokenRequestError
from ..remote.redaction import Redaction
from ..remote.transport import Answer

_TOKEN_CHARACTERS = re.compile(r"[\x21-\x7E]+")
_NOT_IN_A_CODE = re.compile(r"[^\x20-\x7E]")  # RFC 6749, section 5.2
_DIGITS = re.compile(r"[0-9]{1,15}")
_LONGEST_CODE = 100
_LONGEST_REQUEST_ID = 200
# Of the user pools API, of the token endpoint, and of AWS services that may be in front of it.
_REQUEST_ID_HEADERS = ("x-amzn-requestid", "x-amz-cognito-request-id", "x-amz-request-id")

# RFC 6749, sections 4.1.2.1 and 5.2, and AWS's code for throttling. They decide what happens next.
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

# What to do about a code, for the text of the error.
_ADVICE = {
    "invalid_client": " Check the client id and the client secret.",
    "unauthorized_client": " Enable the client_credentials grant for the app client.",
    "invalid_scope": " Allow every requested scope for the app client.",
    "TooManyRequestsException": " Send fewer token requests, or share a cache between processes.",
}

_NOT_JSON = object()


@dataclass(frozen=True)
class TokenResponse:
    """A successful response of the token endpoint (RFC 6749, section 5.1).

    Attributes:
        access_token: the token. Not in the ``repr``.
        expires_in: the token's lifetime in seconds, or ``None`` if the response does not have it.
        token_type: usually ``Bearer``.
        raw: the whole JSON object. Not in the ``repr``.
    """

    access_token: str = field(repr=False)
    expires_in: int | None
    token_type: str | None
    raw: dict[str, Any] = field(repr=False)


class DatedToken(NamedTuple):
    """A response, and its time by the servers' clocks in seconds since the epoch, if they send it."""

    response: TokenResponse
    answered_at: float | None


def parse_token(
    answer: Answer, redact: Redaction, to_oauth: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
) -> DatedToken:
    """Return the token in a response.

    Args:
        answer: the response.
        redact: removes secrets from text that an error quotes.
        to_oauth: translates the JSON object to the members that RFC 6749 defines.

    Raises:
        CognitoTokenRequestError: the response is an error, or has no valid token.
    """
    parsed = _parse(answer, redact, to_oauth)
    if isinstance(parsed, CognitoTokenRequestError):
        # Raised here and not in _parse, which has the payload: error trackers send the locals of each frame.
        raise parsed
    return DatedToken(parsed, _answered_at(answer))


def _parse(
    answer: Answer, redact: Redaction, to_oauth: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> TokenResponse | CognitoTokenRequestError:
    try:
        raw = json.loads(answer.body)
    except (ValueError, RecursionError):
        raw = _NOT_JSON
    payload = to_oauth(raw) if isinstance(raw, dict) else {}
    is_error = answer.status >= 300 or "error" in payload
    code = _error_code(payload, redact) if is_error else None
    problem = _problem_with(answer.status, raw, payload, code)
    if problem is None:
        kind, seconds = payload.get("token_type"), payload.get("expires_in")
        return TokenResponse(
            access_token=payload["access_token"],
            expires_in=None if seconds is None else int(seconds),
            token_type=kind if kind in (None, "Bearer") else redact(str(kind)),
            raw=raw,
        )
    description = payload.get("error_description")
    request_id = next(filter(None, map(answer.headers.get, _REQUEST_ID_HEADERS)), None)
    return CognitoTokenRequestError(
        problem,
        status_code=answer.status,
        error_code=code,
        error_description=redact(str(description)) if description else None,
        response_body=redact(answer.text),
        request_id=redact(request_id)[:_LONGEST_REQUEST_ID] if request_id else None,
        retry_after=answer.retry_after(time.time()),
    )


def _problem_with(status: int, raw: object, payload: Mapping[str, Any], code: str | None) -> str | None:
    """Return why a response has no valid token, or ``None`` if it has one."""
    if raw is not _NOT_JSON and not isinstance(raw, dict):
        return "The token endpoint returned JSON that is not an object."
    # For the page of a proxy, or a redirect, the status explains more than the invalid JSON does.
    if 300 <= status < 400:
        return (
            f"The token endpoint returned a redirect ({status}), which is not followed. Check the token URL."
        )
    if status >= 300 or "error" in payload:
        error = f"{status} {code}" if code else str(status)
        return f"The token endpoint returned an error: {error}.{_ADVICE.get(code or '', '')}"
    if raw is _NOT_JSON:
        return "The response of the token endpoint is not valid JSON. Check the token URL."
    token, expires_in = payload.get("access_token"), payload.get("expires_in")
    if not token or not isinstance(token, str):
        return "The token response has no access_token that is a non-empty string."
    # The token will be sent in a header: a line break in it would start another header.
    if _TOKEN_CHARACTERS.fullmatch(token) is None:
        return "The access_token in the token response has invalid characters."
    if expires_in is not None and not _is_whole(expires_in):
        return "The expires_in in the token response is not an integer."
    return None


def _is_whole(value: object) -> bool:
    if isinstance(value, str):
        return _DIGITS.fullmatch(value) is not None  # some gateways and emulators send digits as a string
    # Above 2**53 it is no real lifetime, and too large for clock arithmetic. NaN fails the comparison.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 2**53 and value == value // 1  # type: ignore[arg-type, operator]


def _error_code(payload: Mapping[str, Any], redact: Redaction) -> str | None:
    """Return the OAuth 2.0 ``error``, or AWS's ``__type``, which reports throttling."""
    given = payload.get("error") or payload.get("__type")
    if not given:
        return None
    code = str(given).rpartition("#")[2]
    if code in _STANDARD_CODES:
        return code
    # Error texts and logs quote the code, so it must be one short line. Secrets are removed before it is
    # shortened: half a secret would not be found.
    return _NOT_IN_A_CODE.sub("?", redact(code)[:_LONGEST_CODE])


def _answered_at(answer: Answer) -> float | None:
    """Return the time of a response by the servers' clocks.

    A cache on the way sends the ``Date`` of its own response, or the original ``Date`` with an ``Age``.
    """
    date, age = answer.clock_offset(0.0), answer.headers.get("Age", "")
    return None if date is None else date + (int(age) if _DIGITS.fullmatch(age) else 0)
