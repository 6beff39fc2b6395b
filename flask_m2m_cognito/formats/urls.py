"""Decide which URLs are safe for tokens, secrets and keys: https, or http to loopback and to allowed hosts.

URLs are parsed strictly, not as a browser does: a text that two parsers may read differently is not safe.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from ..exceptions import ConfigurationError

# urllib.parse is not used for these URLs: on Python 3.10 it reads "http://[::1]evil.com" as the host "::1".
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:\[(?P<ipv6>[0-9A-F:.]+)\]|(?P<name>[A-Z0-9_][A-Z0-9._-]*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?#][\x21-\x5B\x5D-\x7E]*)?",
    re.IGNORECASE | re.ASCII,
)
_IPV6_LOOPBACK = ipaddress.IPv6Address("::1")
_HOST_NAME = re.compile(
    r"(?P<wildcard>\*\.)?[A-Z0-9_][A-Z0-9_-]*(\.[A-Z0-9_][A-Z0-9_-]*)*", re.IGNORECASE | re.ASCII
)
# The system's resolver may read such names as addresses: "10.1", "0177.0.0.1", "0x7f000001".
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE | re.ASCII)


_HTTP_NOT_ALLOWED = (
    "use https; plain http is allowed only to loopback (localhost, 127.0.0.0/8, [::1]) "
    "and to hosts in ALLOW_HTTP_HOSTS"
)


def is_safe_url(url: str, http_hosts: Collection[str] = ()) -> bool:
    """Return whether ``url`` is https, or http to loopback or to ``http_hosts``, without user and password.

    ``http_hosts`` must be the result of :func:`http_hosts_from`.

    >>> [is_safe_url(url) for url in ("https://api.example.com/a?b=c", "http://127.0.0.1:5000", "http://[::1]/")]
    [True, True, True]
    >>> [is_safe_url(url) for url in ("http://api.example.com", "http://localhost@evil.com", "//localhost")]
    [False, False, False]
    >>> hosts = http_hosts_from(["stock", "*.svc.local"])
    >>> [is_safe_url(f"http://{host}/", hosts) for host in ("stock", "a.b.svc.local", "stock.evil.com")]
    [True, True, False]
    """
    parts = _parse(url)
    if parts is None:
        return False
    host = _host_of(parts)
    return parts["scheme"].lower() == "https" or is_loopback_host(host) or _is_one_of(host, http_hosts)


def http_hosts_from(hosts: str | Iterable[str]) -> tuple[str, ...]:
    """Check and normalize the hosts for plain http; a string is one host.

    A host is a name or an IP address. ``*.example`` is any name below ``example``, with any number of labels.

    Raises:
        ConfigurationError: one of the hosts is invalid.
    """
    given = [hosts] if isinstance(hosts, str) else list(hosts)
    for host in given:
        problem = http_host_problem(host)
        if problem:
            raise ConfigurationError(f"{host!r} cannot be a host for plain http: {problem}.")
    return tuple(dict.fromkeys(map(_normalize_host, given)))


def http_host_problem(host: str) -> str | None:
    """Return what is wrong with a host for plain http, or ``None``.

    >>> http_host_problem("*")
    "name the hosts, as in 'stock' or '*.svc.cluster.local'; a bare '*' would allow every host"
    >>> http_host_problem("*.svc.cluster.local") is None
    True
    """
    if not isinstance(host, str):
        return "use a string"
    if host.strip("*. ") == "":
        return "name the hosts, as in 'stock' or '*.svc.cluster.local'; a bare '*' would allow every host"
    if _ip_address(host.strip("[]")) is not None:
        return None
    name = _HOST_NAME.fullmatch(host)
    if name is None:
        return "use a host without scheme, port and path, as in 'stock' or '*.svc.cluster.local'"
    if name["wildcard"] and _ENDS_IN_NUMBER.fullmatch(host[2:]):
        return "name each IP address; a wildcard matches names only"
    return None


def is_redis_url(url: str) -> bool:
    """Return whether ``url`` is a valid Redis URL: no character of its password ends the host.

    >>> [is_redis_url(f"redis://:{password}@cache:6379/0") for password in ("a%2Fb", "a@b", "a/b", "1#2")]
    [True, True, False, False]
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    # In "redis://:12/34@cache" the host seems to be empty and the port 12.
    return "@" not in f"{parts.path}{parts.query}{parts.fragment}"


def is_origin(url: str) -> bool:
    """Return whether ``url`` consists of scheme, host and an optional port, and nothing else.

    >>> [is_origin(url) for url in ("http://pool:9229", "https://[::1]", "http://pool/a", "pool:9229")]
    [True, True, False, False]
    """
    return _parse(url) is not None and not set(url.partition("://")[2]) & set("/?#")


def http_hosts_for(url: str) -> list[str]:
    """Return the hosts that ``ALLOW_HTTP_HOSTS`` must name to allow ``url``: its host, or none.

    >>> [http_hosts_for(url) for url in ("http://pool:9229/a", "http://localhost:9229", "https://pool")]
    [['pool'], [], []]
    """
    parts = _parse(url)
    return [] if parts is None or is_safe_url(url) else [_normalize_host(_host_of(parts))]


def is_loopback_url(url: str) -> bool:
    """Return whether ``url`` is http or https to this machine.

    >>> is_loopback_url("http://LOCALHOST:5000/"), is_loopback_url("http://127.0.0.1.evil.com/")
    (True, False)
    """
    parts = _parse(url)
    return parts is not None and is_loopback_host(_host_of(parts))


def is_loopback_host(host: str) -> bool:
    """Return whether ``host`` is ``localhost``, in 127.0.0.0/8, or ``::1`` (with or without brackets).

    >>> [is_loopback_host(host) for host in ("localhost", "127.8.9.10", "[::1]")]
    [True, True, True]
    >>> [is_loopback_host(host) for host in ("localhost.", "127.1", "0177.0.0.1", "::ffff:127.0.0.1")]
    [False, False, False, False]
    """
    if host.lower() == "localhost":
        return True
    if host.startswith("[") and host.endswith("]"):
        return _ip_address(host[1:-1]) == _IPV6_LOOPBACK
    address = _ip_address(host)
    # Not .is_loopback: newer versions of Python count ::ffff:127.0.0.1 as loopback, older ones do not.
    return address == _IPV6_LOOPBACK or (isinstance(address, ipaddress.IPv4Address) and address.is_loopback)


def url_problem(url: str, http_hosts: Collection[str] = ()) -> str | None:
    """Return what is wrong with a configured URL, or ``None``. The text quotes nothing of the URL.

    >>> url_problem("auth.example.com/oauth2/token")
    'use a complete URL that begins with https://'
    >>> url_problem("http://auth.example.com/oauth2/token").split(";")[0]
    'use https'
    >>> url_problem("http://auth.example.com/oauth2/token", ["auth.example.com"]) is None
    True
    >>> url_problem("https://auth.example.com/oauth2/token") is None
    True
    """
    if re.fullmatch(r"https?://.*", url, re.IGNORECASE | re.DOTALL) is None:
        return "use a complete URL that begins with https://"
    if "@" in re.split(r"[/?#]", url.split("://", 1)[1], maxsplit=1)[0]:
        return "remove the user and password from the URL"
    if "#" in url:
        return "remove the fragment (#) from the URL"
    if _parse(url) is None:
        return "use a URL with a plain host and at most a port, in ASCII without spaces and backslashes"
    if not is_safe_url(url, http_hosts):
        return _HTTP_NOT_ALLOWED
    return None


def _is_one_of(host: str, http_hosts: Collection[str]) -> bool:
    host = _normalize_host(host)
    return any(
        host.endswith(allowed[1:]) and len(host) >= len(allowed)
        if allowed.startswith("*.")
        else host == allowed
        for allowed in http_hosts
    )


def _normalize_host(host: str) -> str:
    address = _ip_address(host.strip("[]"))
    return host.lower() if address is None else str(address)


def _parse(url: str) -> re.Match[str] | None:
    parts = _URL.fullmatch(url)
    if parts is None or not 0 < int(parts["port"] or 443) < 65536:
        return None
    return parts if parts["ipv6"] is None or _ip_address(parts["ipv6"]) is not None else None


def _host_of(parts: re.Match[str]) -> str:
    return f"[{parts['ipv6']}]" if parts["ipv6"] is not None else parts["name"]


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
