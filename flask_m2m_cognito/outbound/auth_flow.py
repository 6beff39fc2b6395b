"""What every ``auth=`` decides alike: where a token may go, when it was refused, and what is sent then.

A token goes to the scheme, host and port that it was put on for, and no further. After a 401
``invalid_token`` a request is sent once more, with a newer token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..exceptions import CognitoTokenRequestError, ConfigurationError
from ..formats.urls import is_loopback_url, is_safe_url
from .challenges import bearer_challenges
from .refused_calls import Refusal, read_refusal

MOST_READ = 64 * 1024
"""Bytes of a 401 that are read before the request is sent again."""

Origin = tuple[str, str | None, int | None]
HttpHosts = Callable[[], Collection[str]]

_DEFAULT_PORTS = {"https": 443, "http": 80}


class Tokens(Protocol):
    """Where the tokens of an ``auth=`` come from: a ``TokenSource``, or what finds one."""

    def token(self) -> str: ...
    async def token_async(self) -> str: ...
    def renew(self, token: str, /) -> str: ...
    def forget(self, token: str, /) -> None: ...
    def note_refusal(self, token: str, refusal: Refusal, /) -> None: ...


def check_destination(
    url: str, http_hosts: HttpHosts = tuple, uses_proxy: Callable[[str], bool] = lambda url: False
) -> None:
    """Raise unless a token may be sent to ``url``.

    It may go over https, and over http to loopback or an allowed host; to loopback not through a proxy of
    the environment. The route of a session or client that is not ours cannot be chosen, and proxies that were
    set on it cannot be seen from an ``auth=``.

    Args:
        http_hosts: returns the hosts that may be reached over plain http.
        uses_proxy: returns whether the environment names a proxy for a URL.

    Raises:
        ConfigurationError: it may not.
    """
    parts = urlsplit(url)
    if not (is_safe_url(url) or is_safe_url(url, http_hosts())):
        raise ConfigurationError(
            "An access token is only sent over https, or over plain http to loopback and hosts in "
            f"COGNITO_M2M_ALLOW_HTTP_HOSTS, not to {parts.scheme}://{parts.hostname}: use an https URL."
        )
    if is_loopback_url(url) and uses_proxy(url):
        raise ConfigurationError(
            f"The environment (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY) sends requests for {parts.hostname} "
            f"through a proxy, which would see the access token. Add {parts.hostname} to NO_PROXY, or use "
            "m2m.session()."
        )


def uses_proxy_in_httpx(url: str) -> bool:
    """Read NO_PROXY more strictly than httpx, which has no public function for it: ``*`` or the very host."""
    proxies, parts = getproxies(), urlsplit(url)
    exempt = {each.strip().lower() for each in proxies.get("no", "").split(",")}
    return bool(proxies.get(parts.scheme) or proxies.get("all")) and exempt.isdisjoint({"*", parts.hostname})


def put_token(request: Any, token: str) -> None:
    """Put a token on a request of requests or httpx."""
    request.headers["Authorization"] = f"Bearer {token}"


def token_of(request: Any) -> str | None:
    """Return the token that a request of requests or httpx was sent with."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" and token else None


def origin_of(url: str) -> Origin | None:
    """Return scheme, host and port (RFC 6454), or ``None`` for a malformed URL, which has none."""
    try:
        parts = urlsplit(url)
        return parts.scheme.lower(), parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme.lower())
    except ValueError:
        return None


def carries_our_token(request: Any, origin: Origin | None) -> bool:
    """Return whether a request, perhaps the last of several redirects, took a token to its own origin."""
    return token_of(request) is not None and origin_of(str(request.url)) == origin


def is_invalid_token(status: int, headers: Mapping[str, str]) -> bool:
    """Return whether an answer says that the token was not valid (RFC 6750, section 3.1).

    The Cognito authorizer of an API Gateway sends no challenge, but the type of its error.
    """
    if status != 401:
        return False
    error_type = headers.get("x-amzn-ErrorType", "").partition(":")[0].strip()
    return error_type == "UnauthorizedException" or any(
        challenge.parameters.get("error", "").lower() == "invalid_token"
        for challenge in bearer_challenges(headers)
    )


def token_for_second_try(tokens: Tokens, refused: str, can_resend: bool) -> str | None:
    """Return a newer token than the one that a peer refused, or ``None``: then the caller gets the 401.

    If the request can't be sent again, the token is forgotten, so that the next request has a newer one.
    """
    if not can_resend:
        tokens.forget(refused)
        return None
    try:
        newer = tokens.renew(refused)
    except CognitoTokenRequestError:
        return None
    return None if newer == refused else newer


def forget_if_invalid(tokens: Tokens, request: Any, response: Any) -> None:
    """Forget the token of a second try that was refused, too.

    It counts towards the backoff: a peer may refuse every token.
    """
    token = token_of(request)
    if token is not None and is_invalid_token(response.status_code, response.headers):
        tokens.forget(token)


def note_refusal(tokens: Tokens, response: Any, body: bytes) -> None:
    """Report to where the token came from that a peer refused it, if that is what an answer says.

    Raises nothing: the caller has its answer, and this is for the log.
    """
    with suppress(Exception):
        token = token_of(response.request)
        refusal = read_refusal(str(response.url), response.status_code, response.headers, body)
        if refusal is not None and token is not None:
            tokens.note_refusal(token, refusal)
