"""Check a host step by step: DNS, connection, TLS. Send one GET, and read the ``Date`` of the answer."""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..formats.regions import is_region
from ..formats.urls import is_loopback_host, is_loopback_url
from ..remote.clock import Deadline
from ..remote.transport import Answer, Timeout, Transport, TransportError
from .finding import Finding, failed, ok
from .words import listed

_NO_ADDRESS = (
    "If the name is correct, this machine cannot resolve external names: try `nslookup {host}`, and ask your "
    "network administrator about DNS."
)
_NO_CONNECTION = (
    "Check that the server is running, and that the network allows connections from this machine to port "
    "{port}. Look at the firewall; in AWS, at the security group and the NAT gateway of a private subnet. If "
    "connections must go through a proxy, set HTTPS_PROXY."
)
_NOT_TRUSTED = (
    "The usual cause is a company proxy that inspects TLS: set REQUESTS_CA_BUNDLE to a file with its CA "
    "certificate. Also check this machine's clock, and the spelling of the host name."
)

_NAME_BUNDLE = "Set {name} to a file with CA certificates, or unset it to use the default ones."


@dataclass(frozen=True)
class Place:
    """A host and port, with the URL scheme."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Place:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname or "", port)


class Network:
    """Check each host once, and remember the result and the clock of the server.

    Args:
        timeout: seconds for connecting, and for each read.
    """

    def __init__(self, timeout: Timeout) -> None:
        self._timeout = timeout
        self._reached: dict[Place, bool] = {}
        #: Seconds by which the clock of the last server that answered was ahead of this machine's.
        self.offset: float | None = None

    def look_at(self, url: str) -> list[Finding]:
        """Check name, connection and TLS of the host of ``url``; return nothing if it was checked before."""
        place = Place.of(url)
        if place in self._reached:
            return []
        findings = _proxied(url) or _direct(place, self._timeout[0])
        self._reached[place] = all(each.status == "ok" for each in findings)
        return findings

    def reached(self, url: str) -> bool:
        """Whether the check of the host of ``url`` succeeded."""
        return self._reached.get(Place.of(url), False)

    def get(self, url: str) -> Answer:
        """Return the answer of ``url``.

        Raises:
            TransportError: there was no answer.
        """
        answer = Transport(self._timeout).get([url], Deadline(sum(self._timeout)), lambda answer: True)
        offset = answer.clock_offset(time.time())
        if offset is not None:
            # Assume the middle of the second. A cache on the way adds the age in the header ``Age``.
            self.offset = offset + 0.5 + _age(answer)
        return answer


def try_get(network: Network, url: str) -> Answer | str:
    """Return the answer of ``url``, or the reason why there is none, as text."""
    try:
        return network.get(url)
    except TransportError as error:
        return str(error)


def region_in(host: str) -> str | None:
    """Return the region in the name of an AWS host.

    >>> region_in("cognito-idp.us-west-2.amazonaws.com")
    'us-west-2'
    """
    return next((part for part in host.split(".") if is_region(part)), None)


def _proxied(url: str) -> list[Finding]:
    """Return a finding for a host that is reached through a proxy, which resolves the name itself."""
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy or is_loopback_url(url):
        return []
    # Not urlsplit, which raises on a password with a "[" in it, and reads one with a "/" as the host.
    host = re.split(r"[:/?#]", proxy.rpartition("@")[2].rpartition("//")[2], maxsplit=1)[0]
    return [ok("dns", f"Requests to {Place.of(url).host} go through the proxy {host}.")]


def _direct(place: Place, seconds: float) -> list[Finding]:
    name = _name_finding(place)
    return [name, _connection_finding(place, seconds)] if name.status == "ok" else [name]


def _name_finding(place: Place) -> Finding:
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        advice = _NO_ADDRESS.format(host=place.host)
        region = region_in(place.host)
        if region is not None:
            advice = (
                f"Is {region!r} the Region of your user pool? The AWS console shows it at the top right, and "
                f"the user pool id begins with it. {advice}"
            )
        return failed("dns", f"DNS lookup failed: {place.host} has no address.", advice)
    return ok("dns", f"{place.host} resolves to {found[0][4][0]}.")


def _connection_finding(place: Place, seconds: float) -> Finding:
    where = f"{place.host} on port {place.port}"
    name, bundle = _bundle()
    if place.scheme == "https" and not os.path.exists(bundle):
        return failed(
            "tls", f"{name} points to {bundle}, which does not exist.", _NAME_BUNDLE.format(name=name)
        )
    try:
        with socket.create_connection((place.host, place.port), timeout=seconds) as connection:
            if place.scheme == "https":
                with _trust(bundle).wrap_socket(connection, server_hostname=place.host) as secured:
                    text = f"{where} answers with {secured.version()} and a trusted certificate."
            elif is_loopback_host(place.host):
                text = f"{where} answers. Plain http to this machine needs no TLS."
            else:
                text = f"{where} answers over plain http, which COGNITO_M2M_ALLOW_HTTP_HOSTS allows."
            return ok("tls", text)
    except ssl.SSLCertVerificationError as error:
        text = f"The certificate of {where} is not trusted: {error.verify_message}."
        return failed("tls", text, f"{_NOT_TRUSTED}{_ignored_variables()}")
    except ssl.SSLError as error:
        return failed("tls", f"The TLS handshake with {where} failed ({error.reason}).", _NOT_TRUSTED)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        advice = _NO_CONNECTION.format(port=place.port)
        return failed("connection", f"Could not connect to {where}: {reason}.", advice)


def _trust(bundle: str) -> ssl.SSLContext:
    is_folder = os.path.isdir(bundle)
    return ssl.create_default_context(
        cafile=None if is_folder else bundle, capath=bundle if is_folder else None
    )


def _bundle() -> tuple[str, str]:
    """Return what sets the CA certificates that ``requests`` reads, and their file or folder."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if os.environ.get(name):
            return name, os.environ[name]
    return "The package certifi", DEFAULT_CA_BUNDLE_PATH


def _ignored_variables() -> str:
    """Return a sentence about variables that only other programs read for CA certificates."""
    given = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE") if os.environ.get(name)]
    read = "it reads REQUESTS_CA_BUNDLE, then CURL_CA_BUNDLE"
    return f" The library requests ignores {listed(given)}: {read}." if given else ""


def _age(answer: Answer) -> float:
    """Return the seconds in the header ``Age``. Source: RFC 9111, section 5.1."""
    text = answer.headers.get("Age", "")
    return float(text[:9]) if text.isascii() and text.isdigit() else 0.0
