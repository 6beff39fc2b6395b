"""An attacker answers the token requests: only a Bearer token is used, and no secret leaks."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask

from flask_m2m_cognito import CognitoM2M, CognitoM2MClient, CognitoTokenRequestError, TokenUnavailableError
from flask_m2m_cognito.outbound.bearer_auth import is_invalid_token
from flask_m2m_cognito.outbound.client_token_api import translate_to_oauth
from flask_m2m_cognito.outbound.token_answer import parse_token
from flask_m2m_cognito.remote.redaction import Redaction
from flask_m2m_cognito.remote.transport import MAX_BODY, Answer
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.sockets import read_request

SECRET = "the-secret+of/the=client"


@pytest.fixture(scope="module")
def pools() -> Iterator[tuple[LocalUserPool, LocalUserPool]]:
    """The pool that must get the requests, and the attacker's, which must not."""
    with LocalUserPool() as pool, LocalUserPool("us-east-1_Elsewhere") as elsewhere:
        pool.set_secrets("local-client", SECRET)
        yield pool, elsewhere


@pytest.fixture
def pool(pools: tuple[LocalUserPool, LocalUserPool]) -> Iterator[LocalUserPool]:
    yield pools[0]
    pools[0].recover()
    assert pools[1].count() == 0


@dataclass(frozen=True)
class BadAnswer:
    """An answer without a usable token. ELSEWHERE in a header stands for the attacker's server."""

    name: str
    source: str
    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Mapping[str, Any] = field(default_factory=dict)
    only_source: bool = False
    """``fetch_token`` accepts it, but the token source, which caches tokens, must reject it."""

    def __str__(self) -> str:
        return self.name


def _with(name: str, source: str, only_source: bool = False, **members: Any) -> BadAnswer:
    """Build a valid answer with changed members. ``...`` leaves one out."""
    usual = {"access_token": "a.valid.token", "token_type": "Bearer", "expires_in": 3600}
    body = {key: value for key, value in {**usual, **members}.items() if value is not ...}
    return BadAnswer(name, source, json.dumps(body).encode(), only_source=only_source)


def _claiming(name: str, source: str, claims: str) -> BadAnswer:
    """Build an answer whose token has these claims."""
    from tests.attacks.forging import b64

    return _with(name, source, True, access_token=f"{b64(b'{}')}.{b64(claims.encode())}.AAAA")


def _redirect(status: int, location: str) -> BadAnswer:
    return BadAnswer(
        f"{status} to {location}",
        "RFC 9110, 15.4; CWE-601: it would send the secret",
        {"access_token": "a.b.c", "token_type": "Bearer"},
        status,
        {"Location": location},
    )


_SHAPE = "RFC 6749, 5.1"
_HEADER = "RFC 9110, 5.5; CWE-113: it would end the header"
_LIFE = "RFC 6749, 5.1: expires_in"

BAD_ANSWERS = [
    *(_redirect(status, "ELSEWHERE/oauth2/token") for status in (301, 302, 303, 307, 308)),
    _redirect(307, "http://localhost:9/oauth2/token"),
    _redirect(307, "//attacker.example/oauth2/token"),
    BadAnswer("an empty body", _SHAPE),
    BadAnswer("HTML", "a proxy's page", b"<!doctype html><h1>Sign in</h1>"),
    BadAnswer("null", _SHAPE, b"null"),
    BadAnswer("an empty object", _SHAPE, b"{}"),
    BadAnswer("cut off", _SHAPE, b'{"access_token": "a.b.c", "token_type": "Bearer"'),
    BadAnswer("nested too deep", "CWE-674", b'{"access_token": ' + b"[" * 30_000),
    BadAnswer("pickled", "CWE-502", b"\x80\x04\x95."),
    BadAnswer("64 KiB and one byte", "CWE-400", {"access_token": "a.b.c"}, fault={"size": 65_537}),
    BadAnswer("cut off by the connection", "RFC 9112, 8", {"access_token": "a.b.c"}, fault={"cut_off": True}),
    BadAnswer("a token under an error", "RFC 6749, 5.2", {"access_token": "a.b.c", "error": "invalid_grant"}),
    *(BadAnswer(f"a token with status {status}", "RFC 6749, 5", {"access_token": "a.b.c"}, status)
      for status in (400, 401, 403, 404, 429, 500)),
    *(_with(f"token {name}", _SHAPE, access_token=value) for name, value in (
        ("absent", ...), ("null", None), 
        )),
    _with("token under another name", _SHAPE, access_token=..., token="a.b.c", id_token="a.b.c"),
    *(_with(f"token with {name}", _HEADER, access_token=f"a.b{text}.c") for name, text in (
        ("CR LF and a header", "\r\nX-Admin: true"), ("CR LF", "\r\n"), ("a newline", "\n"),
        
        ("a character that is not ASCII", "\xe9"),
        ("a line separator", "\u2028"), 
        ("a lone surrogate", "\ud800"), )),
    _with("token with a trailing newline", "re's $ matches before it", access_token="a.b.c\n"),
    *(_with(f"token_type {name}", "RFC 6749, 7.1: an unknown type", True, token_type=value)
      for name, value in (
        ("mac", "mac"), ("DPoP", "DPoP"), ("Basic", "Basic"), 
        
        ("a homoglyph", "\u0412earer"))),
    *(_with(f"expires_in {name}", _LIFE, True, expires_in=value)
      for name, value in (("0", 0), ("a large negative number", -(2**52)))),
    *(_with(f"expires_in {name}", _LIFE, expires_in=value) for name, value in (
        
        ("NaN", float("nan")), ("Infinity", float("inf")), 
        )),
    _with("expires_in of 400 digits", "CWE-190", expires_in=10**400),
    BadAnswer("expires_in of 5000 digits", "CVE-2020-10735 (Python)",
              b'{"access_token": "a.b.c", "expires_in": ' + b"9" * 5000 + b"}"),
    _claiming("an expired token", "RFC 7519, 4.1.4", '{"exp": 1}'),
    _claiming("a token that expired before 1970", "RFC 7519, 4.1.4", '{"exp": -1}'),
]  # fmt: skip

HARMLESS = [
    _claiming("exp beyond any double", "CWE-190", '{"exp": 1e400}'),
    _claiming("exp text", "RFC 7519, 2", '{"exp": "1"}'),
    _claiming("exp twice", "RFC 7519, 4", '{"exp": 1, "exp": 2}'),
    _claiming("scope a list", "RFC 9068, 2.2.3", '{"scope": ["x"]}'),
    _claiming("nested too deep", "CWE-674", '{"x": ' + "[" * 5000),
    _with("a token that is not a JWT", "RFC 6749, 1.4: opaque", access_token="~opaque+/=="),
    _with("no token_type, as in 0.1", "m2m-cognito 0.1", token_type=...),
    _with("token_type in lower case", "RFC 6749, 5.1: case does not matter", token_type="bearer"),
    _with("unknown members", "RFC 6749, 5.1: ignored", refresh_token="x", id_token="y", a=[{}]),
]  # fmt: skip


def _prepare(pool: LocalUserPool, answer: BadAnswer, elsewhere: LocalUserPool) -> None:
    headers = {name: value.replace("ELSEWHERE", elsewhere.url) for name, value in answer.headers.items()}
    pool.fail("token", body=answer.body, status=answer.status, headers=headers, **answer.fault)


def _client(pool: LocalUserPool) -> CognitoM2MClient:
    return CognitoM2MClient(pool.token_url, "local-client", SECRET)


def _caller(pool: LocalUserPool) -> tuple[Flask, CognitoM2M]:
    app = Flask("caller")
    app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", SCOPES="stock/read"))
    m2m = CognitoM2M(app)
    app.add_url_rule("/call", "call", lambda: m2m.token())
    return app, m2m


def _is_one_short_line(text: str) -> bool:
    return len(text) < 500 and text.isprintable() and SECRET not in text


@pytest.mark.parametrize("answer", BAD_ANSWERS, ids=str)
def test_invalid_token_response_is_503(
    answer: BadAnswer,
    pool: LocalUserPool,
    pools: tuple[LocalUserPool, LocalUserPool],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _prepare(pool, answer, pools[1])
    app, m2m = _caller(pool)
    with caplog.at_level(logging.DEBUG, "flask_m2m_cognito"):
        response = app.test_client().get("/call")
        again = app.test_client().get("/call")

    assert (response.status_code, response.get_json()["reason"]) == (503, "token_unavailable")
    assert again.status_code == 503
    assert 1 <= int(again.headers["Retry-After"]) <= 60
    assert "a.b.c" not in response.text
    assert "a.valid.token" not in response.text + caplog.text
    assert all(_is_one_short_line(record.getMessage()) for record in caplog.records)
    json.dumps(m2m.for_app(app).health(), allow_nan=False)


@pytest.mark.parametrize("answer", HARMLESS, ids=str)
def test_unusual_but_valid_response_is_accepted(
    answer: BadAnswer, pool: LocalUserPool, pools: tuple[LocalUserPool, LocalUserPool]
) -> None:
    _prepare(pool, answer, pools[1])
    app, m2m = _caller(pool)

    assert app.test_client().get("/call").status_code == 200
    row = m2m.for_app(app).health()["tokens"][0]
    assert row["seconds_left"] <= 3600
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        pytest.param("x\r\nERROR root: all is well", "x??ERROR root: all is well", id="newlines: CWE-117"),
        pytest.param("x\x1b[2J\x07", "x?[2J?", id="terminal escapes: CWE-150"),
        pytest.param("x\u2028\u202ey", "x??y", id="line separators and marks: CVE-2021-42574"),
        pytest.param("x" * 60_000, "x" * 100, id="60 KB: CWE-779"),
        pytest.param(["invalid_client"], "['invalid_client']", id="a list: RFC 6749, 5.2"),
        pytest.param({"a": 1}, "{'a': 1}", id="an object: RFC 6749, 5.2"),
        pytest.param(7, "7", id="a number: RFC 6749, 5.2"),
        pytest.param(SECRET, "[hidden]", id="the secret"),
        pytest.param("eyJh.eyJi.c", "[hidden]", id="a token"),
    ],
)
def test_error_code_is_one_short_line(
    error: Any, shown: str, pool: LocalUserPool, caplog: pytest.LogCaptureFixture
) -> None:
    pool.answer("token", json.dumps({"error": error}), status=400)
    app, m2m = _caller(pool)
    with caplog.at_level(logging.DEBUG, "flask_m2m_cognito"), pytest.raises(TokenUnavailableError) as raised:
        m2m.for_app(app).token()

    assert raised.value.error_code == shown
    assert _is_one_short_line(str(raised.value))
    assert all(_is_one_short_line(record.getMessage()) for record in caplog.records)


@pytest.mark.parametrize("offset", range(60, 101, 10))
@pytest.mark.parametrize("member", ["error", "__type"])
def test_secret_is_removed_before_an_error_code_is_cut(
    member: str, offset: int, pool: LocalUserPool, caplog: pytest.LogCaptureFixture
) -> None:
    quoted = "x" * offset + SECRET + " and " + "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    pool.answer("token", json.dumps({member: quoted}), status=403)
    app, m2m = _caller(pool)
    with pytest.raises(TokenUnavailableError) as raised:
        m2m.for_app(app).token()

    health = json.dumps(m2m.for_app(app).health())
    for text in (str(raised.value), raised.value.error_code, raised.value.response_body, caplog.text, health):
        assert SECRET[:4] not in str(text)
        assert "eyJ" not in str(text)


@pytest.mark.parametrize("code", ["invalid_client", "invalid_scope", "TooManyRequestsException"])
def test_standard_error_code_is_never_redacted(code: str, pool: LocalUserPool) -> None:
    pool.answer("token", {"error": code, "error_description": f"{code} is the secret"}, status=400)
    with pytest.raises(CognitoTokenRequestError, match=code) as raised:
        CognitoM2MClient(pool.token_url, "local-client", code).fetch_token("stock/read")

    assert raised.value.error_code == code
    assert raised.value.error_description == "[hidden] is the secret"


SPELLED = "abcDEF+ghi/JKL_9"


@pytest.mark.parametrize(
    "echo",
    [
        pytest.param("abcDEF%2bghi%2fJKL_9", id="percent in lower case"),
        pytest.param("abcDEF%252Bghi%252FJKL_9", id="percent twice"),
        pytest.param("abcDEF+ghi\\/JKL_9", id="JSON with an escaped slash"),
        pytest.param(base64.b64encode(SPELLED.encode()).decode(), id="base64"),
        pytest.param(
            base64.b64encode(f"local-client:{SPELLED}".encode()).decode().rstrip("="), id="the pair"
        ),
    ],
)
def test_encoded_secret_is_removed(echo: str, pool: LocalUserPool) -> None:
    pool.answer("token", f"<p>You sent {echo}.</p>", status=403)
    with pytest.raises(CognitoTokenRequestError) as raised:
        CognitoM2MClient(pool.token_url, "local-client", SPELLED).fetch_token("stock/read")
    assert echo not in str(raised.value.response_body)


@pytest.mark.parametrize("status", [200, 403])
def test_json_error_is_not_chained(status: int, pool: LocalUserPool) -> None:
    pool.answer("token", '{"access_token": "a.live.token"} <!-- a page -->', status=status)
    with pytest.raises(CognitoTokenRequestError) as raised:
        CognitoM2MClient(pool.token_url, "local-client", "s").fetch_token("stock/read")
    assert raised.value.__cause__ is raised.value.__context__ is None


def test_every_secret_of_a_rotation_is_removed(pool: LocalUserPool) -> None:
    secrets = ["the-older<one>", SECRET]
    pool.answer(
        "token", {"error": "odd", "error_description": " ".join(map(html.escape, secrets))}, status=400
    )
    with pytest.raises(CognitoTokenRequestError) as raised:
        CognitoM2MClient(pool.token_url, "local-client", secrets).fetch_token("stock/read")

    assert raised.value.error_description == "[hidden] [hidden]"


@pytest.mark.parametrize("secret", ["a.eyJz.b!c", "eyJzdWI", "token", "eyJz.c2ln&x"])
def test_overlapping_secret_and_token_are_removed(secret: str, pool: LocalUserPool) -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"
    pool.answer("token", f'{secret} {token} {{"access_token": "opaque"}}', status=502)
    with pytest.raises(CognitoTokenRequestError) as raised:
        CognitoM2MClient(pool.token_url, "local-client", secret).fetch_token("stock/read")

    shown = raised.value.response_body or ""
    assert not [part for part in (secret, "!c", "&x", "c2ln", "Jh", "opaque") if part in shown]


def test_request_id_and_token_type_are_redacted(pool: LocalUserPool) -> None:
    pool.fail("token", status=500, headers={"x-amzn-requestid": f"of {SECRET}"})
    with pytest.raises(CognitoTokenRequestError) as raised:
        _client(pool).fetch_token("stock/read")
    pool.answer("token", {"access_token": "a.b.c", "token_type": SECRET})

    assert raised.value.request_id == "of [hidden]"
    assert SECRET not in repr(_client(pool).fetch_token("stock/read"))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("Bearer%20eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln", "Bearer%20[hidden]"),
        ("éeyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lné", "é[hidden]é"),
        ("x.eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln/y", "x.[hidden]/y"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0", "[hidden]"),
        ("access_token=opaque&token_type=Bearer", "access_token=[hidden]&token_type=Bearer"),
        ('{"access_token": ["opaque"]}', '{"access_token": ["[hidden]"]}'),
        ("eyJ is how a token begins. See eyJ", "eyJ is how a token begins. See eyJ"),
    ],
)
def test_token_is_removed_from_surrounding_text(body: str, shown: str, pool: LocalUserPool) -> None:
    pool.answer("token", body, status=502)
    with pytest.raises(CognitoTokenRequestError) as raised:
        _client(pool).fetch_token("stock/read")

    assert raised.value.response_body == shown


@pytest.mark.parametrize(
    "drop",
    [
        "eyJ",
        "eyJ.",
        "eyJ-",
        "a.",
        '"access_token"  ',
        '"access_token":"\\',
        "id_token=",
        "[",
        '{"a":',
        "[1,",
        "9",
    ],
)
@pytest.mark.parametrize("member", [None, "error", "error_description", "__type"])
def test_answer_of_64_kib_costs_at_most_50_ms(drop: str, member: str | None, pool: LocalUserPool) -> None:
    """CWE-1333: it once took 1.7 s, during which no other thread ran."""
    text = (drop * 60_000)[:60_000]
    body = text if member is None else json.dumps({member: text})[:MAX_BODY]
    answer = Answer(pool.token_url, 400, {"Retry-After": text, "Date": f"Mon, {text}"}, body.encode())
    redact = Redaction(lambda: ["a-secret-of-a-usual-length"] * 6)

    def read() -> None:
        with pytest.raises(CognitoTokenRequestError):
            parse_token(answer, redact, translate_to_oauth)
        answer.clock_offset(0)

    assert _cpu_seconds(read) < 0.05


def _cpu_seconds(run: Callable[[], object]) -> float:
    """Return the lowest CPU time of three runs on this thread: a busy machine can only lengthen them."""
    times = []
    for _ in range(3):
        began = time.thread_time()
        run()
        times.append(time.thread_time() - began)
    return min(times)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"X" * 60_000 + b"\r\n\r\n", id="a status line of 60 KB"),
        pytest.param(b"HTTP/1.1 \x1b[2J\r\n\r\n", id="terminal escapes as a status"),
        pytest.param(b"\r\n\r\n", id="an empty line"),
        pytest.param(b"x" * 250 + SECRET.encode() * 2 + b"\r\n\r\n", id="the secret as a status line"),
        pytest.param(b"HTTP/1.1 999 " + b"x" * 50_000 + b"\r\n\r\n", id="an unknown status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nnonsense\x1b[2J\r\n\r\n", id="a header without a colon"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"Z" * 9000 + b"\r\n",
            id="a chunk without a length",
        ),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: http://[bad\r\n\r\n", id="a redirect to nowhere"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x28", id="TLS"),
    ],
)
def test_malformed_http_is_reported_in_one_short_line(answer: bytes) -> None:
    """CWE-779, CWE-117: it is quoted in errors and logs."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_answer_twice, args=(listening, answer), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/oauth2/token"
        with pytest.raises(CognitoTokenRequestError) as raised:
            CognitoM2MClient(url, "local-client", SECRET).fetch_token("stock/read", timeout=5.0)

    for text in (str(raised.value), str(raised.value.__cause__)):
        assert _is_one_short_line(text)
        assert SECRET[:10] not in text


def _answer_twice(listening: socket.socket, answer: bytes) -> None:
    for _ in range(2):
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                read_request(connection)
                connection.sendall(answer)


@pytest.mark.parametrize(
    "challenge",
    [
        pytest.param("Bearer " * 9000, id="the scheme 9000 times"),
        pytest.param("Bearer error" + " " * 60_000, id="spaces"),
        pytest.param("Bearer " + "error " * 10_000, id="the parameter 10 000 times"),
        pytest.param("Bearer " + "error=" * 10_000, id="the parameter and an equals sign 10 000 times"),
        pytest.param("a/ " * 20_000, id="the longest lookahead"),
        pytest.param('a="\\' * 20_000, id="quotes and escapes that never end"),
        pytest.param("a," * 30_000, id="as many schemes as fit"),
    ],
)
def test_challenge_of_64_kib_costs_at_most_50_ms(challenge: str) -> None:
    """CWE-1333: a service that you call may answer 401 with anything. Parsing it once took 13 s."""
    headers = {"WWW-Authenticate": challenge}
    assert not is_invalid_token(401, headers)
    assert _cpu_seconds(lambda: is_invalid_token(401, headers)) < 0.05
