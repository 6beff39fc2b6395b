"""Reading the settings: the values, and the one error that lists all problems."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from flask_m2m_cognito.exceptions import ConfigurationError
from flask_m2m_cognito.inbound.key_source import KeyTimes
from flask_m2m_cognito.outbound.token_source import TokenPolicy
from flask_m2m_cognito.settings.app_settings import (
    PREFIX,
    SETTINGS,
    ClientSettings,
    SecretFile,
    Settings,
    settings_from,
)

POOL: dict[str, Any] = {"USER_POOL_ID": "us-west-2_AbCdEfGhI"}
CLIENT: dict[str, Any] = {
    "CLIENT_ID": "me",
    "CLIENT_SECRET": "hunter2-s3cr3t",
    "TOKEN_URL": "https://auth.example.com/oauth2/token",
}
BILLING = f'{PREFIX}CLIENTS["billing"]'
SECRET = "hunter2"  # no error text and no repr may contain this


def read(given: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, **other: Any) -> Settings:
    config = {PREFIX + key: value for key, value in given.items()} | other
    return settings_from(config, app_name="shop", environ=environ or {})


def problems(given: Mapping[str, Any], **other: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        read(given, **other)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    for problem in caught.value.problems:
        assert problem.startswith((PREFIX, f"Unknown setting {PREFIX}"))
        assert problem.endswith((".", "?"))
    return caught.value.problems


def keys_of(found: tuple[str, ...]) -> list[str]:
    labels = [problem.removeprefix("Unknown setting ").split(" ", 1)[0] for problem in found]
    return [label.rstrip(".").removeprefix(PREFIX) for label in labels]


def wrong_keys(given: Mapping[str, Any]) -> list[str]:
    return keys_of(problems(given))


def default_client(given: Mapping[str, Any]) -> ClientSettings:
    return read(given).clients[None]


def without(key: str) -> dict[str, Any]:
    """A valid configuration in which ``key`` is unset."""
    return CLIENT if key in POOL else POOL if key in CLIENT else {**POOL, **CLIENT}


PINNED = {"us-west-2_AbCdEfGhI": {"keys": [{"kid": "a"}]}}


def allow(client_id: str) -> bool:
    return client_id == "a"


def test_accepting_tokens_needs_only_a_pool() -> None:
    settings = read(POOL)
    assert settings == Settings(
        user_pool_ids=("us-west-2_AbCdEfGhI",),
        region="us-west-2",
        replica_regions=(),
        issuer={},
        jwks_url={},
        allowed_client_ids=None,
        allows_any_client=False,
        machine_tokens_only=True,
        token_check=None,
        jwks={},
        header_name="Authorization",
        required_scopes=frozenset(),
        scope_match="all",
        audience=frozenset(),
        leeway=10,
        clients={},
        allow_http_hosts=(),
        timeout=(3.05, 5),
        store_timeout=0.25,
        renew="background",
        key_times=KeyTimes(fresh_for=3600, usable_for=86400, unknown_key_cooldown=10, refresh_deadline=10),
        revocations=False,
        verified_tokens=4096,
        cache_key=None,
        cache_key_too_short=False,
        realm="shop",
        problem_type_base=None,
        resource=None,
        resource_metadata={},
    )


def test_requesting_tokens_needs_only_a_client() -> None:
    settings = read(CLIENT)
    assert settings.user_pool_ids == ()
    assert dict(settings.clients) == {
        None: ClientSettings(
            name=None,
            client_id="me",
            client_secret=("hunter2-s3cr3t",),
            token_urls=("https://auth.example.com/oauth2/token",),
            client_auth="post",
            scopes=(),
            client_metadata=None,
            policy=TokenPolicy(
                fresh_fraction=0.75, margin=30, timeout=(3.05, 5), refresh_deadline=10, scopes_missing="warn"
            ),
        )
    }


VALID: dict[str, tuple[str, Any, str, Any]] = {
    "a list of pools as a list": (
        "USER_POOL_ID",
        ["us-west-2_a", "eu-west-1_b"],
        "user_pool_ids",
        ("us-west-2_a", "eu-west-1_b"),
    ),
    "a list of pools as text": (
        "USER_POOL_ID",
        "us-west-2_a, eu-west-1_b",
        "user_pool_ids",
        ("us-west-2_a", "eu-west-1_b"),
    ),
    "a pool given twice": ("USER_POOL_ID", ("us-west-2_a", "us-west-2_a"), "user_pool_ids", ("us-west-2_a",)),
    "regions with spaces": (
        "REPLICA_REGIONS",
        "us-east-1 us-east-2",
        "replica_regions",
        ("us-east-1", "us-east-2"),
    ),
    "a JSON list left as text": ("REPLICA_REGIONS", '["us-east-1"]', "replica_regions", ("us-east-1",)),
    "clients with commas": ("ALLOWED_CLIENT_IDS", "a,b", "allowed_client_ids", {"a", "b"}),
    "clients with spaces": ("ALLOWED_CLIENT_IDS", " a  b ", "allowed_client_ids", {"a", "b"}),
    "clients as a set": ("ALLOWED_CLIENT_IDS", {"a", "b"}, "allowed_client_ids", {"a", "b"}),
    "a client of digits": ("ALLOWED_CLIENT_IDS", 123, "allowed_client_ids", {"123"}),
    "clients of digits": ("ALLOWED_CLIENT_IDS", [123, "b"], "allowed_client_ids", {"123", "b"}),
    "clients as a callable": ("ALLOWED_CLIENT_IDS", allow, "allowed_client_ids", allow),
    "any client": ("ALLOWED_CLIENT_IDS", "*", "allows_any_client", True),
    "any client in a list": ("ALLOWED_CLIENT_IDS", ["*"], "allowed_client_ids", None),
    "false as text": ("MACHINE_TOKENS_ONLY", "False", "machine_tokens_only", False),
    "false as 0": ("MACHINE_TOKENS_ONLY", 0, "machine_tokens_only", False),
    "true as yes": ("MACHINE_TOKENS_ONLY", "yes", "machine_tokens_only", True),
    "an empty flag": ("MACHINE_TOKENS_ONLY", "", "machine_tokens_only", True),
    "a token check": ("TOKEN_CHECK", print, "token_check", print),
    "pinned keys as a dict": ("JWKS", {"keys": [{"kid": "a"}]}, "jwks", PINNED),
    "pinned keys as JSON": ("JWKS", ' {"keys": [{"kid": "a"}]}', "jwks", PINNED),
    "pinned keys by pool": ("JWKS", {"us-west-2_AbCdEfGhI": {"keys": [{"kid": "a"}]}}, "jwks", PINNED),
    "a header": ("HEADER_NAME", "X-Forwarded-Authorization", "header_name", "X-Forwarded-Authorization"),
    "required scopes as text": ("REQUIRED_SCOPES", "a/x  b/y", "required_scopes", {"a/x", "b/y"}),
    "any scope": ("SCOPE_MATCH", "any", "scope_match", "any"),
    "an audience as text": ("AUDIENCE", "https://api.example.com", "audience", {"https://api.example.com"}),
    "an audience as a list": ("AUDIENCE", ["a", "b"], "audience", {"a", "b"}),
    "a number as text": ("LEEWAY", " 2.5 ", "leeway", 2.5),
    "no leeway": ("LEEWAY", 0, "leeway", 0.0),
    "one timeout": ("TIMEOUT", 4, "timeout", (4.0, 4.0)),
    "two timeouts": ("TIMEOUT", [1, 2.5], "timeout", (1.0, 2.5)),
    "two timeouts as text": ("TIMEOUT", "1, 2.5", "timeout", (1.0, 2.5)),
    "two timeouts as JSON text": ("TIMEOUT", "[1, 2.5]", "timeout", (1.0, 2.5)),
    "no remembered tokens": ("VERIFIED_TOKENS", "0", "verified_tokens", 0),
    "renewing inline": ("RENEW", "inline", "renew", "inline"),
    "keys usable as long as fresh": ("KEYS_USABLE_FOR", 3600, "key_times.usable_for", 3600.0),
    "a realm of digits": ("REALM", 42, "realm", "42"),
    "an empty realm": ("REALM", "", "realm", "shop"),
    "a type base": ("PROBLEM_TYPE_BASE", "/problems/", "problem_type_base", "/problems/"),
    "a resource": ("RESOURCE", "https://api.example.com/?v=1", "resource", "https://api.example.com/?v=1"),
    "a resource on loopback": ("RESOURCE", "http://localhost:5000", "resource", "http://localhost:5000"),
    "hosts for http as text": ("ALLOW_HTTP_HOSTS", "Stock, *.mesh", "allow_http_hosts", ("stock", "*.mesh")),
    "hosts for http as a list": ("ALLOW_HTTP_HOSTS", ["10.0.0.7"], "allow_http_hosts", ("10.0.0.7",)),
    "a long cache key": ("CACHE_KEY", "k" * 16, "cache_key", b"k" * 16),
    "a cache key of digits": ("CACHE_KEY", 10**15, "cache_key", b"1" + b"0" * 15),
    "a cache key of bytes": ("CACHE_KEY", b"\xff" * 16, "cache_key", b"\xff" * 16),
    "a short cache key": ("CACHE_KEY", "k" * 15, "cache_key", None),
    "a short cache key is reported": ("CACHE_KEY", "k" * 15, "cache_key_too_short", True),
}


@pytest.mark.parametrize(("key", "given", "name", "expected"), VALID.values(), ids=VALID)
def test_valid_values_are_read(key: str, given: Any, name: str, expected: Any) -> None:
    assert attrgetter(name)(read({**POOL, key: given})) == expected


CHECKS = ("ALLOWED_CLIENT_IDS", "REQUIRED_SCOPES", "AUDIENCE")


@pytest.mark.parametrize("empty", [None, " "])
@pytest.mark.parametrize("key", [setting.key for setting in SETTINGS if setting.key not in CHECKS])
def test_none_and_empty_text_count_as_unset(key: str, empty: Any) -> None:
    assert read(without(key) | {key: empty}) == read(without(key))


@pytest.mark.parametrize(
    "empty",
    [
        *(None, "", " \t", [], (), {}, set(), frozenset(), [""], [" "], ["a", ""], [None]),
        *("null", '""', "[]", " [ ] ", "{}", '" "', ",", " , ,"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("key", CHECKS)
def test_empty_value_of_a_check_is_an_error(key: str, empty: Any) -> None:
    assert wrong_keys({**POOL, key: empty}) == [key]


@pytest.mark.parametrize("value", ["null", "", '""', "[]", "{}"])
@pytest.mark.parametrize("key", CHECKS)
def test_empty_variable_of_a_check_is_an_error(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.setenv(f"FLASK_{PREFIX}{key}", value)
    app = Flask("shop")
    app.config.from_prefixed_env()
    app.config.update({PREFIX + name: pool for name, pool in POOL.items()})
    with pytest.raises(ConfigurationError, match=f"^{PREFIX}{key} "):
        settings_from(app.config, app_name=app.name, environ={})


@pytest.mark.parametrize("scopes", ["a/x,y", "a/x, b/y", ["a/x,b/y"], ["a/x", ","]], ids=repr)
@pytest.mark.parametrize("key", ["SCOPES", "REQUIRED_SCOPES"])
def test_comma_in_a_scope_is_an_error(key: str, scopes: Any) -> None:
    (problem,) = problems({**POOL, **CLIENT, key: scopes})
    assert problem.startswith(PREFIX + key)
    assert "comma" in problem


async def async_check(token: object) -> bool:
    return False


class AsyncCallable:
    async def __call__(self, client_id: str) -> bool:
        return False


def generator_check(client_id: str) -> Any:
    yield False


INVALID: dict[str, tuple[str, Any]] = {
    "a pool's ARN": ("USER_POOL_ID", "arn:aws:cognito-idp:us-west-2:1:userpool/us-west-2_a"),
    "a pool's URL": ("USER_POOL_ID", "https://cognito-idp.us-west-2.amazonaws.com/us-west-2_a"),
    "a pool id without a region": ("USER_POOL_ID", "AbCdEfGhI"),
    "an empty pool in a list": ("USER_POOL_ID", ["us-west-2_a", ""]),
    "a dict for pools": ("USER_POOL_ID", {"a": 1}),
    "a city for a region": ("REGION", "Frankfurt"),
    "a region that is not the pool's": ("REGION", "eu-west-1"),
    "an invalid replica region": ("REPLICA_REGIONS", ["us-east-1", "x"]),
    "an http issuer": ("ISSUER", "http://auth.example.com/pool"),
    "an issuer with a query": ("ISSUER", "https://auth.example.com/pool?x"),
    "an issuer without a host": ("ISSUER", "https:///pool"),
    "an issuer with a fragment": ("ISSUER", "https://auth.example.com/pool#x"),
    "an http JWKS": ("JWKS_URL", "http://127.0.0.1.evil.com/jwks.json"),
    "a JWKS URL with a password": ("JWKS_URL", "https://me:hunter2@example.com/jwks.json"),
    "a JWKS URL with a password with a slash": ("JWKS_URL", "https://me:hunter2/x@example.com/jwks.json"),
    "no clients": ("ALLOWED_CLIENT_IDS", []),
    "any client and one client": ("ALLOWED_CLIENT_IDS", ["*", "a"]),
    "a float for a client": ("ALLOWED_CLIENT_IDS", 1e5),
    "a bool for a client": ("ALLOWED_CLIENT_IDS", True),
    "an async callable for clients": ("ALLOWED_CLIENT_IDS", AsyncCallable()),
    "a generator for clients": ("ALLOWED_CLIENT_IDS", generator_check),
    "a flag in another word": ("MACHINE_TOKENS_ONLY", "maybe"),
    "a flag of 2": ("MACHINE_TOKENS_ONLY", 2),
    "a token check as text": ("TOKEN_CHECK", "shop.checks:tenant"),
    "an async token check": ("TOKEN_CHECK", async_check),
    "an async token check in a partial": ("TOKEN_CHECK", partial(async_check)),
    "keys without keys": ("JWKS", {"kty": "RSA", "d": "hunter2"}),
    "no keys": ("JWKS", {"keys": []}),
    "broken JSON for keys": ("JWKS", '{"d": "hunter2"'),
    "JSON for keys without keys": ("JWKS", '{"d": "hunter2"}'),
    "a missing file of keys": ("JWKS", "/nowhere/jwks.json"),
    "a PEM for keys": ("JWKS", "-----BEGIN RSA PRIVATE KEY-----\nhunter2"),
    "a number for keys": ("JWKS", 1),
    "no keys by pool": ("JWKS", {}),
    "keys twice in JSON": ("JWKS", '{"keys": [{"kid": "a"}], "keys": [{"kid": "a"}]}'),
    "a pool's keys twice in JSON": (
        "JWKS",
        '{"us-west-2_AbCdEfGhI": {"keys": [{"kid": "a"}]}, "us-west-2_AbCdEfGhI": {"keys": [{"kid": "b"}]}}',
    ),
    "a key by its members": ("JWKS", {"n": "hunter2", "e": "AQAB"}),
    "a pool without keys": ("JWKS", {"us-west-2_AbCdEfGhI": {"keys": []}}),
    "a missing file of a pool's keys": ("JWKS", {"us-west-2_AbCdEfGhI": "/nowhere/hunter2"}),
    "keys by pool and one more": ("JWKS", {"keys": [], "us-west-2_AbCdEfGhI": {"keys": [{"kid": "a"}]}}),
    "any host for http": ("ALLOW_HTTP_HOSTS", "*"),
    "any host beside another": ("ALLOW_HTTP_HOSTS", ["stock", "*"]),
    "a URL for a host": ("ALLOW_HTTP_HOSTS", ["http://stock"]),
    "a host with a port": ("ALLOW_HTTP_HOSTS", "stock:8080"),
    "a header with a colon": ("HEADER_NAME", "X-Auth:"),
    "a header with a newline": ("HEADER_NAME", "X\nY"),
    "a quote in a scope": ("REQUIRED_SCOPES", ['a"b']),
    "a space in a scope of a list": ("REQUIRED_SCOPES", ["a b"]),
    "a scope outside ASCII": ("REQUIRED_SCOPES", "é"),
    "an unknown match": ("SCOPE_MATCH", "some"),
    "no audience": ("AUDIENCE", []),
    "a bool for a number": ("LEEWAY", True),
    "a word for a number": ("LEEWAY", "ten"),
    "a negative number": ("LEEWAY", -1),
    "not a number": ("LEEWAY", float("nan")),
    "not a number as text": ("LEEWAY", "nan"),
    "infinity": ("LEEWAY", float("inf")),
    "a number beyond floats": ("LEEWAY", 10**400),
    "a fraction object": ("LEEWAY", Fraction(1, 2)),
    "underscores in a number": ("LEEWAY", "1_0"),
    "too much leeway": ("LEEWAY", 601),
    "three timeouts": ("TIMEOUT", [1, 2, 3]),
    "no timeouts": ("TIMEOUT", []),
    "a timeout of 0": ("TIMEOUT", [1, 0]),
    "a timeout of None": ("TIMEOUT", [1, None]),
    "no deadline": ("REFRESH_DEADLINE", 0),
    "a store that never answers": ("STORE_TIMEOUT", "inf"),
    "renewing never": ("RENEW", "never"),
    "keys fresh for longer than usable": ("KEYS_FRESH_FOR", 86401),
    "fresh keys for no time": ("KEYS_FRESH_FOR", 0),
    "no cooldown": ("UNKNOWN_KEY_COOLDOWN", 0),
    "half a token remembered": ("VERIFIED_TOKENS", 0.5),
    "fewer than no tokens": ("VERIFIED_TOKENS", -1),
    "a bool for tokens": ("VERIFIED_TOKENS", True),
    "a float for a cache key": ("CACHE_KEY", 1e5),
    "a newline in the realm": ("REALM", "a\nb"),
    "a realm outside ASCII": ("REALM", "café"),
    "a space in the type base": ("PROBLEM_TYPE_BASE", "a b"),
    "an http resource": ("RESOURCE", "http://api.example.com"),
    "a resource with a fragment": ("RESOURCE", "https://api.example.com#x"),
    "metadata without a resource": ("RESOURCE_METADATA", {"resource_name": "Shop"}),
    "metadata that JSON can't carry": ("RESOURCE_METADATA", {"x": object()}),
    "metadata as a list": ("RESOURCE_METADATA", ["x"]),
    "clients as a list": ("CLIENTS", [{"CLIENT_SECRET": "hunter2"}]),
    "clients as broken JSON": ("CLIENTS", '{"billing": {"CLIENT_SECRET": "hunter2"'),
    "a misspelt key": ("CLIENT_SECRETT", "hunter2"),
    "a key in small letters": ("leeway", 10),
    "scopes without a client": ("SCOPES", "a/x"),
}


@pytest.mark.parametrize(("key", "given"), INVALID.values(), ids=INVALID)
def test_invalid_value_is_reported_by_its_key(key: str, given: Any) -> None:
    assert wrong_keys({**POOL, key: given}) == [key]


INVALID_OF_CLIENT: dict[str, tuple[str, Any]] = {
    "a float for an id": ("CLIENT_ID", 1e5),
    "a space in an id": ("CLIENT_ID", "a b"),
    "more digits than Python reads": ("CLIENT_ID", 10**5000),
    "a list for a secret's file": ("CLIENT_SECRET_FILE", ["hunter2"]),
    "a float for a secret": ("CLIENT_SECRET", 1.5),
    "a bool for a secret": ("CLIENT_SECRET", False),
    "a dict for a secret": ("CLIENT_SECRET", {"secret": "hunter2"}),
    "bytes for a secret": ("CLIENT_SECRET", b"hunter2"),
    "no secrets": ("CLIENT_SECRET", []),
    "an empty secret in a list": ("CLIENT_SECRET", ["hunter2", ""]),
    "a secret of two lines": ("CLIENT_SECRET", "hunter2\nhunter2"),
    "an async secret": ("CLIENT_SECRET", async_check),
    "an http token URL": ("TOKEN_URL", "http://auth.example.com/"),
    "one http token URL of two": ("TOKEN_URL", "https://a.example.com, http://b.example.com"),
    "a password in a token URL": ("TOKEN_URL", "https://me:hunter2@example.com/"),
    "a password with a space in a token URL": ("TOKEN_URL", "https://me:hunter2 x@example.com/"),
    "a password and no scheme": ("TOKEN_URL", "me:hunter2@example.com/"),
    "a long password": ("TOKEN_URL", "https://me:" + "hunter2" * 20 + "@example.com/"),
    "no token URLs": ("TOKEN_URL", []),
    "another way to authenticate": ("CLIENT_AUTH", "mtls"),
    "a backslash in a scope": ("SCOPES", "a\\b"),
    "another word for missing scopes": ("SCOPES_MISSING", "ignore"),
    "a list for metadata": ("CLIENT_METADATA", ["hunter2"]),
    "a list for headers": ("TOKEN_HEADERS", ["hunter2"]),
    "a number in headers": ("TOKEN_HEADERS", {"x-origin-verify": [1]}),
    "an invalid header name": ("TOKEN_HEADERS", {"x origin": "hunter2"}),
    "a line end in a header": ("TOKEN_HEADERS", {"x-origin": "hunter2\r\nHost: a"}),
    "a header of the request": ("TOKEN_HEADERS", {"authorization": "hunter2"}),
    "the length of the request": ("TOKEN_HEADERS", {"Content-Length": "3"}),
    "a bool in metadata": ("CLIENT_METADATA", {"x": True}),
    "a fraction of 0": ("TOKEN_FRESH_FRACTION", 0),
    "a fraction above 1": ("TOKEN_FRESH_FRACTION", 1.01),
    "a negative margin": ("TOKEN_MARGIN", -0.1),
    "a timeout as a dict": ("TIMEOUT", {"connect": 1}),
    "no deadline": ("REFRESH_DEADLINE", "0"),
}


@pytest.mark.parametrize(("key", "given"), INVALID_OF_CLIENT.values(), ids=INVALID_OF_CLIENT)
def test_invalid_value_of_a_client_is_reported_once(key: str, given: Any) -> None:
    other = {"CLIENT_ID": "other", "CLIENT_SECRET": "x"}
    named = {**other, "CLIENT_SECRET": None} if key == "CLIENT_SECRET_FILE" else other
    top = {**CLIENT, "CLIENT_SECRET": None if key == "CLIENT_SECRET_FILE" else "x"}
    assert wrong_keys({**top, key: given, "CLIENTS": {"billing": other}}) == [key]
    assert wrong_keys({**CLIENT, "CLIENTS": {"billing": {**named, key: given}}}) == [
        f'CLIENTS["billing"].{key}'
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"CLIENT_ID": 42}, "42", id="digits for an id"),
        pytest.param({"CLIENT_ID": " me\n"}, "me", id="space around an id"),
    ],
)
def test_client_id_is_text(given: dict[str, Any], expected: str) -> None:
    assert default_client({**CLIENT, **given}).client_id == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("a", ("a",), id="text"),
        pytest.param(123, ("123",), id="digits"),
        pytest.param(["b", 5, "b"], ("b", "5"), id="a list"),
    ],
)
def test_secrets_keep_their_order(given: Any, expected: tuple[str, ...]) -> None:
    assert default_client({**CLIENT, "CLIENT_SECRET": given}).client_secret == expected


def test_callable_secret_is_not_called_at_start() -> None:
    fetch: Callable[[], str] = pytest.fail
    assert default_client({**CLIENT, "CLIENT_SECRET": fetch}).client_secret is fetch


def test_secret_file_is_read_again_at_each_call(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\xef\xbb\xbffirst\r\n")
    given = {**CLIENT, "CLIENT_SECRET": None, "CLIENT_SECRET_FILE": file}
    secret = default_client(given).client_secret
    assert isinstance(secret, SecretFile)
    assert secret() == "first"
    file.write_text("second")
    assert secret() == "second"
    file.unlink()
    with pytest.raises(ConfigurationError) as caught:
        secret()
    assert caught.value.__context__ is None


@pytest.mark.parametrize("content", [b"", b" \n", b"hunter2\nhunter2", b"hunter2\xff"], ids=repr)
def test_secret_file_must_contain_one_secret(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    assert wrong_keys({"CLIENT_ID": "me", "DOMAIN": "a.b", "CLIENT_SECRET_FILE": str(file)}) == [
        "CLIENT_SECRET_FILE"
    ]


@pytest.mark.parametrize("path", ["/nowhere/secret", "hunter2", "hunter2/+", "hun\0ter2"])
def test_missing_secret_file_is_an_error_at_start(path: str) -> None:
    assert wrong_keys({"CLIENT_ID": "me", "DOMAIN": "a.b", "CLIENT_SECRET_FILE": path}) == [
        "CLIENT_SECRET_FILE"
    ]


JSON_SECRETS = [
    '{"client_secret": "hunter2"}',
    '{\n  "username": "me",\n  "password": "hunter2"\n}\n',
    '["hunter2"]',
    '"hunter2"',
]


@pytest.mark.parametrize("content", JSON_SECRETS)
def test_secret_in_json_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    file = {key: value for key, value in CLIENT.items() if key != "CLIENT_SECRET"}
    (of_file,) = problems({**file, "CLIENT_SECRET_FILE": str(tmp_path / "secret")})
    (of_text,) = problems({**CLIENT, "CLIENT_SECRET": content.replace("\n", " ")})
    for problem in (of_file, of_text):
        assert "JSON" in problem
        assert "callable" in problem


def test_file_that_becomes_json_is_an_error_when_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(JSON_SECRETS[0])
    with pytest.raises(ConfigurationError, match="JSON") as caught:
        SecretFile(str(path))()
    assert SECRET not in str(caught.value)


def test_pinned_keys_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text('{"keys": [{"kid": "a"}]}')
    assert read({**POOL, "JWKS": str(file)}).jwks == read({**POOL, "JWKS": file}).jwks == PINNED


@pytest.mark.parametrize("as_given", [dict, json.dumps], ids=["dicts", "JSON"])
def test_each_pool_may_have_its_own_pinned_keys(tmp_path: Path, as_given: Callable[..., Any]) -> None:
    file = tmp_path / "jwks.json"
    file.write_text('{"keys": [{"kid": "c"}]}')
    keys = {"eu-west-1_b": {"keys": [{"kid": "b"}]}, "eu-west-1_c": str(file)}
    pools = {"USER_POOL_ID": ["us-west-2_a", *keys]}
    assert read({**pools, "JWKS": as_given(keys)}).jwks == {
        "eu-west-1_b": {"keys": [{"kid": "b"}]},
        "eu-west-1_c": {"keys": [{"kid": "c"}]},
    }
    as_text = {pool_id: as_given({"keys": [{"kid": "x"}]}) for pool_id in keys}
    assert read({**pools, "JWKS": as_text}).jwks == {key: {"keys": [{"kid": "x"}]} for key in keys}


def test_one_key_set_for_several_pools_is_an_error() -> None:
    pools = {"USER_POOL_ID": ["us-west-2_a", "eu-west-1_b"]}
    assert wrong_keys({**pools, "JWKS": {"keys": [{"kid": "a"}]}}) == ["JWKS"]
    assert wrong_keys({**pools, "JWKS": '{"keys": [{"kid": "a"}]}'}) == ["JWKS"]


def test_pinned_keys_of_an_unknown_pool_are_an_error() -> None:
    keys = {"keys": [{"kid": "a"}]}
    (problem,) = problems({**POOL, "JWKS": {"us-west-2_AbCdEfGhI": keys, "us-west-2_abcdefghi": keys}})
    assert "'us-west-2_abcdefghi'" in problem


@pytest.mark.parametrize("content", ["", "hunter2", '["hunter2"]', '{"keys": "hunter2"}', '"hunter2"'])
def test_invalid_keys_file_is_an_error_and_not_shown(tmp_path: Path, content: str) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(content)
    assert wrong_keys({**POOL, "JWKS": file}) == ["JWKS"]


def test_pinned_keys_are_copied() -> None:
    given = {"keys": [{"kid": "a"}]}
    settings = read({**POOL, "JWKS": given})
    given["keys"].clear()
    assert settings.jwks == PINNED


ENDPOINTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a prefix and a pool": (
        {"DOMAIN": "Acme", **POOL},
        ("https://acme.auth.us-west-2.amazoncognito.com/oauth2/token",),
    ),
    "a prefix and a region": (
        {"DOMAIN": "acme", "REGION": "cn-north-1"},
        ("https://acme.auth.cn-north-1.amazoncognito.com.cn/oauth2/token",),
    ),
    "a custom domain": ({"DOMAIN": "auth.acme.example"}, ("https://auth.acme.example/oauth2/token",)),
    "a URL": ({"TOKEN_URL": "http://127.0.0.1:9000/t"}, ("http://127.0.0.1:9000/t",)),
    "URLs as a list": ({"TOKEN_URL": ["https://a.b/t", "https://c.d/t"]}, ("https://a.b/t", "https://c.d/t")),
    "URLs as text": ({"TOKEN_URL": "https://a.b/t,https://c.d/t"}, ("https://a.b/t", "https://c.d/t")),
}


@pytest.mark.parametrize(("given", "expected"), ENDPOINTS.values(), ids=ENDPOINTS)
def test_token_endpoint_comes_from_domain_or_url(given: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert default_client({"CLIENT_ID": "me", "CLIENT_SECRET": "x", **given}).token_urls == expected


@pytest.mark.parametrize(
    "domain",
    [
        "https://acme.example.com",
        "acme.example.com/oauth2/token",
        "acme.example.com:8443",
        "-acme",
        "127.0.0.1",
        "acme..com",
        "acme.com.",
        "me:hunter2@acme.com",
        "a b",
        1.5,
    ],
)
def test_invalid_domain_is_an_error(domain: Any) -> None:
    assert wrong_keys({**POOL, "CLIENT_ID": "me", "CLIENT_SECRET": "x", "DOMAIN": domain}) == ["DOMAIN"]


def test_prefix_domain_needs_a_region() -> None:
    assert wrong_keys({"CLIENT_ID": "me", "CLIENT_SECRET": "x", "DOMAIN": "acme"}) == ["DOMAIN"]


CONTRADICTIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, ["USER_POOL_ID"]),
    "all empty": ({"USER_POOL_ID": "", "CLIENT_ID": "", "CLIENTS": {}}, ["USER_POOL_ID"]),
    "an id": ({"CLIENT_ID": "me"}, ["CLIENT_SECRET", "TOKEN_URL"]),
    "a secret": ({"CLIENT_SECRET": "hunter2"}, ["CLIENT_ID", "TOKEN_URL"]),
    "no endpoint": ({"CLIENT_ID": "me", "CLIENT_SECRET": "hunter2"}, ["TOKEN_URL"]),
    "an endpoint alone": ({"TOKEN_URL": "https://a.b/"}, ["CLIENT_ID", "CLIENT_SECRET"]),
    "two secrets": ({**CLIENT, "CLIENT_SECRET_FILE": __file__}, ["CLIENT_SECRET_FILE"]),
    "two endpoints": ({**CLIENT, "DOMAIN": "a.b"}, ["DOMAIN"]),
    "keys without a pool": ({**CLIENT, "JWKS": {"keys": [{}]}}, ["JWKS"]),
    "a JWKS URL without a pool": ({**CLIENT, "JWKS_URL": "https://a.b/"}, ["JWKS_URL"]),
    "an issuer for two pools": (
        {"USER_POOL_ID": "us-west-2_a us-west-2_b", "ISSUER": "https://a.b/"},
        ["ISSUER"],
    ),
    "a JWKS URL for two pools": (
        {"USER_POOL_ID": "us-west-2_a us-west-2_b", "JWKS_URL": "https://a.b/"},
        ["JWKS_URL"],
    ),
    "an issuer without a path": ({"ISSUER": "http://localhost:9229"}, ["ISSUER"]),
    "one region for pools in two": (
        {"USER_POOL_ID": "us-west-2_a us-east-1_b", "REGION": "us-west-2"},
        ["REGION"],
    ),
    "another resource in the metadata": (
        {**POOL, "RESOURCE": "https://a.b", "RESOURCE_METADATA": {"resource": "https://c.d"}},
        ["RESOURCE_METADATA"],
    ),
    "keys usable for less than the default is fresh": ({**POOL, "KEYS_USABLE_FOR": 600}, ["KEYS_FRESH_FOR"]),
}


@pytest.mark.parametrize(("given", "keys"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradicting_settings_are_reported(given: dict[str, Any], keys: list[str]) -> None:
    found = problems(given)
    if given.get("CLIENT_SECRET_FILE"):
        found = tuple(problem for problem in found if "keep one" in problem)
    assert keys_of(found) == keys


POOLS: dict[str, tuple[dict[str, Any], tuple[str, ...], str | None]] = {
    "an issuer names the pool": ({"ISSUER": "http://localhost:9229/local_1a/"}, ("local_1a",), None),
    "an issuer allows any pool id": ({"ISSUER": "http://[::1]/x", "USER_POOL_ID": "local"}, ("local",), None),
    "a region for a bare id": ({"USER_POOL_ID": "AbC", "REGION": "eu-west-1"}, ("AbC",), "eu-west-1"),
    "the same region again": ({**POOL, "REGION": "us-west-2"}, ("us-west-2_AbCdEfGhI",), "us-west-2"),
    "the first of several": (
        {"USER_POOL_ID": "eu-west-1_a us-east-1_b"},
        ("eu-west-1_a", "us-east-1_b"),
        "eu-west-1",
    ),
}


@pytest.mark.parametrize(("given", "pool_ids", "region"), POOLS.values(), ids=POOLS)
def test_pool_and_region_are_derived(given: dict[str, Any], pool_ids: Any, region: str | None) -> None:
    settings = read(given)
    assert (settings.user_pool_ids, settings.region) == (pool_ids, region)


def test_issuer_is_not_changed() -> None:
    assert read({"ISSUER": "http://LOCALHOST:9229/p/"}).issuer == {"p": "http://LOCALHOST:9229/p/"}


TWO = {"eu-west-1_a": "http://localhost:1/eu-west-1_a", "local": "http://localhost:2/local"}


@pytest.mark.parametrize("as_given", [dict, json.dumps])
def test_each_pool_may_have_its_own_urls(as_given: Callable[..., Any]) -> None:
    settings = read({"USER_POOL_ID": list(TWO), "ISSUER": as_given(TWO), "JWKS_URL": as_given(TWO)})
    assert (settings.user_pool_ids, settings.issuer, settings.jwks_url) == (tuple(TWO), TWO, TWO)


def test_issuers_by_pool_name_the_pools() -> None:
    assert read({"ISSUER": TWO}).user_pool_ids == tuple(TWO)


def test_emulated_and_real_pool_may_be_combined() -> None:
    given = {"USER_POOL_ID": ["us-west-2_a", "local"], "ISSUER": {"local": TWO["local"]}}
    assert read(given).issuer == {"local": TWO["local"]}


URLS_BY_POOL: dict[str, tuple[Any, str]] = {
    "one URL for two pools": ("http://localhost:1/x", "{pool_id: URL}"),
    "a pool that is not trusted": ({**TWO, "other": "https://a.example/"}, "other"),
    "http elsewhere": ({**TWO, "local": "http://a.example/"}, "plain http"),
    "a password": ({**TWO, "local": f"https://me:{SECRET}@a.example/"}, "password"),
    "no URL": ({**TWO, "local": None}, "text"),
    "no pool": ({}, "by pool id"),
    "broken JSON": ('{"local": "http://', "by pool id"),
}


@pytest.mark.parametrize(("urls", "words"), URLS_BY_POOL.values(), ids=URLS_BY_POOL)
@pytest.mark.parametrize("key", ["ISSUER", "JWKS_URL"])
def test_invalid_urls_by_pool_are_errors(key: str, urls: Any, words: str) -> None:
    (problem,) = problems({"USER_POOL_ID": list(TWO), "ISSUER": TWO, key: urls})
    assert problem.startswith(PREFIX + key)
    assert words in problem


def test_pools_must_not_share_an_issuer() -> None:
    assert wrong_keys({"USER_POOL_ID": list(TWO), "ISSUER": dict.fromkeys(TWO, "https://a.example/x")}) == [
        "ISSUER"
    ]


@pytest.mark.parametrize("key", ["ISSUER", "JWKS_URL", "TOKEN_URL", "RESOURCE"])
def test_each_url_may_use_http_to_allowed_hosts(key: str) -> None:
    given = {**POOL, **CLIENT, key: "http://emulator.mesh:9229/us-west-2_AbCdEfGhI"}
    assert wrong_keys(given) == [key]
    assert read({**given, "ALLOW_HTTP_HOSTS": "*.mesh"}).allow_http_hosts == ("*.mesh",)
    assert wrong_keys({**given, "ALLOW_HTTP_HOSTS": "emulator"}) == [key]


def test_named_clients_may_use_http_to_allowed_hosts() -> None:
    billing = {**CLIENT, "TOKEN_URL": ["https://a.example/t", "http://b.mesh/t"]}
    given = {"CLIENTS": {"billing": billing}, "ALLOW_HTTP_HOSTS": ["b.mesh"]}
    assert read(given).clients["billing"].token_urls == ("https://a.example/t", "http://b.mesh/t")
    assert keys_of(problems({"CLIENTS": {"billing": billing}})) == ['CLIENTS["billing"].TOKEN_URL']


def test_named_client_inherits_what_it_does_not_set() -> None:
    top = {
        **CLIENT,
        "SCOPES": "a/x",
        "CLIENT_METADATA": {"k": 1},
        "TIMEOUT": 2,
        "TOKEN_MARGIN": 5,
        "CLIENT_AUTH": "basic",
    }
    billing = {
        "client_id": "other",
        "Client_Secret": "x",
        "TOKEN_MARGIN": 7,
        "SCOPES": [],
        "CLIENT_METADATA": {},
    }
    settings = read({**top, "CLIENTS": {"billing": billing}})
    assert settings.clients[None].client_metadata == {"k": "1"}
    named = settings.clients["billing"]
    assert (named.name, named.client_id, named.client_secret) == ("billing", "other", ("x",))
    assert (named.token_urls, named.policy.timeout, named.client_auth) == (
        (CLIENT["TOKEN_URL"],),
        (2, 2),
        "basic",
    )
    assert (named.policy.margin, named.scopes, named.client_metadata) == (7, (), None)


@pytest.mark.parametrize("missing", ["CLIENT_ID", "CLIENT_SECRET"])
def test_named_client_inherits_no_id_and_no_secret(missing: str) -> None:
    billing = {key: value for key, value in CLIENT.items() if key != missing}
    assert wrong_keys({**CLIENT, "CLIENTS": {"billing": billing}}) == [f'CLIENTS["billing"].{missing}']


def test_endpoint_of_a_named_client_replaces_the_shared_one() -> None:
    own = {"CLIENT_ID": "other", "CLIENT_SECRET": "x"}
    by_domain = read({**CLIENT, "CLIENTS": {"b": {**own, "DOMAIN": "a.b"}}}).clients["b"]
    assert by_domain.token_urls == ("https://a.b/oauth2/token",)
    by_url = read({"DOMAIN": "a.b", "CLIENTS": {"b": {**own, "TOKEN_URL": "https://c.d/"}}}).clients["b"]
    assert by_url.token_urls == ("https://c.d/",)


def test_shared_endpoint_needs_no_default_client() -> None:
    own = {"CLIENT_ID": "other", "CLIENT_SECRET": "x"}
    settings = read({"TOKEN_URL": "https://a.b/", "SCOPES": "a/x", "CLIENTS": json.dumps({"b": own})})
    assert list(settings.clients) == ["b"]
    assert settings.clients["b"].scopes == ("a/x",)


@pytest.mark.parametrize(
    ("billing", "word"),
    [
        pytest.param({**CLIENT, "LEEWAY": 1}, "COGNITO_M2M_LEEWAY", id="a key of the top level"),
        pytest.param({**CLIENT, "CLIENT_SECRT": "hunter2"}, "CLIENT_SECRET", id="a misspelt key"),
        pytest.param({**CLIENT, "COGNITO_M2M_SCOPES": "a"}, "SCOPES", id="a key with its prefix"),
        pytest.param({**CLIENT, "client_id": "you"}, "twice", id="a key in two spellings"),
        pytest.param("hunter2", "dict", id="text"),
        pytest.param(None, "dict", id="nothing"),
    ],
)
def test_invalid_named_client_is_reported_by_its_name(billing: Any, word: str) -> None:
    (problem,) = problems({"CLIENTS": {"billing": billing}})
    assert problem.startswith(f"{BILLING} ")
    assert word in problem


def test_one_error_lists_all_problems() -> None:
    found = wrong_keys(
        {
            **POOL,
            "LEEWAY": "x",
            "RENEW": "y",
            "LEWAY": 1,
            "CLIENT_ID": "me",
            "CLIENTS": {"b": {"CLIENT_AUTH": 1}},
        }
    )
    assert found == [
        "LEWAY",
        "LEEWAY",
        "RENEW",
        'CLIENTS["b"].CLIENT_AUTH',
        "CLIENT_SECRET",
        "TOKEN_URL",
        'CLIENTS["b"].CLIENT_ID',
        'CLIENTS["b"].CLIENT_SECRET',
        'CLIENTS["b"].TOKEN_URL',
    ]


def test_unknown_key_is_reported_with_a_similar_one() -> None:
    (problem,) = problems({**POOL, "ALLOWED_CLIENTS_ID": "a"})
    assert problem == (
        "Unknown setting COGNITO_M2M_ALLOWED_CLIENTS_ID. Did you mean COGNITO_M2M_ALLOWED_CLIENT_IDS?"
    )


def test_invalid_value_is_shown_shortened() -> None:
    (problem,) = problems({**POOL, "REGION": "x" * 500})
    assert "'xxx" in problem
    assert len(problem) < 200


def test_other_keys_are_ignored() -> None:
    assert read(POOL, COGNITO_M2M="x", CACHE_TYPE="NullCache")


@pytest.mark.parametrize(
    ("secret_key", "cache_key", "too_short"),
    [
        pytest.param("k" * 16, b"k" * 16, False, id="text"),
        pytest.param(b"k" * 16, b"k" * 16, False, id="bytes"),
        pytest.param("short", None, True, id="short"),
        pytest.param(None, None, False, id="none"),
        pytest.param("", None, False, id="empty"),
        pytest.param(["odd"], None, False, id="not text"),
    ],
)
def test_secret_key_replaces_a_missing_cache_key(
    secret_key: Any, cache_key: bytes | None, too_short: bool
) -> None:
    settings = read(POOL, SECRET_KEY=secret_key)
    assert (settings.cache_key, settings.cache_key_too_short) == (cache_key, too_short)


def test_cache_key_takes_precedence_over_secret_key() -> None:
    assert read({**POOL, "CACHE_KEY": "c" * 20}, SECRET_KEY="k" * 20).cache_key == b"c" * 20
    assert read({**POOL, "CACHE_KEY": "short"}, SECRET_KEY="k" * 20).cache_key is None


@pytest.mark.parametrize("name", ["AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE"])
def test_serverless_platform_renews_inline_by_default(name: str) -> None:
    assert read(POOL, environ={name: "f"}).renew == "inline"
    assert read({**POOL, "RENEW": "background"}, environ={name: "f"}).renew == "background"


@pytest.mark.parametrize(("has_threads", "renew"), [(0, "inline"), (1, "background")])
def test_uwsgi_without_threads_renews_inline_by_default(
    monkeypatch: pytest.MonkeyPatch, has_threads: int, renew: str
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=has_threads))
    assert read(POOL).renew == renew
    assert read({**POOL, "RENEW": "background"}).renew == "background"


def test_realm_is_the_apps_name_in_ascii() -> None:
    assert (
        settings_from({"COGNITO_M2M_USER_POOL_ID": "us-west-2_a"}, app_name="café\n", environ={}).realm
        == "caf??"
    )


def test_repr_of_the_settings_contains_no_secret() -> None:
    clients = {"billing": {**CLIENT, "CLIENT_SECRET": ["hunter2"]}}
    given = {
        **POOL,
        **CLIENT,
        "CLIENTS": clients,
        "CACHE_KEY": "hunter2" * 3,
        "JWKS": {"keys": [{"d": "hunter2"}]},
    }
    settings = read(given)
    assert settings.cache_key == b"hunter2" * 3
    assert SECRET not in repr(settings) + str(settings) + repr(settings.clients["billing"])


@pytest.mark.parametrize(
    "key", ["USER_POOL_ID", "CACHE_KEY", "CLIENT_SECRET", "TOKEN_URL", "LEEWAY", "CLIENTS"]
)
def test_error_and_its_context_contain_no_secret(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read({**POOL, **CLIENT, key: {"x": "hunter2"}})
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert SECRET not in repr(caught.value) + str(caught.value)


def test_settings_are_read_from_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "USER_POOL_ID": "us-west-2_AbCdEfGhI",
        "LEEWAY": "10",
        "TIMEOUT": "[1, 2.5]",
        "MACHINE_TOKENS_ONLY": "false",
        "ALLOWED_CLIENT_IDS": "a,b",
        "REPLICA_REGIONS": '["us-east-1"]',
        "REQUIRED_SCOPES": "a/x b/y",
        "CLIENT_ID": "12345",
        "CLIENT_SECRET": "007",
        "DOMAIN": "acme",
        "CLIENT_METADATA": '{"team": "shop"}',
        "SCOPES": "c/z",
        "CLIENTS__billing__CLIENT_ID": "67",
        "CLIENTS__billing__CLIENT_SECRET": '"1e5"',
        "CLIENTS__billing__TOKEN_URL": "https://a.b/t",
        "REALM": "",
        "VERIFIED_TOKENS": "0",
        "JWKS": '{"keys": [{"kid": "a"}]}',
    }
    for key, value in variables.items():
        monkeypatch.setenv(f"FLASK_{PREFIX}{key}", value)
    app = Flask("shop")
    app.config.from_prefixed_env()
    settings = settings_from(app.config, app_name=app.name, environ={})
    assert settings.user_pool_ids == ("us-west-2_AbCdEfGhI",)
    assert (settings.leeway, settings.timeout, settings.verified_tokens) == (10, (1, 2.5), 0)
    assert (settings.machine_tokens_only, settings.realm) == (False, "shop")
    assert settings.allowed_client_ids == frozenset({"a", "b"})
    assert settings.required_scopes == {"a/x", "b/y"}
    assert settings.replica_regions == ("us-east-1",)
    client, billing = settings.clients[None], settings.clients["billing"]
    assert (client.client_id, client.client_secret, client.client_metadata) == (
        "12345",
        ("007",),
        {"team": "shop"},
    )
    assert client.token_urls == ("https://acme.auth.us-west-2.amazoncognito.com/oauth2/token",)
    assert (billing.client_id, billing.client_secret, billing.scopes) == ("67", ("1e5",), ("c/z",))
    assert billing.token_urls == ("https://a.b/t",)


def test_number_that_json_changes_must_be_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_COGNITO_M2M_CLIENT_ID", "1e5")
    app = Flask("shop")
    app.config.from_prefixed_env()
    with pytest.raises(ConfigurationError) as caught:
        settings_from(app.config, app_name=app.name, environ={})
    assert "quotes" in caught.value.problems[0]


def test_table_has_each_key_once_with_type_and_description() -> None:
    assert len({setting.key for setting in SETTINGS}) == len(SETTINGS)
    for setting in SETTINGS:
        assert setting.kind
        assert setting.doc.endswith(".")
    assert {setting.key for setting in SETTINGS if setting.of_client} == {
        "CLIENT_ID",
        "CLIENT_SECRET",
        "CLIENT_SECRET_FILE",
        "SCOPES",
        "SCOPES_MISSING",
        "DOMAIN",
        "TOKEN_URL",
        "CLIENT_METADATA",
        "TOKEN_HEADERS",
        "CLIENT_AUTH",
        "CLIENT_TOKEN_API",
        "TIMEOUT",
        "REFRESH_DEADLINE",
        "TOKEN_FRESH_FRACTION",
        "TOKEN_MARGIN",
    }


@pytest.mark.parametrize(
    "setting", [s for s in SETTINGS if s.default not in (None, (), frozenset())], ids=lambda s: s.key
)
def test_each_default_is_accepted_when_set(setting: Any) -> None:
    assert setting.read(setting.default) == setting.default


def test_importing_the_settings_is_cheap() -> None:
    # Without the __init__ of the package, which imports all of it.
    folder = str(Path(settings_from.__code__.co_filename).parent.parent)
    program = (
        "import sys, types; package = types.ModuleType('flask_m2m_cognito');"
        f"package.__path__ = [{folder!r}]; sys.modules['flask_m2m_cognito'] = package;"
        "import flask_m2m_cognito.settings.app_settings;"
        "print(sorted({'flask', 'requests', 'cryptography', 'jwt'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
