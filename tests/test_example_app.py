"""The example: each button's response, what the switches change, and that the page shows no secrets."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from example_app import services
from example_app.calls import CALLS, Call
from example_app.page import create_page_app
from example_app.stage import CLIENTS, HOST, SHORT_LIFE, LoopbackServer, Stage
from example_app.traffic import MEANINGS

ROOT = Path(__file__).parents[1]

Result = dict[str, Any]
Press = Callable[..., Result]


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture
def page(stage: Stage) -> FlaskClient:
    return create_page_app(stage).test_client()


@pytest.fixture
def press(page: FlaskClient) -> Press:
    """Press the button or the switch with this name."""

    def press(name: str, on: bool | None = None) -> Result:
        kind = "calls" if any(call.key == name for call in CALLS) else "switches"
        reply = page.post(f"/{kind}/{name}", json={"on": on})
        assert reply.status_code == 200, reply.text
        result: Result = reply.get_json()
        return result

    return press


def statuses(result: Result) -> list[tuple[str, str, int]]:
    return [(hop["from"], hop["to"], hop["status"]) for hop in result["hops"]]


# -- the buttons ---------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.key)
def test_call_returns_the_status_on_its_button(press: Press, call: Call) -> None:
    press("read")
    assert press(call.key)["hops"][0]["status"] == call.status


def test_buttons_cover_all_statuses() -> None:
    assert {call.status for call in CALLS} >= {200, 400, 401, 403, 503}


def test_orders_sends_its_own_token_to_inventory(press: Press) -> None:
    result = press("read")
    assert statuses(result) == [("shop", "orders", 200), ("orders", "inventory", 200)]
    scopes = [claim["value"] for claim in result["hops"][1]["token"]["claims"] if claim["name"] == "scope"]
    assert scopes == [CLIENTS["orders"]]


@pytest.mark.parametrize(
    ("button", "line"),
    [
        ("read", '@orders_m2m.require_scopes("orders/read")'),
        ("no-scope", '@orders_m2m.require_scopes("orders/write")'),
        ("no-client", 'COGNITO_M2M_ALLOWED_CLIENT_IDS=["orders"],'),
    ],
)
def test_response_names_the_line_of_code_that_decided(press: Press, button: str, line: str) -> None:
    deciding = press(button)["hops"][0]["line"]
    source = Path(services.__file__).read_text("utf-8").splitlines()
    assert (deciding["text"], source[deciding["number"] - 1].strip()) == (line, line)


def test_second_hop_names_the_line_of_code_that_sent_it(press: Press) -> None:
    first, second = press("read")["hops"]
    assert first["sent_by"] is None
    assert second["sent_by"]["text"] == "with orders_m2m.session() as session:"


@pytest.mark.parametrize("button", ["read", "user-token"])
def test_every_claim_is_explained(press: Press, button: str) -> None:
    claims = press(button)["hops"][0]["token"]["claims"]
    assert claims
    assert all(claim["meaning"] == MEANINGS[claim["name"]] for claim in claims)


@pytest.mark.parametrize(
    ("button", "plain", "ours"),
    [
        ("read", 200, 200),
        ("expired", 401, 401),
        ("no-scope", 403, 403),
        ("user-token", 200, 401),
        ("bad-header", 401, 400),
        ("no-keys", 401, 503),
    ],
)
def test_plain_decorator_answers_the_same_call(press: Press, button: str, plain: int, ours: int) -> None:
    press("read")
    result = press(button)
    assert (result["plain_status"], result["hops"][0]["status"]) == (plain, ours)


def test_only_the_plain_decorator_fails_in_an_outage(press: Press) -> None:
    press("read")
    press("pool", on=False)
    result = press("read")
    assert (result["plain_status"], result["hops"][0]["status"]) == (401, 200)
    assert "The plain decorator answered 401 Unauthorized." in result["summary"]
    press("pool", on=True)
    assert press("read")["plain_status"] == 200


def test_burst_needs_no_request_to_the_pool(page: FlaskClient, press: Press) -> None:
    press("read")
    press("pool", on=False)
    result = page.post("/burst", json={}).get_json()
    assert (result["statuses"], result["plain_statuses"]) == ({"200": 100}, {"401": 100})
    assert (result["token_requests"], result["key_downloads"]) == (0, 0)
    assert 0 < result["p50"] <= result["p99"]


# -- the switches --------------------------------------------------------------------------------


def test_keys_and_token_are_fetched_once_for_all_calls(press: Press) -> None:
    for _ in range(3):
        result = press("read")
    assert result["state"]["key_downloads"] == 2  # one for each service
    assert result["state"]["token_requests"] == {"shop": 1, "reports": 0, "orders": 1}


def test_calls_still_work_while_the_pool_is_off(press: Press) -> None:
    press("read")
    assert press("pool", on=False)["state"]["pool_on"] is False
    assert statuses(press("place")) == [("shop", "orders", 201), ("orders", "inventory", 200)]
    assert press("pool", on=True)["state"]["pool_on"] is True


def test_new_key_triggers_one_download(press: Press) -> None:
    press("read")
    before = press("rotate")["state"]["key_downloads"]
    assert press("read")["state"]["key_downloads"] == before
    assert press("newest-key")["state"]["key_downloads"] == before + 1
    assert press("newest-key")["state"]["key_downloads"] == before + 1


def test_only_the_new_key_is_503_while_the_pool_is_off(press: Press) -> None:
    press("read")
    result = press("no-keys")
    assert (result["hops"][0]["status"], result["hops"][0]["reason"]) == (503, "keys_unavailable")
    assert any(line.startswith("Retry-After: ") for line in result["hops"][0]["response"])
    assert result["state"]["pool_on"] is False
    assert press("read")["hops"][0]["status"] == 200


def test_short_lived_token_replaces_the_long_one_at_once(press: Press) -> None:
    assert press("read")["hops"][1]["token"]["lifetime"] == 3600
    assert press("short-life", on=True)["state"]["short_life"] is True
    result = press("read")
    assert result["hops"][1]["token"]["lifetime"] == SHORT_LIFE
    assert result["hops"][0]["token"]["lifetime"] == 3600
    assert result["state"]["token_requests"]["orders"] == 2


def test_orders_restarted_while_the_pool_is_off_is_503(press: Press) -> None:
    press("read")
    press("restart")
    press("pool", on=False)
    assert statuses(press("read")) == [("shop", "orders", 503)]


def test_unavailable_token_is_503_and_names_the_call(press: Press, stage: Stage) -> None:
    press("no-scope")  # orders has keys now, but no token yet
    with stage.pool.fail("token", status=503):
        hop = press("newest-key")["hops"][0]
    assert (hop["status"], hop["reason"]) == (503, "token_unavailable")
    assert hop["line"]["text"] == "with orders_m2m.session() as session:"


def test_timeline_has_requests_outages_and_marks(press: Press) -> None:
    press("read")
    press("pool", on=False)
    press("read")
    press("pool", on=True)
    timeline = press("rotate")["state"]["timeline"]
    (outage,) = timeline["outages"]
    calls = [
        (call["service"], call["status"], outage["start"] <= call["at"] <= outage["end"])
        for call in timeline["calls"]
    ]
    assert calls == [
        ("orders", 200, False),
        ("inventory", 200, False),
        ("plain", 200, False),
        ("orders", 200, True),
        ("inventory", 200, True),
        ("plain", 401, True),
    ]
    assert sorted((mark["kind"], mark["label"]) for mark in timeline["marks"]) == [
        ("key-download", "key download"),
        ("key-download", "key download"),
        ("rotation", "new key"),
        ("token-request", "token request of orders"),
        ("token-request", "token request of shop"),
    ]


def test_switching_the_pool_off_twice_is_one_outage(press: Press) -> None:
    press("pool", on=False)
    assert len(press("pool", on=False)["state"]["timeline"]["outages"]) == 1


def test_state_has_the_health_of_orders(press: Press) -> None:
    assert press("pool", on=True)["state"]["health"]["status"] == "starting"
    assert press("read")["state"]["health"]["status"] == "ok"
    assert press("no-keys")["state"]["health"]["status"] == "degraded"


# -- the page itself -----------------------------------------------------------------------------


def test_page_has_a_button_for_each_call_and_only_own_files(page: FlaskClient) -> None:
    html = page.get("/").text
    assert re.findall(r'data-call="([^"]+)"', html) == [call.key for call in CALLS]
    files = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert files
    for file in files:
        with page.get(file) as reply:
            assert reply.status_code == 200
    assert "default-src 'self'" in page.get("/").headers["Content-Security-Policy"]


def test_page_serves_the_linked_texts_and_no_other_file(page: FlaskClient) -> None:
    for name, text in (("README.md", "flask-m2m-cognito"), ("example_app/services.py", "CognitoM2M()")):
        with page.get(f"/text/{name}") as reply:
            assert (reply.status_code, reply.mimetype) == (200, "text/plain")
            assert text in reply.text
    assert page.get("/text/pyproject.toml").status_code == 404


def test_page_gets_no_secret_and_no_whole_token(page: FlaskClient, stage: Stage) -> None:
    texts = [page.get("/").text]
    texts += [page.post(f"/calls/{call.key}", json={}).text for call in CALLS]
    texts += [page.post(f"/switches/{name}", json={}).text for name in ("rotate", "restart")]
    texts.append(page.get("/state").text)
    for text in texts:
        assert not any(client.secret in text for client in stage.pool.clients)
        assert not re.search(r"eyJ[\w-]{12}", text)


@pytest.mark.parametrize(
    ("host", "type_", "status"),
    [
        ("evil.example", "application/json", 403),
        (HOST, "text/plain", 415),
        (HOST, "application/x-www-form-urlencoded", 415),
    ],
    ids=["DNS rebinding", "text from another site", "a form on another site"],
)
def test_other_sites_cannot_turn_the_switches(page: FlaskClient, host: str, type_: str, status: int) -> None:
    reply = page.post("/switches/restart", data="{}", content_type=type_, base_url=f"http://{host}:8700")
    assert reply.status_code == status


def test_unknown_buttons_are_404(page: FlaskClient) -> None:
    assert page.post("/calls/nonsense", json={}).status_code == 404
    assert page.post("/switches/nonsense", json={}).status_code == 404


# -- starting and stopping -----------------------------------------------------------------------


def test_port_in_use_is_replaced_by_a_free_one() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        server = LoopbackServer(lambda environ, start_response: [], port)
        server.end()
    assert server.url != f"http://{HOST}:{port}"


@pytest.mark.processes
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM], ids=lambda signal_: signal_.name)
def test_signal_stops_it_cleanly(signal_: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "example_app", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            assert any(line.startswith("Press Ctrl-C to stop") for line in lines)
            process.send_signal(signal_)
            _, errors = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
