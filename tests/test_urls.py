"""Which URLs are safe, and which only look safe."""

from __future__ import annotations

import pytest

from flask_m2m_cognito.exceptions import ConfigurationError
from flask_m2m_cognito.formats.urls import (
    http_hosts_from,
    is_loopback_host,
    is_loopback_url,
    is_safe_url,
    url_problem,
)


@pytest.mark.parametrize(
    "url",
    [
        "https://auth.example.com/oauth2/token",
        "HTTPS://AUTH.EXAMPLE.COM:8443",
        "https://auth.example.com?x=a@b#part",
        "https://[2001:db8::1]:443/",
        "https://127.1/",
        "http://localhost",
        "http://LOCALHOST:5000/a",
        "http://127.255.0.3:1/",
        "http://[::1]:5000/",
        "http://[0:0:0:0:0:0:0:1]/",
    ],
)
def test_https_and_http_to_loopback_are_safe(url: str) -> None:
    assert is_safe_url(url)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://api.example.com/", id="http elsewhere"),
        pytest.param("http://127.0.0.1.evil.com/", id="loopback as a subdomain"),
        pytest.param("http://localhost.evil.com/", id="localhost as a subdomain"),
        pytest.param("http://localhost@evil.com/", id="localhost as the user"),
        pytest.param("http://localhost:80@evil.com/", id="localhost as user and password"),
        pytest.param("http://evil.com#@localhost/", id="localhost in the fragment"),
        pytest.param("http://evil.com?@localhost/", id="localhost in the query"),
        pytest.param("http://evil.com\\@localhost/", id="backslash before an at"),
        pytest.param("http://localhost\\.evil.com/", id="backslash in the host"),
        pytest.param("https://api.example.com\\x", id="backslash after the host"),
        pytest.param("http://[::1]evil.com/", id="text after the brackets"),
        pytest.param("http://[::1].evil.com/", id="name after the brackets"),
        pytest.param("http://[::1%25evil]/", id="zone of an IPv6 address"),
        pytest.param("http://[::ffff:127.0.0.1]/", id="IPv4 in an IPv6 address"),
        pytest.param("http://[::]/", id="any IPv6 address"),
        pytest.param("http://::1/", id="IPv6 without brackets"),
        pytest.param("https://[127.0.0.1:]/", id="no IPv6 in the brackets"),
        pytest.param("http://127.1/", id="short dotted form"),
        pytest.param("http://0177.0.0.1/", id="octal"),
        pytest.param("http://2130706433/", id="one number"),
        pytest.param("http://0x7f.0.0.1/", id="hexadecimal"),
        pytest.param("http://0.0.0.0/", id="any IPv4 address"),
        pytest.param("http://localhost./", id="trailing dot"),
        pytest.param("http://127.0.0.1%00.evil.com/", id="percent in the host"),
        pytest.param("http://ⓛocalhost/", id="letters that normalise to localhost"),
        pytest.param("http://127。0。0。1/", id="ideographic dots"),
        pytest.param("http://١٢٧.0.0.1/", id="digits of another script"),
        pytest.param(" http://localhost/", id="leading space"),
        pytest.param("http://localhost/\n", id="trailing newline"),
        pytest.param("ht\ntp://localhost/", id="newline in the scheme"),
        pytest.param("http://local\thost/", id="tab in the host"),
        pytest.param("https://api.example.com/a b", id="space in the path"),
        pytest.param("https://user:password@api.example.com/", id="user and password"),
        pytest.param("https:///path", id="no host"),
        pytest.param("https:api.example.com", id="no slashes"),
        pytest.param("https://api.example.com:0/", id="port 0"),
        pytest.param("https://api.example.com:65536/", id="port too high"),
        pytest.param("https://api.example.com:x/", id="port in letters"),
        pytest.param("//localhost/", id="no scheme"),
        pytest.param("ftp://localhost/", id="another scheme"),
        pytest.param("", id="nothing"),
    ],
)
def test_url_that_only_looks_safe_is_rejected(url: str) -> None:
    assert not is_safe_url(url)
    assert url_problem(url) is not None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://localhost/", True),
        ("http://[::1]", True),
        ("https://example.com/", False),
        ("http://user@localhost/", False),
    ],
)
def test_is_loopback_url(url: str, expected: bool) -> None:
    assert is_loopback_url(url) is expected


@pytest.mark.parametrize("host", ["", "[]", "127.0.0.1:80", "[127.0.0.1]", "localhost ", "fe80::1", "::1%1"])
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not is_loopback_host(host)


def test_configured_url_must_not_have_a_fragment() -> None:
    assert is_safe_url("https://example.com/#part")
    assert url_problem("https://example.com/#part") is not None


@pytest.mark.parametrize(
    "url", ["https://me:hunter2@example.com/", "hunter2", "http://hunter2.example.com", "https://hunter2\\"]
)
def test_problem_does_not_quote_the_url(url: str) -> None:
    assert "hunter2" not in str(url_problem(url))


MESH = http_hosts_from(["stock", "*.SVC.cluster.local", "10.1.2.3", "[2001:db8:0::7]"])


@pytest.mark.parametrize(
    "host",
    ["stock", "STOCK:8080", "a.svc.cluster.local", "a.b.c.svc.cluster.local:80", "10.1.2.3", "[2001:db8::7]"],
)
def test_plain_http_to_allowed_hosts_is_safe(host: str) -> None:
    assert is_safe_url(f"http://{host}/items?x#y", MESH)
    assert url_problem(f"http://{host}/items?x", MESH) is None
    assert not is_safe_url(f"http://{host}/items")


@pytest.mark.parametrize(
    "host",
    [
        "stock.example.com",
        "my.stock",
        "stock.",
        "svc.cluster.local",
        "evilsvc.cluster.local",
        "a.svc.cluster.local.evil.com",
        "stock@evil.com",
        "evil.com?stock",
        "10.1.2.30",
        "[2001:db8::8]",
        "[::ffff:10.1.2.3]",
    ],
)
def test_plain_http_to_other_hosts_is_not_safe(host: str) -> None:
    assert not is_safe_url(f"http://{host}/", MESH)


@pytest.mark.parametrize(
    "host",
    [
        *("*", "*.", "**", "*.*", "", " ", ".", "a.*", "a*.example", "*example", "*.*.example", ".example"),
        *("http://stock", "stock:8080", "stock/", "stock,shop", "me@stock", "stöck", "stock\n", "a..b"),
        *("*.1", "*.0.0.1", "*.0x7f", "*.10.0x"),
    ],
)
def test_invalid_host_for_plain_http_is_an_error(host: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a host for plain http"):
        http_hosts_from(["stock", host])


def test_one_host_may_be_a_string() -> None:
    assert http_hosts_from("Stock") == ("stock",)
