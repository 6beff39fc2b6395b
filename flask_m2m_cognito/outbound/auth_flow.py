"""Decide for every ``auth=`` where a token may be sent, whether it was refused, and what is sent next.

A token is sent only to the scheme, host and port of the original request. After a 401 ``invalid_token`` the
request is sent a second time, with a newer token.
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
    """The source of tokens for an ``auth=``: a ``TokenSource``, or an object that finds one."""

    def token(self) -> str: ...
    async def token_async(self) -> str: ...
    def renew(self, token: str, /) -> str: ...
    def forget(self, token: str, /) -> None: ...
    def note_refusal(self, token: str, refusal: Refusal, /) -> None: ...


def check_destination(
    url: str, http_hosts: HttpHosts = tuple, uses_proxy: Callable[[str], bool] = lambda url: False
) -> None:
    """Raise if a token may not be sent to ``url``.

    It may be sent over https, and over http to loopback or to an allowed host. A loopback URL must not go
    through a proxy from the environment. An ``auth=`` can neither choose the route of the application's own
    session or client, nor see the proxies that were set on it.

    Args:
        url: the URL of the request.
        http_hosts: returns the hosts that may be reached over plain http.
        uses_proxy: returns whether the environment names a proxy for a URL.

    Raises:
        ConfigurationError: the token may not be sent there.
    """
    parts = urlsplit(url)
    if not (is_safe_url(url) or is_safe_url(url, http_hosts())):
        raise ConfigurationError(
            f"Access tokens are not sent to {parts.scheme}://{parts.hostname}. Use an https URL. "
            "Plain http is only allowed to loopback and to hosts in COGNITO_M2M_ALLOW_HTTP_HOSTS."
        )
    if is_loopback_url(url) and uses_proxy(url):
        raise ConfigurationError(
            f"The environment (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY) sends requests for {parts.hostname} "
            f"through a proxy, which could read the access token. Add {parts.hostname} to NO_PROXY, or use "
            "m2m.session()."
        )


def uses_proxy_in_httpx(url: str) -> bool:
    """Return whether the environment names a proxy for ``url``.

    httpx has no public function for this. NO_PROXY is read more strictly: only ``*`` or the exact host match.
    """
    proxies, parts = getproxies(), urlsplit(url)
    exempt = {each.strip().lower() for each in proxies.get("no", "").split(",")}
    return bool(proxies.get(parts.scheme) or proxies.get("all")) and exempt.isdisjoint({"*", parts.hostname})


def put_token(request: Any, token: str) -> None:
    """Set the ``Authorization`` header of a request of requests or httpx."""
    request.headers["Authorization"] = f"Bearer {token}"


def token_of(request: Any) -> str | None:
    """Return the bearer token of a request of requests or httpx, or ``None``."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" and token else None


def origin_of(url: str) -> Origin | None:
    """Return scheme, host and port (RFC 6454), or ``None`` for a malformed URL."""
    try:
        parts = urlsplit(url)
        return parts.scheme.lower(), parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme.lower())
    except ValueError:
        return None


def carries_our_token(request: Any, origin: Origin | None) -> bool:
    """Return whether a request, which may follow redirects, sent a token to the original origin."""
    return token_of(request) is not None and origin_of(str(request.url)) == origin


def is_invalid_token(status: int, headers: Mapping[str, str]) -> bool:
    """Return whether a response rejects the token as invalid (RFC 6750, section 3.1).

    The Cognito authorizer of API Gateway sends its error type instead of a challenge.
    """
    if status != 401:
        return False
    error_type = headers.get("x-amzn-ErrorType", "").partition(":")[0].strip()
    return error_type == "UnauthorizedException" or any(
        challenge.parameters.get("error", "").lower() == "invalid_token"
        for challenge in bearer_challenges(headers)
    )


def token_for_second_try(tokens: Tokens, refused: str, can_resend: bool) -> str | None:
    """Return a newer token than the refused one, or ``None`` if the caller should get the 401.

    If the request cannot be sent again, forget the token, so the next request gets a newer one.
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
    """Forget the token of a second try that was refused as well.

    It counts towards the backoff, because a peer may refuse every token.
    """
    token = token_of(request)
    if token is not None and is_invalid_token(response.status_code, response.headers):
        tokens.forget(token)


def note_refusal(tokens: Tokens, response: Any, body: bytes) -> None:
    """Notify the source of the token if a response refuses it.

    Raises nothing: the caller gets the response in any case, and this only serves the log.
    """
    with suppress(Exception):
        token = token_of(response.request)
        refusal = read_refusal(str(response.url), response.status_code, response.headers, body)
        if refusal is not None and token is not None:
            tokens.note_refusal(token, refusal)
