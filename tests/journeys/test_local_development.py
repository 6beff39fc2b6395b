"""A pool and two services on a developer's machine, as processes, with requests as by ``curl``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from tests.journeys.running import Program, flask_run, program, run
from tests.support.sockets import free_port
from tests.support.threads import wait_for

pytestmark = pytest.mark.processes

FOLDER = Path(__file__).parent / "local_development"
PACKAGE = "tests.journeys.local_development"
SECRETS = {
    client: str(entry["secret"])
    for client, entry in json.loads((FOLDER / "pool.json").read_text("utf-8"))["clients"].items()
}


@contextmanager
def local_pool(port: int) -> Generator[Program, None, None]:
    config = str(FOLDER / "pool.json")
    with program(["flask", "m2m", "local-pool", "--config", config, "--port", str(port)], port, {}) as pool:
        yield pool


def printed_settings(pool: Program) -> dict[str, str]:
    """Return the settings that the pool prints, by their names in ``app.config``."""
    wait_for(lambda: "COGNITO_M2M_TOKEN_URL=" in pool.log, "the pool prints the settings")
    words = [word for line in pool.log.splitlines() if "FLASK_" in line for word in shlex.split(line)]
    pairs = [word.removeprefix("FLASK_").partition("=") for word in words if word.startswith("FLASK_")]
    return {name: value for name, _, value in pairs}


def token_for(client: str, settings: dict[str, str]) -> str:
    """Request a token, as ``curl -d grant_type=client_credentials -d … TOKEN_URL`` does."""
    form = {"grant_type": "client_credentials", "client_id": client, "client_secret": SECRETS[client]}
    with requests.Session() as session:
        session.trust_env = False
        reply = session.post(settings["COGNITO_M2M_TOKEN_URL"], data=form, timeout=10)
    return str(reply.json()["access_token"])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def settings(port: int) -> Iterator[dict[str, str]]:
    """The settings that the pool prints. It runs until the end of the test."""
    with local_pool(port) as pool:
        yield printed_settings(pool)


def settings_of_orders(settings: dict[str, str]) -> dict[str, str]:
    return {
        **settings,
        "COGNITO_M2M_ALLOWED_CLIENT_IDS": "shop",
        "COGNITO_M2M_CLIENT_ID": "orders",
        "COGNITO_M2M_CLIENT_SECRET": SECRETS["orders"],
    }


@contextmanager
def services(settings: dict[str, str]) -> Generator[tuple[Program, Program], None, None]:
    """Run orders and inventory."""
    for_inventory = {
        "COGNITO_M2M_USER_POOL_ID": settings["COGNITO_M2M_USER_POOL_ID"],
        "COGNITO_M2M_ISSUER": settings["COGNITO_M2M_ISSUER"],
        "COGNITO_M2M_ALLOWED_CLIENT_IDS": "orders",
    }
    with flask_run(f"{PACKAGE}.inventory", for_inventory) as inventory:
        for_orders = {**settings_of_orders(settings), "INVENTORY_URL": inventory.url}
        with flask_run(f"{PACKAGE}.orders", for_orders) as orders:
            yield orders, inventory


def test_shop_reads_an_order_through_both_services(settings: dict[str, str]) -> None:
    with services(settings) as (orders, inventory):
        token = token_for("shop", settings)
        item = {"name": "tea", "caller": "orders"}
        assert orders.get("/orders/7", token).json() == {"number": 7, "item": item, "caller": "shop"}
        assert orders.get("/orders/7").status_code == 401
        assert inventory.get("/items/tea", token).status_code == 403


@pytest.mark.slow
def test_services_keep_working_after_a_restart_of_the_pool(port: int) -> None:
    with ExitStack() as first, ExitStack() as running:
        settings = printed_settings(first.enter_context(local_pool(port)))
        orders, _ = running.enter_context(services(settings))
        assert orders.get("/orders/7", token_for("shop", settings)).status_code == 200
        first.close()
        running.enter_context(local_pool(port))  # with other keys
        assert orders.get("/orders/7", token_for("shop", settings)).status_code == 200


@pytest.mark.parametrize("command", ["check", "routes --fail-open --except static"])
def test_command_finds_no_problem(settings: dict[str, str], command: str) -> None:
    arguments = ["flask", "--app", f"{PACKAGE}.orders", "m2m", *command.split()]
    status, output = run(arguments, settings_of_orders(settings))
    assert status == 0, output
    assert "failed" not in output
