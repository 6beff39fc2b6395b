"""Which URLs a token, a secret or a key may travel over: https, or http that stays on this machine.

Read strictly and not as a browser would: what two parsers might read differently is not safe.
"""

from __future__ import annotations

import ipaddress
import re

# urllib.parse is not used: on Python 3.10 it reads "http://[::1]evil.com" as the host "::1".
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:\[(?P<ipv6>[0-9A-F:.]+)\]|(?P<name>[A-Z0-9_][A-Z0-9._-]*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?#][\x21-\x5B\x5D-\x7E]*)?",
    re.IGNORECASE | re.ASCII,
)
_IPV6_LOOPBACK = ipaddress.IPv6Address("::1")


def is_safe_url(url: str) -> bool:
    """Whether ``url`` is https, or http to loopback, with a plain host and no user or password in it.

    >>> [is_safe_url(url) for url in ("https://api.example.com/a?b=c", "http://127.0.0.1:5000", "http://[::1]/")]
    [True, True, True]
    >>> [is_safe_url(url) for url in ("http://api.example.com", "http://localhost@evil.com", "//localhost")]
    [False, False, False]
    """
    parts = _parts(url)
    return parts is not None and (parts["scheme"].lower() == "https" or is_loopback_host(_host(parts)))


def is_loopback_url(url: str) -> bool:
    """Whether ``url`` is http or https to this machine.

    >>> is_loopback_url("http://LOCALHOST:5000/"), is_loopback_url("http://127.0.0.1.evil.com/")
    (True, False)
    """
    parts = _parts(url)
    return parts is not None and is_loopback_host(_host(parts))


def is_loopback_host(host: str) -> bool:
    """Whether ``host`` is ``localhost``, a dotted quad in 127.0.0.0/8, or ``::1``, in brackets or not.

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
    # Not .is_loopback: newer Pythons call ::ffff:127.0.0.1 loopback, older ones do not.
    return address == _IPV6_LOOPBACK or (isinstance(address, ipaddress.IPv4Address) and address.is_loopback)


def url_problem(url: str) -> str | None:
    """What is wrong with a URL that is written in a configuration, or ``None``. Quotes nothing of it.

    >>> url_problem("http://auth.example.com/oauth2/token")
    'http is for loopback only (localhost, 127.0.0.0/8, [::1]); use https'
    >>> url_problem("https://auth.example.com/oauth2/token") is None
    True
    """
    if re.fullmatch(r"https?://.*", url, re.IGNORECASE | re.DOTALL) is None:
        return "give a whole URL that begins with https://"
    if "@" in re.split(r"[/?#]", url.split("://", 1)[1], maxsplit=1)[0]:
        return "a URL here has no user or password in it"
    if "#" in url:
        return "a URL here has no fragment (#)"
    if _parts(url) is None:
        return "give a URL with a plain host, and a port at most, all in ASCII without space or backslash"
    if not is_safe_url(url):
        return "http is for loopback only (localhost, 127.0.0.0/8, [::1]); use https"
    return None


def _parts(url: str) -> re.Match[str] | None:
    parts = _URL.fullmatch(url)
    if parts is None or not 0 < int(parts["port"] or 443) < 65536:
        return None
    return parts if parts["ipv6"] is None or _ip_address(parts["ipv6"]) is not None else None


def _host(parts: re.Match[str]) -> str:
    return f"[{parts['ipv6']}]" if parts["ipv6"] is not None else parts["name"]


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
