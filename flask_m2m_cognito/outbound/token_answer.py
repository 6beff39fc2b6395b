"""Parse and check an answer of the token endpoint. Pure.

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

_NOT_JSON = object()


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


def parse_token(
    answer: Answer, redact: Redaction, in_oauth_words: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
) -> DatedToken:
    """Return the token of an answer.

    Args:
        redact: removes secrets from what an error quotes.
        in_oauth_words: translates the answer's object to the members that RFC 6749 defines.

    Raises:
        CognitoTokenRequestError: an error, or an answer without a valid token.
    """
    parsed = _parse(answer, redact, in_oauth_words)
    if isinstance(parsed, CognitoTokenRequestError):
        # Raised here and not where the payload is: error trackers send the locals of each frame.
        raise parsed
    return DatedToken(parsed, _answered_at(answer))


def _parse(
    answer: Answer, redact: Redaction, in_oauth_words: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> TokenResponse | CognitoTokenRequestError:
    try:
        raw = json.loads(answer.body)
    except (ValueError, RecursionError):
        raw = _NOT_JSON
    payload = in_oauth_words(raw) if isinstance(raw, dict) else {}
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
    """Return why an answer is not a token, or ``None``."""
    if raw is not _NOT_JSON and not isinstance(raw, dict):
        return "Token response JSON was not an object."
    # A proxy's page, or a redirect, says more by its status than by not being JSON.
    if 300 <= status < 400:
        return f"Token endpoint returned a redirect, which is not followed: {status}"
    if status >= 300:
        return f"Token endpoint returned an error response: {status}" + (f" {code}" if code else "")
    if raw is _NOT_JSON:
        return "Token response was not valid JSON."
    if "error" in payload:
        return "Token response contained an OAuth2 error field."
    token, expires_in = payload.get("access_token"), payload.get("expires_in")
    if not token or not isinstance(token, str):
        return "Token response missing string access_token."
    # It is going to be sent in a header: a line end in it would be a header of its own.
    if _TOKEN_CHARACTERS.fullmatch(token) is None:
        return "Token response access_token has characters that no token has."
    if expires_in is not None and not _is_whole(expires_in):
        return "Token response expires_in was not an integer."
    return None


def _is_whole(value: object) -> bool:
    if isinstance(value, str):
        return _DIGITS.fullmatch(value) is not None  # as some gateways and emulators have it
    # Beyond 2**53 it is no time that anybody means, and too much for a clock. NaN is not less.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 2**53 and value == value // 1  # type: ignore[arg-type, operator]


def _error_code(payload: Mapping[str, Any], redact: Redaction) -> str | None:
    """Return the OAuth 2.0 ``error``, or the ``__type`` with which AWS says that it is throttling."""
    given = payload.get("error") or payload.get("__type")
    if not given:
        return None
    code = str(given).rpartition("#")[2]
    if code in _STANDARD_CODES:
        return code
    # It goes into texts of errors and into logs: it is to be one short line there. A secret that was
    # cut in two would not be found, so it is removed first.
    return _NOT_IN_A_CODE.sub("?", redact(code)[:_LONGEST_CODE])


def _answered_at(answer: Answer) -> float | None:
    """Return when an answer came by the servers' clocks.

    A cache on the way sends the ``Date`` of its own answer, or that of the first one with its ``Age``.
    """
    date, age = answer.clock_offset(0.0), answer.headers.get("Age", "")
    return None if date is None else date + (int(age) if _DIGITS.fullmatch(age) else 0)
