"""Read the access token from a request's ``Authorization`` headers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..exceptions import TokenValidationError

MAX_HEADER = 8192
"""The longest header value, in bytes. Cognito's access tokens have about 1 KiB."""

_WHITESPACE = " \t"
"""Whitespace that may surround a header's value (RFC 9110, section 5.6.3)."""

_SCHEME = re.compile(r",[ \t]*bearer(?![^ \t,])")
_TOKEN68 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/"


def bearer_token(values: Sequence[str], header: str = "Authorization") -> str | None:
    """Return the token in a request's ``Authorization`` headers, or ``None`` if there is no token.

    >>> bearer_token(["Bearer abc.def.ghi"])
    'abc.def.ghi'
    >>> bearer_token([]) is None
    True

    Args:
        values: the value of every such header as received, in order.
        header: the name of the header. It is named in errors.

    Raises:
        TokenValidationError: there are two headers, or the header is malformed: the token is empty or
            has invalid characters, or the value is longer than 8192 bytes. The answer is 400
            ``invalid_request``.

    Source: RFC 6750, section 2.1. This function does not parse the token. Another scheme, such as Basic,
    counts as no token and is not an error (section 3.1). Headers other than ``Authorization`` may hold the
    token without a scheme, as proxies send it.
    """
    if not values:
        return None
    if len(values) > 1:
        raise _build_rejection(f"The request has more than one {header} header.")
    value = values[0]
    if len(value) > MAX_HEADER:
        raise _build_rejection(f"The {header} header is longer than {MAX_HEADER} bytes.")
    value = value.strip(_WHITESPACE)
    scheme, _, after_scheme = value.partition(" ")
    if scheme.lower() != "bearer":
        # Servers join repeated headers with a comma, so a second header may hide behind a first one.
        if _has_bearer(value):
            raise _build_rejection(f"The {header} header has more than one authentication scheme.")
        if header.lower() == "authorization" or not _begins_with_bare_word(value):
            return None
        token = value
    else:
        token = after_scheme.lstrip(" ")
    if not token:
        raise _build_rejection(f"The {header} header has the Bearer scheme but no token.")
    content = token.rstrip("=")
    if not content or not content.isascii() or content.encode().translate(None, _TOKEN68):
        raise _build_rejection(f"The token in the {header} header has invalid characters.")
    return token


def _has_bearer(value: str) -> bool:
    # Search for the word first: the pattern is slow on 8 KiB of commas and spaces.
    text = value.lower()
    return "bearer" in text and _SCHEME.search("," + text) is not None


def _begins_with_bare_word(value: str) -> bool:
    # Servers join repeated headers with a comma: two bare tokens are an error, not another scheme.
    return bool(value) and " " not in value.partition(",")[0].strip(_WHITESPACE)


def _build_rejection(message: str) -> TokenValidationError:
    return TokenValidationError(message, reason="bad_header")
