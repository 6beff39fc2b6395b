"""A request's Authorization headers become a token."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..exceptions import TokenValidationError

MAX_HEADER = 8192
"""Bytes of the header's value. Cognito's access tokens have about 1 KiB."""

_WHITESPACE = " \t"
"""What may stand around a header's value (RFC 9110, section 5.6.3)."""

_SCHEME = re.compile(r",[ \t]*bearer(?![^ \t,])")
_TOKEN68 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/"


def bearer_token(values: Sequence[str], header: str = "Authorization") -> str | None:
    """Return the token in a request's ``Authorization`` headers, or ``None`` if it has none.

    >>> bearer_token(["Bearer abc.def.ghi"])
    'abc.def.ghi'
    >>> bearer_token([]) is None
    True

    Args:
        values: every such header as received, in order.
        header: its name, for errors.

    Raises:
        TokenValidationError: two headers, an empty token, characters that no token has, or more
            than 8192 bytes. Answered with 400 ``invalid_request``.

    Source: RFC 6750, section 2.1. The token itself is not looked at. Another scheme, such as Basic,
    is no Bearer token and not an error (section 3.1). Headers other than ``Authorization`` may hold the
    token without a scheme, as proxies send it.
    """
    if not values:
        return None
    if len(values) > 1:
        raise _build_rejection(f"More than one {header} header.")
    value = values[0]
    if len(value) > MAX_HEADER:
        raise _build_rejection(f"The {header} header has more than {MAX_HEADER} bytes.")
    value = value.strip(_WHITESPACE)
    scheme, _, rest = value.partition(" ")
    if scheme.lower() != "bearer":
        # Servers join repeated headers with a comma, so that a second one may hide behind a first.
        if _has_bearer(value):
            raise _build_rejection(f"The {header} header holds more than one scheme.")
        if header.lower() == "authorization" or not _begins_with_bare_word(value):
            return None
        token = value
    else:
        token = rest.lstrip(" ")
    if not token:
        raise _build_rejection(f"The {header} header has no token after Bearer.")
    content = token.rstrip("=")
    if not content or not content.isascii() or content.encode().translate(None, _TOKEN68):
        raise _build_rejection(f"The {header} header has characters that no Bearer token has.")
    return token


def _has_bearer(value: str) -> bool:
    # The word is looked for first: the pattern takes its time over 8 KiB of commas and spaces.
    text = value.lower()
    return "bearer" in text and _SCHEME.search("," + text) is not None


def _begins_with_bare_word(value: str) -> bool:
    # Servers join repeated headers with a comma: two bare tokens are an error, and not another scheme.
    return bool(value) and " " not in value.partition(",")[0].strip(_WHITESPACE)


def _build_rejection(message: str) -> TokenValidationError:
    return TokenValidationError(message, reason="bad_header")
