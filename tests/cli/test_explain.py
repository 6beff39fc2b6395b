"""``flask m2m explain`` shows each check of a token, what it found and what it requires."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask as Application

from flask_m2m_cognito import CognitoAccessTokenValidator, CognitoM2M
from flask_m2m_cognito.cli import m2m
from flask_m2m_cognito.cli.explain_steps import DecodedToken, list_steps
from flask_m2m_cognito.testing import LocalUserPool
from tests.cli.flask_process import Flask

STEPS = [
    "form", "algorithm", "key id", "issuer", "key", "signature", "token use", "times", "client id", "machine",
    "scope", "revocation", "client", "audience", "required scopes", "own check",
]  # fmt: skip


def failed(content: dict[str, Any]) -> dict[str, str]:
    """Return the step that failed: the steps before it are ok, those after it were not reached."""
    statuses = [step["status"] for step in content["steps"]]
    place = statuses.index("failed")
    assert statuses == ["ok"] * place + ["failed"] + ["not reached"] * (len(statuses) - place - 1)
    found: dict[str, str] = content["steps"][place]
    return found


def test_valid_token_passes_every_check_in_order(flask: Flask, pool: LocalUserPool) -> None:
    ended = flask("explain", "--json", stdin=pool.token("stock/read") + "\n")
    assert ended.status == 0
    assert ended.json["good"]
    assert [step["check"] for step in ended.json["steps"]] == STEPS
    assert {step["status"] for step in ended.json["steps"]} == {"ok"}


def test_text_is_one_line_for_each_check(flask: Flask, pool: LocalUserPool) -> None:
    ended = flask("explain", stdin=f"Authorization: Bearer {pool.token('stock/read')}")
    assert ended.status == 0
    assert len(ended.out.splitlines()) == len(STEPS) + 1
    assert ended.line("issuer", pool.issuer)
    assert ended.out.endswith("Valid.\n")


@pytest.mark.parametrize("aud", [json.dumps([1] * 2000), json.dumps(",[" * 2000), "1" + "0" * 4500])
def test_long_claims_are_parsed_as_by_a_service(pool: LocalUserPool, aud: str) -> None:
    app = Application("shop")
    app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
    CognitoM2M(app)
    payload = base64.urlsafe_b64decode(pool.token(aud="AUD").split(".")[1] + "==")
    token = pool.sign(payload.replace(b'"AUD"', aud.encode()))
    ended = app.test_cli_runner().invoke(m2m, ["explain", "--json"], input=token)
    assert json.loads(ended.stdout)["good"]


def test_expired_token_shows_age_and_clock(flask: Flask, pool: LocalUserPool) -> None:
    ended = flask("explain", stdin=pool.token(expires_in=-3 * 3600))
    assert ended.status == 1
    assert ended.line("failed", "expired 3 h ago, your clock agrees with Cognito's")
    assert ended.out.splitlines()[-1].startswith("Rejected (expired)")


def test_slow_clock_is_reported(early_pool: LocalUserPool, tmp_path: Path) -> None:
    flask = Flask(early_pool, tmp_path)
    ended = flask("explain", stdin=early_pool.token(nbf=int(time.time()) + 290))
    assert ended.status == 1
    line = ended.line("failed", "times")
    assert "not valid for another" in line
    assert "min" in line.split("your clock is ")[1].split(" behind Cognito's")[0]


def test_clock_is_known_when_keys_come_from_the_cache(
    flask: Flask, pool: LocalUserPool, tmp_path: Path
) -> None:
    shared: dict[str, Any] = {
        "CACHE_TYPE": "FileSystemCache",
        "CACHE_DIR": str(tmp_path),
        "CACHE_KEY": "sixteen bytes or more",
    }
    flask("refresh-keys", **shared)
    ended = flask("explain", "--json", stdin=pool.token("stock/read"), **shared)
    assert abs(ended.json["clock_offset"]) < 2


def forged(pool: LocalUserPool) -> str:
    return pool.token(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.mark.parametrize(
    ("make", "reason", "check", "saw"),
    [
        (lambda pool: "no token at all", "malformed", "form", "not shown"),
        (lambda pool: pool.token() + "=", "malformed", "form", "not shown"),
        (lambda pool: pool.token(headers={"alg": "HS256"}), "wrong_algorithm", "algorithm", '"HS256"'),
        (lambda pool: pool.token(headers={"kid": None}), "malformed", "key id", "null"),
        (lambda pool: pool.token(headers={"crit": ["b64"]}), "malformed", "key id", '["b64"]'),
        (lambda pool: pool.token(without="iss"), "malformed", "issuer", "null"),
        (lambda pool: pool.token(iss="https://evil.example"), "wrong_issuer", "issuer", "evil.example"),
        (lambda pool: pool.token(headers={"kid": "other"}), "unknown_key", "key", '"other"'),
        (forged, "bad_signature", "signature", "not shown"),
        (lambda pool: pool.id_token(), "wrong_token_use", "token use", '"id"'),
        (lambda pool: pool.token(exp="soon"), "malformed", "times", '"soon"'),
        (lambda pool: pool.token(without="client_id"), "missing_client_id", "client id", "null"),
        (lambda pool: pool.user_token(), "user_token", "machine", '"ada"'),
        (lambda pool: pool.token(scope=7), "malformed", "scope", "7"),
        (lambda pool: pool.token(sub=7), "malformed", "machine", "7"),
        (lambda pool: pool.token(client_id="stranger"), "client_not_allowed", "client", '"stranger"'),
        (lambda pool: pool.token(aud="elsewhere"), "wrong_audience", "audience", '"elsewhere"'),
        (lambda pool: pool.token("a/b", aud="here"), "insufficient_scope", "required scopes", '"a/b"'),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_failed_check_shows_what_it_found(
    pool: LocalUserPool,
    make: Callable[[LocalUserPool], str],
    reason: str,
    check: str,
    saw: str,
) -> None:
    app = Application("shop")
    policy: dict[str, Any] = {
        "ALLOWED_CLIENT_IDS": ["shop-client"],
        "AUDIENCE": "here",
        "REQUIRED_SCOPES": "stock/read",
    }
    app.config.update(pool.config(**policy))
    CognitoM2M(app)
    ended = app.test_cli_runner().invoke(m2m, ["explain", "--json"], input=make(pool))
    assert ended.exit_code == 1
    content = json.loads(ended.stdout)
    assert content["reason"] == reason
    step = failed(content)
    assert step["check"] == check
    assert saw in step["saw"]


@pytest.mark.parametrize(
    ("setting", "value", "check", "wanted"),
    [
        ("audience", None, "audience", "any audience (COGNITO_M2M_AUDIENCE is unset)"),
        ("audience", "here", "audience", '"here" (COGNITO_M2M_AUDIENCE)'),
        ("audience", ["b", "a"], "audience", '"a" or "b" (COGNITO_M2M_AUDIENCE)'),
        ("audience", [], "audience", "none (COGNITO_M2M_AUDIENCE)"),
        ("audience", "", "audience", '"" (COGNITO_M2M_AUDIENCE)'),
        ("allowed_client_ids", None, "client", "any client of the pool"),
        ("allowed_client_ids", [], "client", "none (COGNITO_M2M_ALLOWED_CLIENT_IDS)"),
        (
            "allowed_client_ids",
            bool,
            "client",
            "a true answer from your callable COGNITO_M2M_ALLOWED_CLIENT_IDS",
        ),
        ("required_scopes", ["a", "b"], "required scopes", "a and b (COGNITO_M2M_REQUIRED_SCOPES)"),
        ("machine_tokens_only", False, "machine", "any token; sub, if present, must be a string"),
        ("token_check", None, "own check", "nothing (COGNITO_M2M_TOKEN_CHECK is unset)"),
        ("token_check", bool, "own check", "a true answer from COGNITO_M2M_TOKEN_CHECK"),
        (
            "leeway",
            90,
            "times",
            "not expired and already valid, with a leeway of 1 min 30 s (COGNITO_M2M_LEEWAY)",
        ),
    ],
)
def test_each_check_shows_its_requirement(setting: str, value: Any, check: str, wanted: str) -> None:
    validator = CognitoAccessTokenValidator(user_pool_id="us-west-2_AbCdEfGhI", **{setting: value})
    steps = list_steps(DecodedToken({}, {}), validator, 0, None)
    assert {step.check: step.wanted for step in steps}[check] == wanted


def test_rejection_by_token_check_is_shown(flask: Flask, pool: LocalUserPool) -> None:
    ended = flask("explain", "--json", app="service:create_checking_app", stdin=pool.token())
    assert failed(ended.json)["check"] == "own check"


def test_unavailable_keys_fail_the_check_of_the_key(flask: Flask, pool: LocalUserPool) -> None:
    with pool.offline():
        ended = flask("explain", "--json", stdin=pool.token())
    assert (ended.status, ended.json["reason"], ended.json["clock_offset"]) == (1, "keys_unavailable", None)
    assert failed(ended.json)["check"] == "key"


def test_control_characters_are_escaped(flask: Flask, pool: LocalUserPool) -> None:
    ended = flask("explain", stdin=pool.token(iss="https://evil.example\x1b[2J\x7f\n"))
    assert ended.status == 1
    assert all(char.isprintable() for char in ended.out.replace("\n", ""))


def test_endpoint_option_adds_a_row_for_each_method(flask: Flask, pool: LocalUserPool) -> None:
    ended = flask("explain", "--json", "--endpoint", "stock", stdin=pool.token("stock/read"))
    assert ended.status == 0
    assert ended.json["verdict"] == "Valid, but rejected by DELETE /stock and PUT /stock."
    assert {step["check"]: step["status"] for step in ended.json["steps"][len(STEPS) :]} == {
        "DELETE /stock": "failed",
        "GET /stock": "ok",
        "PUT /stock": "failed",
    }


def test_status_is_1_if_every_method_rejects(flask: Flask, pool: LocalUserPool) -> None:
    ended = flask("explain", "--endpoint", "report", stdin=pool.token("stock/read"))
    assert ended.status == 1
    assert ended.line("failed", "GET /report", "reports/all or reports/read from billing")


def test_unknown_endpoint_is_an_error(flask: Flask, pool: LocalUserPool) -> None:
    assert "no endpoint 'nothing'" in flask("explain", "--endpoint", "nothing", stdin=pool.token()).err
