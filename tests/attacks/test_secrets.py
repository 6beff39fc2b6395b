"""No token, secret or cache key is in logs, error trackers, signals, health and answers."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any
from urllib.parse import quote_plus

import pytest
import requests
from flask import Flask, g, got_request_exception, request
from werkzeug.exceptions import HTTPException

from flask_m2m_cognito import (
    CognitoM2M,
    CognitoM2MClient,
    CognitoTokenRequestError,
    KeysUnavailableError,
    TokenUnavailableError,
    TokenValidationError,
    signals,
)
from flask_m2m_cognito.inbound.unverified_token import decode_unverified
from flask_m2m_cognito.remote.sealed_store import Seal
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.attacks import malformed_headers
from tests.attacks import test_hostile_token_endpoint as token_answers
from tests.attacks.forging import by_rsa, jose_header, valid_token
from tests.attacks.stage import Attack, Scene, Service, bearer, valid_header
from tests.attacks.test_invalid_tokens import ATTACKS
from tests.outbound.peers import Peer, Reply, refusal

SECRET = token_answers.SECRET
CACHE_KEY = "a cache key that must stay secret"
SPELLINGS = (
    SECRET,
    quote_plus(SECRET),
    base64.b64encode(f"local-client:{SECRET}".encode()).decode(),
    base64.b64encode(f"local-client:{quote_plus(SECRET)}".encode()).decode(),
)


def seen_by_a_tracker(error: BaseException) -> str:
    """Return what an error tracker sends: texts, attributes, and all locals of all frames, with causes.

    It leaves out the test's own frames, which hold the token anyway, and one frame of Flask's, which
    holds the environ of each request of every application. See docs/security.md.
    """
    seen: list[str] = []
    known: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in known:
            continue
        known.add(id(each))
        seen += [str(each), repr(each), repr(each.args), repr(vars(each))]
        seen += _locals_of(each.__traceback__)
        waiting += [each.__cause__, each.__context__]
        waiting += [value for value in vars(each).values() if isinstance(value, BaseException)]
    return "\n".join(seen)


def _locals_of(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if "/tests/attacks/" not in code.co_filename and code.co_name != "wsgi_app":
            for name, value in traceback.tb_frame.f_locals.items():
                yield f"{name} = {_deeply(value)}"
        traceback = traceback.tb_next


def _deeply(value: Any) -> str:
    """Return the repr, as trackers show a local. It may raise."""
    with contextlib.suppress(Exception):
        return repr(value)
    return "?"


def secrets_of(header: str) -> list[str]:
    """Return the parts of a header that must stay hidden, if too long to occur by chance."""
    token = header.partition(" ")[2]
    return [part for part in {header, token, *token.split(".")} if len(part) >= 20]


def assert_hidden(secrets: list[str], text: str) -> None:
    for secret in secrets:
        assert secret not in text


# -- incoming tokens -----------------------------------------------------------------------------


def _assert_validate_shows_nothing(service: Service, header: str) -> None:
    validator, token = service.m2m.for_app(service.app).validator, header.partition(" ")[2]
    error = _raised_by(lambda: validator.validate(token))
    assert isinstance(error, (TokenValidationError, KeysUnavailableError))
    assert_hidden(secrets_of(header), seen_by_a_tracker(error))


def _raised_by(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:
        return error
    return None


@pytest.fixture(scope="module")
def watched(scene: Scene) -> tuple[Service, list[Exception]]:
    """A service whose handler for every HTTPException keeps them, as an error tracker would."""
    service, errors = Service(scene), []

    @service.app.errorhandler(HTTPException)
    def keep(error: HTTPException) -> HTTPException:
        errors.append(error)
        return error

    return service, errors


def _attacks_by_reason() -> list[Attack]:
    """Return two attacks for each reason: the frames are the same for all of a reason."""
    chosen: dict[str, list[Attack]] = {}
    for attack in ATTACKS:
        chosen.setdefault(attack.reason, []).append(attack)
    return [attack for attacks in chosen.values() for attack in (attacks[0], attacks[-1])]


@pytest.mark.parametrize("attack", _attacks_by_reason(), ids=str)
def test_guard_errors_hold_no_token(
    attack: Attack, scene: Scene, watched: tuple[Service, list[Exception]]
) -> None:
    service, errors = watched
    errors.clear()
    header = attack.make(scene)
    service.send(header)
    if attack not in malformed_headers.ATTACKS:
        _assert_validate_shows_nothing(service, header)

    (error,) = errors
    assert_hidden(secrets_of(header), seen_by_a_tracker(error))


def _broken(*_: Any) -> Any:
    raise LookupError("a bug of the application")


@pytest.mark.parametrize("place", ["ALLOWED_CLIENT_IDS", "TOKEN_CHECK", "principal loader", "view"])
@pytest.mark.parametrize("times", [1, 2], ids=["a new token", "a remembered token"])
def test_application_errors_hold_no_token(place: str, times: int, scene: Scene) -> None:
    settings = {place: _broken} if place.isupper() else {}
    service = Service(scene, **settings)
    if place == "principal loader":
        service.m2m.principal_loader(_broken)
    if place == "view":
        service.app.add_url_rule("/bug", "bug", service.m2m.require_scopes()(_broken))
    errors: list[Exception] = []

    def keep(sender: Flask, exception: Exception, **_: Any) -> None:
        errors.append(exception)

    def keep_problem(error: HTTPException) -> HTTPException:
        errors.append(error)
        return error

    service.app.register_error_handler(HTTPException, keep_problem)
    header = valid_header(scene)
    with got_request_exception.connected_to(keep, service.app):
        for _ in range(times):
            service.send(header, "/bug" if place == "view" else "/orders")

    assert errors
    for error in errors:
        assert_hidden(secrets_of(header), seen_by_a_tracker(error))


def _quoting(kind: type[Exception], part: Callable[[str], str]) -> Callable[..., Any]:
    def quote(*_: Any, **__: Any) -> Any:
        text = part(request.headers["Authorization"])
        try:
            raise LookupError(text)
        except LookupError as cause:
            raise kind(f"no row for {text}, sorry") from cause

    return quote


@pytest.mark.parametrize(
    "place", ["ALLOWED_CLIENT_IDS", "TOKEN_CHECK", "principal loader", "view", "receiver"]
)
@pytest.mark.parametrize("kind", [LookupError, TokenValidationError, KeysUnavailableError])
@pytest.mark.parametrize(
    "part",
    [str, lambda header: header.split()[1], lambda header: header.split(".")[1], lambda h: h.split(".")[2]],
    ids=["the header", "the token", "its claims", "its signature"],
)
def test_token_quoted_by_the_application_is_hidden(
    place: str, kind: type[Exception], part: Any, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    quote = _quoting(kind, part)
    service = Service(scene, **({place: quote} if place.isupper() else {}))
    if place == "principal loader":
        service.m2m.principal_loader(quote)
    if place == "view":
        service.app.add_url_rule("/quote", "quote", service.m2m.require_scopes()(quote))
    if place == "receiver":
        signals.token_accepted.connect(quote, service.app)
    header = valid_header(scene)
    caplog.set_level("DEBUG")
    reply = service.send(header, "/quote" if place == "view" else "/orders")

    records = [record for record in caplog.records if record.name.startswith("flask_m2m_cognito")]
    seen = [reply.text, str(reply.headers)]
    for record in records:
        seen += [logging.Formatter().format(record), repr(record.args)]
        if record.exc_info and record.exc_info[1] is not None:
            seen.append(seen_by_a_tracker(record.exc_info[1]))
    assert_hidden(secrets_of(header), "\n".join(seen))
    if kind is TokenValidationError and place != "receiver":
        assert "no row for [hidden], sorry" in reply.text.replace("Bearer ", "")
    if place == "receiver" or (place.isupper() and kind is LookupError):
        assert "in quote" in caplog.text


class _Aborted(BaseException):
    """Not an ``Exception``, like gevent's ``Timeout``."""


@pytest.mark.parametrize("times", [1, 2], ids=["a new token", "a remembered token"])
def test_frames_of_an_aborted_check_hold_no_token(times: int, scene: Scene) -> None:
    checked: list[object] = []

    def check(token: object) -> None:
        checked.append(token)
        if len(checked) == times:
            raise _Aborted

    service, header = Service(scene, TOKEN_CHECK=check), valid_header(scene)
    for _ in range(times - 1):
        service.send(header)
    with pytest.raises(_Aborted) as caught:
        service.send(header)
    assert_hidden(secrets_of(header), "\n".join(_locals_of_ours(caught.value)))


def test_broken_receiver_is_logged_without_the_token(
    scene: Scene, warm: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """The record holds the exception, and a tracker reads its frames."""
    header = valid_header(scene)
    forged = bearer(by_rsa(scene, jose_header(scene), sha="512"))
    with (
        signals.token_accepted.connected_to(_raise_in_receiver, warm.app),
        signals.token_rejected.connected_to(_raise_in_receiver, warm.app),
    ):
        assert warm.send(header).ran
        assert not warm.send(forged).ran

    records = [record for record in caplog.records if record.exc_info]
    assert len(records) == 2
    for record in records:
        assert record.exc_info is not None
        assert record.exc_info[1] is not None
        text = seen_by_a_tracker(record.exc_info[1]) + record.getMessage() + repr(vars(record))
        assert_hidden([*secrets_of(header), *secrets_of(forged)], text)


def _raise_in_receiver(sender: object, **_: Any) -> None:
    raise LookupError("a bug of a receiver")


def test_reprs_of_decoded_tokens_hold_no_token(scene: Scene, warm: Service) -> None:
    token = valid_token(scene)
    validator = warm.m2m.for_app(warm.app).validator
    shown = repr([decode_unverified(token), validator.verify(token), validator, validator._memory])

    assert_hidden(secrets_of(bearer(token)), shown)


# -- outgoing tokens -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool() as pool:
        pool.set_secrets("local-client", SECRET)
        yield pool


@pytest.fixture
def failing(pool: LocalUserPool) -> Iterator[LocalUserPool]:
    yield pool
    pool.online()
    pool.recover()


def _caller(pool: LocalUserPool, **settings: Any) -> tuple[Flask, CognitoM2M]:
    app = Flask("caller")
    usual = {"ALLOWED_CLIENT_IDS": "*", "SCOPES": "stock/read", "CACHE_KEY": CACHE_KEY}
    app.config.update(pool.config(**{**usual, **settings}))
    return app, CognitoM2M(app)


@pytest.mark.parametrize(
    ("client_auth", "answer"),
    [
        *(pytest.param("post", answer, id=str(answer)) for answer in token_answers.BAD_ANSWERS),
        # The frames are the same for all answers.
        *(pytest.param("basic", answer, id=f"basic, {answer}") for answer in token_answers.BAD_ANSWERS[::9]),
    ],
)
def test_token_request_errors_hold_no_secret_or_token(
    answer: token_answers.BadAnswer, client_auth: Any, failing: LocalUserPool
) -> None:
    failing.fail("token", body=answer.body, status=answer.status, headers=answer.headers, **answer.fault)
    client = CognitoM2MClient(failing.token_url, "local-client", SECRET, client_auth=client_auth)
    error = _raised_by(lambda: client.fetch_token("stock/read"))
    if answer.only_source:
        assert error is None
        app, m2m = _caller(failing, CLIENT_AUTH=client_auth)
        error = _raised_by(lambda: m2m.for_app(app).token())

    assert isinstance(error, CognitoTokenRequestError)
    assert_hidden([*SPELLINGS, "a.valid.token", CACHE_KEY], seen_by_a_tracker(error))


@pytest.mark.parametrize("fault", ["offline", "reset", "cut_off", "hang"])
@pytest.mark.parametrize("client_auth", ["post", "basic"])
def test_connection_errors_hold_no_secret(fault: str, client_auth: Any, failing: LocalUserPool) -> None:
    if fault == "offline":
        failing.offline()
    else:
        failing.fail("token", **{fault: True})  # type: ignore[arg-type]
    client = CognitoM2MClient(failing.token_url, "local-client", SECRET, client_auth=client_auth)
    error = _raised_by(lambda: client.fetch_token("stock/read", timeout=0.1 if fault == "hang" else 5.0))

    assert isinstance(error, CognitoTokenRequestError)
    assert_hidden([*SPELLINGS], seen_by_a_tracker(error))


def _from_json(text: str) -> Any:
    return json.loads(text)["client_secret"]


def _chained(text: str) -> Any:
    try:
        return _from_json(text)
    except ValueError as error:
        error.response = {"Error": {"Code": text}}  # type: ignore[attr-defined]
        raise


def _lazy(text: str) -> Any:
    class Texts(list[str]):
        def __iter__(self) -> Iterator[str]:
            raise LookupError(text)

    return Texts([text])


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda: _from_json(SECRET), id="not JSON"),
        pytest.param(lambda: _from_json(json.dumps({"other": SECRET})), id="missing name"),
        pytest.param(lambda: _chained(SECRET), id="a chained exception with an attribute"),
        pytest.param(lambda: {"client_secret": SECRET}, id="returns a dict"),
        pytest.param(lambda: [SECRET, SECRET.encode()], id="returns a list with bytes"),
        pytest.param(lambda: _lazy(SECRET), id="returns a list that raises"),
        pytest.param(lambda: (SECRET + "é").encode().decode("ascii"), id="not ASCII"),
    ],
)
@pytest.mark.parametrize("call", ["first", "again"])
def test_unreadable_secret_errors_hold_no_secret(
    call: str, read: Callable[[], Any], pool: LocalUserPool, caplog: pytest.LogCaptureFixture
) -> None:
    answers = ["wrong"] if call == "again" else []
    app, m2m = _caller(pool, CLIENT_SECRET=lambda: answers.pop() if answers else read())
    error = _raised_by(lambda: m2m.for_app(app).token())

    assert isinstance(error, TokenUnavailableError)
    assert "could not be read" in str(error)
    shown = [seen_by_a_tracker(error), caplog.text, json.dumps(m2m.for_app(app).health())]
    assert_hidden([*SPELLINGS], "\n".join(shown))


def test_token_errors_in_a_view_hold_no_secret(failing: LocalUserPool) -> None:
    app, m2m = _caller(failing)
    held = m2m.for_app(app).token()
    failing.fail("token", status=400, body={"error": "invalid_client"})
    source = m2m.for_app(app).sources.get()
    other, other_m2m = _caller(failing, SCOPES="other/scope")
    errors = [_raised_by(lambda: other_m2m.for_app(other).token()) for _ in range(2)]
    source.renew(held)

    for error in errors:
        assert isinstance(error, TokenUnavailableError)
        assert_hidden([*SPELLINGS, *secrets_of(bearer(held)), CACHE_KEY], seen_by_a_tracker(error))


def test_frames_of_a_failed_retry_hold_no_token(pool: LocalUserPool) -> None:
    """The frames of requests and urllib3 hold the headers that they send, see docs/security.md."""
    with Peer() as peer, MovedClock() as clock:
        peer.answer = lambda received: _refuse_once(peer)
        app, m2m = _caller(pool)
        calls = m2m.for_app(app)
        calls.token()
        clock.move(11)  # a younger token is not replaced
        error = _raised_by(lambda: requests.get(peer.url(), auth=calls.auth(), timeout=5))

    assert isinstance(error, requests.RequestException)
    assert len(set(peer.tokens)) == 2
    assert_hidden([str(token) for token in peer.tokens], "\n".join(_locals_of_ours(error)))


def _refuse_once(peer: Peer) -> Reply:
    if len(peer.received) > 1:
        raise ConnectionError("it hangs up")
    return refusal()


def _locals_of_ours(error: BaseException) -> Iterator[str]:
    traceback = error.__traceback__
    while traceback is not None:
        if "flask_m2m_cognito" in traceback.tb_frame.f_code.co_filename:
            yield from (f"{name} = {_deeply(value)}" for name, value in traceback.tb_frame.f_locals.items())
        traceback = traceback.tb_next


# -- logs, signals, health and reprs -------------------------------------------------------------


def test_logs_signals_health_and_reprs_hold_no_secret(
    failing: LocalUserPool, caplog: pytest.LogCaptureFixture
) -> None:
    """A service starts, validates, calls, is attacked, and goes through an outage of Cognito."""
    caplog.set_level(logging.DEBUG)
    signalled: list[str] = []

    def listen(sender: object, **arguments: Any) -> None:
        signalled.append(repr(arguments))

    with contextlib.ExitStack() as stack:
        for signal in (
            signals.token_accepted, signals.token_rejected, signals.keys_refreshed, signals.keys_failed,
            signals.token_obtained, signals.token_failed, signals.store_state_changed,
        ):  # fmt: skip
            stack.enter_context(signal.connected_to(listen))
        tokens, shown = _run_service(failing)

    logged = "\n".join(f"{record.getMessage()} {vars(record)!r}" for record in caplog.records)
    secrets = [*SPELLINGS, CACHE_KEY, *(part for token in tokens for part in secrets_of(bearer(token)))]
    assert "urllib3" in {record.name.partition(".")[0] for record in caplog.records}
    assert len(signalled) >= 5
    for text in (logged, "\n".join(signalled), shown):
        assert_hidden(secrets, text)


def _run_service(pool: LocalUserPool) -> tuple[list[str], str]:
    app, m2m = _caller(pool)
    app.add_url_rule("/", "view", m2m.require_scopes()(lambda: {"client": g.m2m_token.client_id}))
    client, parts = app.test_client(), m2m.for_app(app)
    incoming, forged = pool.token(), pool.token(headers={"kid": "no such key"})
    outgoing = parts.token()
    for token in (incoming, incoming, forged, forged[:-4] + "AAAA"):
        client.get("/", headers={"Authorization": f"Bearer {token}"})
    with pool.offline():
        other, other_m2m = _caller(pool, SCOPES="other/scope")
        error = _raised_by(lambda: other_m2m.for_app(other).token())
        client.get("/", headers={"Authorization": f"Bearer {incoming}"})
    later = parts.token("stock/write")
    source = parts.sources.get()
    shown = [
        repr(parts), str(parts.settings), repr(m2m), repr(parts.settings.clients), repr(parts.client()),
        repr(vars(parts)), repr(source), repr(source.refreshable), repr(source.refreshable.state),
        repr(source.refreshable.state.fetched), repr(parts.validator), repr(parts.validator.pools),
        repr(parts.guard), repr(parts.auth()), repr(m2m.auth()), repr(parts.session().auth), repr(error),
        repr(parts.client().fetch_token("stock/read")), repr(Seal(CACHE_KEY.encode())),
        json.dumps(parts.health()), json.dumps(other_m2m.for_app(other).health()), repr(pool),
    ]  # fmt: skip
    return [incoming, forged, outgoing, later], "\n".join(shown)


@pytest.mark.parametrize("attack", _attacks_by_reason(), ids=str)
def test_response_does_not_quote_the_header(attack: Attack, scene: Scene, warm: Service) -> None:
    """CWE-209, CWE-79: not even a kid or an issuer."""
    header = attack.make(scene)
    reply = warm.send(header)
    answer = reply.text + repr(list(reply.headers))

    assert_hidden([*secrets_of(header), scene.pool.pool_id, scene.pool.issuer, "<script>"], answer)
