"""``flask m2m check`` finds problems, and prints how to fix them."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flask_m2m_cognito.cli.finding import Finding
from flask_m2m_cognito.cli.network import Network
from flask_m2m_cognito.cli.pool_check import pool_findings
from flask_m2m_cognito.inbound.key_source import trusted_pool_from
from flask_m2m_cognito.inbound.user_pool import user_pool_from
from flask_m2m_cognito.remote.transport import Answer
from flask_m2m_cognito.testing import LocalUserPool
from tests.cli.flask_process import Flask, Outcome
from tests.cli.self_signed import self_signed_server

try:
    import pwd
except ImportError:  # on Windows
    NOBODY = NOBODYS_GROUP = 0
else:
    NOBODY, NOBODYS_GROUP = pwd.getpwnam("nobody")[2:4]

USER = "nobody"
SEALED: dict[str, Any] = {"CACHE_KEY": "a key of sixteen bytes or more"}


def shared(tmp_path: Path) -> dict[str, Any]:
    return {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(tmp_path / "cache")}


def test_correct_settings_pass(flask: Flask, tmp_path: Path) -> None:
    ended = flask("check", **shared(tmp_path), **SEALED)
    assert ended.status == 0
    assert {line.split()[0] for line in ended.out.splitlines()} == {"ok"}
    checks = [line.split()[1] for line in ended.out.splitlines()]
    assert checks == [
        "settings", "dns", "tls", "keys", "issuer", "token", "scopes", "clock", "cache", "seal",
    ]  # fmt: skip
    assert "stock/read" in ended.finding("ok", "scopes")


def test_json_has_the_same_findings(flask: Flask, tmp_path: Path) -> None:
    content = flask("check", "--json", **shared(tmp_path), **SEALED).json
    assert content["status"] == "ok"
    assert {each["status"] for each in content["findings"]} == {"ok"}
    assert set(content["findings"][0]) == {"check", "status", "said", "advice"}


WITHOUT_CLIENT = dict.fromkeys(["CLIENT_ID", "CLIENT_SECRET", "TOKEN_URL", "SCOPES"])
WITHOUT_POOL = dict.fromkeys(["USER_POOL_ID", "ISSUER", "JWKS_URL", "ALLOWED_CLIENT_IDS"])
NO_REDIS = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": "redis://127.0.0.1:1/0", **SEALED}
NOWHERE = "https://pool.nowhere.invalid/us-east-1_LocalPool"
BILLS = {"CLIENT_ID": "billing", "CLIENT_SECRET": "not-the-secret-of-it"}

FINDINGS: dict[str, tuple[Any, ...]] = {
    # The settings, then the expected findings: status, check, words.
    "all wrong settings": (
        {"LEEWAY": "soon", "CLIENT_SECRET": None},
        ("failed", "settings", "COGNITO_M2M_LEEWAY"),
        ("failed", "settings", "COGNITO_M2M_CLIENT_SECRET", "set it"),
    ),
    "no extension": ({"app": "service:create_bare_app"}, ("failed", "settings", "init_app")),
    "region that contradicts the pool id": (
        {"REGION": "eu-west-1", "ISSUER": None, "JWKS_URL": None},
        ("failed", "settings", "COGNITO_M2M_REGION", "'us-east-1'", "remove the setting"),
    ),
    "region that does not exist": (
        {"USER_POOL_ID": "us-wset-2_AbCdEfGhI", "ISSUER": None, "JWKS_URL": None},
        ("failed", "dns", "cognito-idp.us-wset-2.amazonaws.com", "Is 'us-wset-2' the Region"),
    ),
    "issuer where no server listens": (
        {"ISSUER": "http://127.0.0.1:1/us-east-1_LocalPool", "JWKS_URL": None},
        ("failed", "connection", "Check COGNITO_M2M_ISSUER, which sets this URL."),
    ),
    "issuer without an address": (
        {"ISSUER": NOWHERE, "JWKS_URL": None},
        ("failed", "dns", "DNS lookup failed", "Check COGNITO_M2M_ISSUER, which sets this URL."),
    ),
    "token URL without an address": (
        {"TOKEN_URL": "https://auth.nowhere.invalid/oauth2/token"},
        ("failed", "dns", "auth.nowhere.invalid", "nslookup"),
    ),
    "wrong secret": (
        {"CLIENT_SECRET": "not-the-secret-of-it"},
        ("failed", "token", "invalid_client", "App clients", "COGNITO_M2M_CLIENT_SECRET"),
    ),
    "wrong secret of a named client": (
        {"CLIENTS": {"bills": BILLS}},
        ("failed", "token", "'bills' (billing)", 'COGNITO_M2M_CLIENTS["bills"].CLIENT_SECRET'),
        ("ok", "token", "the default client"),
    ),
    "any client": ({"ALLOWED_CLIENT_IDS": None}, ("warning", "settings", "ALLOWED_CLIENT_IDS")),
    "no user pool": (WITHOUT_POOL, ("ok", "settings", "accepts no tokens"), ("ok", "clock")),
    "plain http beyond loopback": (
        {"ALLOW_HTTP_HOSTS": "*.mesh.test"},
        ("warning", "settings", "*.mesh.test", "signing keys", "https"),
    ),
    "resource without audience": (
        {"RESOURCE": "https://stock.example/", "MACHINE_TOKENS_ONLY": False},
        ("warning", "settings", "COGNITO_M2M_RESOURCE", "set COGNITO_M2M_AUDIENCE"),
    ),
    "cache that is down": (NO_REDIS, ("failed", "cache", "Connection refused", "CACHE_REDIS_URL")),
    "cache with a URL that cannot be parsed": (
        {**NO_REDIS, "CACHE_REDIS_URL": "redis://:hun/ter2@127.0.0.1:1/0"},
        ("failed", "cache", "CACHE_REDIS_URL cannot be parsed", "percent-encoded"),
    ),
    "cache that is not shared": (
        {},
        ("warning", "cache", "not shared", "RedisCache"),
        ("warning", "token_requests", "no shared cache is configured", "RQ job", "cron job"),
    ),
    **{
        f"cache that cannot be built: {kind}": (
            {"CACHE_TYPE": kind, "CACHE_DIR": f"{__file__}/none", **SEALED},
            ("failed", "cache", "could not be created", "CACHE_TYPE", "pip install redis", "CACHE_DIR"),
        )
        for kind in ("RediesCache", "no_such_package.Cache", "FileSystemCache")
    },
}


@pytest.mark.parametrize("row", FINDINGS.values(), ids=FINDINGS)
def test_settings_lead_to_findings(flask: Flask, row: tuple[Any, ...]) -> None:
    config, *findings = row
    ended = flask("check", **config)
    assert ended.status == int(any(status == "failed" for status, *_ in findings))
    assert all(ended.finding(*each) for each in findings)
    assert "ter2" not in ended.out + ended.err  # part of a password


def test_app_without_a_client_requests_no_tokens(flask: Flask) -> None:
    assert "token_requests" not in flask("check", **WITHOUT_CLIENT).out


def test_region_without_the_pool_names_the_url(flask: Flask, pool: LocalUserPool) -> None:
    elsewhere = f"{pool.url}/eu-west-1_LocalPool"
    ended = flask("check", USER_POOL_ID="eu-west-1_LocalPool", ISSUER=elsewhere, JWKS_URL=None)
    assert ended.status == 1
    assert ended.finding("failed", "keys", "no keys of eu-west-1_LocalPool at", elsewhere)


def test_wrong_pool_id_names_the_pool_and_its_region() -> None:
    class Nowhere(Network):
        def look_at(self, url: str) -> list[Finding]:
            return []

        def reached(self, url: str) -> bool:
            return True

        def get(self, url: str) -> Answer:
            return Answer(url, 400, {}, b"")

    trusted = trusted_pool_from(user_pool_from("us-west-2_AbCdEfGhI"))
    finding = pool_findings(trusted, Nowhere((1, 1)))[0]
    assert (finding.status, finding.check) == ("failed", "keys")
    assert "no user pool us-west-2_AbCdEfGhI in the Region us-west-2" in finding.said
    assert "Copy the user pool id" in finding.advice


@pytest.mark.parametrize("key", ["ISSUER", "JWKS_URL"])
def test_url_without_keys_names_its_setting(flask: Flask, pool: LocalUserPool, key: str) -> None:
    """The problem is ``ISSUER`` or ``JWKS_URL``, not ``USER_POOL_ID``."""
    address = {"ISSUER": f"{pool.url}/us-east-1_Other", "JWKS_URL": f"{pool.url}/nothing-here"}[key]
    ended = flask("check", **{"JWKS_URL": None, key: address})
    assert ended.status == 1
    line = ended.finding(
        "failed", "keys", address, f"the URL from COGNITO_M2M_{key}", f"Set COGNITO_M2M_{key}"
    )
    assert "Copy the user pool id" not in line
    assert ended.finding("ok", "token")


def test_issuer_of_another_pool_fails(flask: Flask, pool: LocalUserPool) -> None:
    ended = flask("check", ISSUER=f"{pool.url}/us-east-1_Other")
    assert ended.status == 1
    assert pool.issuer in ended.finding("failed", "issuer", "wrong_issuer", "COGNITO_M2M_ISSUER")


class TestUnreachableHost:
    def test_no_server_listens(self, flask: Flask, pool: LocalUserPool) -> None:
        with pool.offline():
            ended = flask("check")
        assert ended.status == 1
        assert ended.finding("failed", "connection", "127.0.0.1", "firewall")
        assert ended.finding("failed", "token", "cannot be reached")

    def test_one_of_two_token_urls_is_a_warning(self, flask: Flask, pool: LocalUserPool) -> None:
        ended = flask("check", TOKEN_URL=["https://auth.nowhere.invalid/oauth2/token", pool.token_url])
        assert ended.status == 0
        assert ended.finding("warning", "dns", "auth.nowhere.invalid")
        assert ended.finding("ok", "token")

    def test_untrusted_certificate_fails(self, flask: Flask, tmp_path: Path) -> None:
        with self_signed_server(tmp_path) as url:
            ended = flask("check", TOKEN_URL=f"{url}/oauth2/token")
        assert ended.status == 1
        assert ended.finding("failed", "tls", "not trusted", "REQUESTS_CA_BUNDLE")

    def test_pinned_keys_turn_the_failure_into_a_warning(self, flask: Flask, pool: LocalUserPool) -> None:
        keys, issuer = pool.jwks(), "https://auth.nowhere.invalid/us-east-1_LocalPool"
        ended = flask("check", ISSUER=issuer, JWKS_URL=None, JWKS=keys)
        assert ended.status == 0
        assert ended.finding("warning", "dns", "auth.nowhere.invalid")


@pytest.fixture
def authorities(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Unset the variables that name CA certificates."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return monkeypatch


class TestAuthorities:
    @pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_missing_bundle_is_named_with_its_variable(
        self, authorities: pytest.MonkeyPatch, tmp_path: Path, name: str
    ) -> None:
        missing = str(tmp_path / "missing.pem")
        authorities.setenv(name, missing)
        with self_signed_server(tmp_path) as url:
            finding = Network((5, 5)).look_at(url)[-1]
        assert (finding.status, finding.check) == ("failed", "tls")
        assert finding.said == f"{name} points to {missing}, which does not exist."
        assert name in finding.advice

    @pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE"])
    def test_ignored_variables_are_named(
        self, authorities: pytest.MonkeyPatch, tmp_path: Path, name: str
    ) -> None:
        with self_signed_server(tmp_path) as url:
            before = Network((5, 5)).look_at(url)[-1].advice
            authorities.setenv(name, str(tmp_path))
            after = Network((5, 5)).look_at(url)[-1].advice
        assert name not in before
        assert f"ignores {name}" in after
        assert "REQUESTS_CA_BUNDLE, then CURL_CA_BUNDLE" in after


def test_missing_openid_configuration_is_a_warning(flask: Flask, pool: LocalUserPool) -> None:
    with pool.fail("openid-configuration", status=404):
        ended = flask("check")
    assert ended.status == 0
    assert ended.finding("warning", "issuer", "flask m2m explain")


def test_disallowed_scope_is_named(flask: Flask) -> None:
    ended = flask("check", SCOPES="stock/read stock/delete")
    assert ended.status == 1
    line = ended.finding("failed", "scopes", "invalid_scope", "may not have stock/delete (", "Custom scopes")
    assert "stock/read" not in line


def test_fewer_scopes_than_requested_is_a_warning(flask: Flask, pool: LocalUserPool) -> None:
    body = {"access_token": pool.token("stock/read"), "expires_in": 3600, "token_type": "Bearer"}
    with pool.answer("token", body):
        ended = flask("check")
        raising = flask("check", SCOPES_MISSING="raise")
    assert (ended.status, raising.status) == (0, 1)
    assert ended.finding("warning", "scopes", "requested stock/write")
    assert raising.finding("failed", "scopes", "requested stock/write")


@pytest.mark.parametrize(
    ("endpoint", "fault", "words"),
    [
        ("jwks", {"status": 503}, ("503", "problem is at Cognito")),
        ("jwks", {"hang": True}, ("Cognito is unavailable", "network")),
        ("jwks", {"garbage": True}, ("not with a valid key set",)),
        ("jwks", {"body": {"keys": []}}, ("not with a valid key set",)),
        ("token", {"status": 400, "body": {"error": "unauthorized_client"}}, ("'Client credentials'",)),
        ("token", {"status": 429, "body": {"__type": "TooManyRequestsException"}}, ("more token requests",)),
        ("token", {"status": 404}, ("404", "Branding, Domain")),
        ("token", {"status": 302, "body": b""}, ("302", "redirect", "Branding, Domain")),
        ("token", {"status": 502, "body": b"<html>"}, ("502", "Branding, Domain")),
        ("token", {"garbage": True}, ("not valid JSON", "Branding, Domain")),
    ],
)
def test_invalid_answer_of_an_endpoint_is_explained(
    flask: Flask, pool: LocalUserPool, endpoint: Any, fault: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pool.fail(endpoint, **fault):
        ended = flask("check", **({"TIMEOUT": [1, 1]} if "hang" in fault else {}))
    assert ended.status == 1
    assert ended.finding("failed", {"jwks": "keys", "token": "token"}[endpoint], *words)


@pytest.mark.parametrize(("offset", "words"), [(300, "behind Cognito's"), (-300, "ahead of Cognito's")])
def test_clock_five_minutes_off_fails(tmp_path: Path, offset: int, words: str) -> None:
    with LocalUserPool(clock=lambda: time.time() + offset) as pool:
        ended = Flask(pool, tmp_path)("check")
    assert ended.status == 1
    assert ended.finding("failed", "clock", words, "NTP").count("5 min") == 1


class TestCache:
    def test_strict_fails_on_warnings(self, flask: Flask) -> None:
        assert flask("check", "--strict").status == 1

    @pytest.mark.parametrize(
        ("key", "problem"), [(None, "is not set"), ("tiny-key", "shorter than 16 bytes")]
    )
    def test_missing_or_short_cache_key_is_a_warning(
        self, flask: Flask, tmp_path: Path, key: str | None, problem: str
    ) -> None:
        ended = flask("check", **shared(tmp_path), CACHE_KEY=key)
        assert ended.status == 0
        assert ended.finding("warning", "seal", problem, "COGNITO_M2M_CACHE_KEY", "secrets.token_urlsafe")
        assert ended.finding("ok", "cache", "shared")
        assert ended.finding("warning", "token_requests", "CACHE_KEY", "RQ, cron and Celery")

    def test_cache_with_pickle_is_a_warning(self, flask: Flask, tmp_path: Path) -> None:
        ended = flask("check", app="service:create_own_cache_app", **shared(tmp_path), **SEALED)
        assert ended.status == 0
        assert ended.finding("warning", "cache", "pickle", "JSONSerializer")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can access. Those of pytest belong to the user that runs it."""
    with tempfile.TemporaryDirectory(prefix="cache-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can be another user")
class TestFilesOfAnotherUser:
    """cachelib sleeps 16 s on each file that it may not open; ``check`` prints the owner instead."""

    CACHE: ClassVar = {"CACHE_TYPE": "FileSystemCache", **SEALED}

    def check(self, pool: LocalUserPool, folder: Path, **options: Any) -> Outcome:
        for place in (sys.base_prefix, sys.prefix, str(Path(__file__).parent)):
            if not all(path.stat().st_mode & 0o001 for path in (Path(place), *Path(place).parents)):
                pytest.skip(f"only root may read {place}")
        return Flask(pool, folder, user="nobody")("check", **{**self.CACHE, **options})

    def test_file_is_named_with_owner_and_mode(self, pool: LocalUserPool, folder: Path) -> None:
        cache = folder / "cache"
        cache.mkdir()
        cache.chmod(0o777)
        root_file = cache / "from-root"
        root_file.write_bytes(b"")
        root_file.chmod(0o600)
        ended = self.check(pool, folder, CACHE_DIR=str(cache))
        assert ended.status == 1
        owner = f"nobody cannot use the cache in {cache}: the file {root_file} belongs to root"
        assert ended.finding("failed", "cache", owner, "has the mode 0600", '{"mode": 0o660}', "chgrp")

    def test_folder_is_named_with_owner_and_mode(self, pool: LocalUserPool, folder: Path) -> None:
        cache = folder / "cache"
        cache.mkdir(mode=0o750)
        ended = self.check(pool, folder, CACHE_DIR=str(cache))
        assert ended.finding("failed", "cache", f"folder {cache} belongs to root", "mode 0750")

    def test_file_that_cannot_be_replaced_is_named(self, pool: LocalUserPool, folder: Path) -> None:
        cache = folder / "cache"
        cache.mkdir()
        cache.chmod(0o1777)
        (cache / "from-root").write_bytes(b"")
        (cache / "from-root").chmod(0o644)
        assert self.check(pool, folder, CACHE_DIR=str(cache)).finding("failed", "cache", "from-root", "0644")

    def test_group_files_are_shared(self, pool: LocalUserPool, folder: Path) -> None:
        """Follow the advice: one group, its folder, and the mode 0o660."""
        cache, shared_mode = folder / "cache", {"CACHE_OPTIONS": {"mode": 0o660}}
        cache.mkdir()
        os.chown(cache, 0, NOBODYS_GROUP)
        cache.chmod(0o2770)
        settings = {**self.CACHE, "CACHE_DIR": str(cache), **shared_mode}
        assert Flask(pool, folder)("refresh-keys", **settings).status == 0
        assert {path.stat().st_gid for path in cache.iterdir()} == {NOBODYS_GROUP}
        ended = self.check(pool, folder, CACHE_DIR=str(cache), **shared_mode)
        assert ended.finding("ok", "cache", "shared")

    def test_root_leaves_no_files_in_others_folders(self, pool: LocalUserPool, folder: Path) -> None:
        """Otherwise ``sudo flask m2m check`` writes files that the service cannot open."""
        cache = folder / "cache"
        cache.mkdir()
        os.chown(cache, NOBODY, NOBODYS_GROUP)
        ended = Flask(pool, folder)("check", CACHE_DIR=str(cache), **self.CACHE)
        assert ended.finding(
            "warning", "cache", "Nothing was changed", f"belongs to {USER}", f"Run this command as {USER}"
        )
        assert list(cache.iterdir()) == []
