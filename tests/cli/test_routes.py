"""``flask m2m routes`` lists what each route requires, and marks open routes."""

from __future__ import annotations

from typing import Any

from tests.cli.flask_process import Flask


def rows(content: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(",".join(row["methods"]), row["rule"]): row for row in content["routes"]}


def test_every_route_has_its_requirement(flask: Flask) -> None:
    ended = flask("routes", REQUIRED_SCOPES="shop/use")
    assert ended.status == 0
    wanted = {
        line.split("  ")[0] + " " + line.split()[1]: line.split("  ")[-1].strip()
        for line in ended.out.splitlines()[:-1]
    }
    assert wanted == {
        "GET /": "OPEN",
        "GET /items": "items/read (view)",
        "POST /items": "items/write (view)",
        "GET /orders/about": "OPEN",
        "GET /orders/lines": "orders/read (blueprint orders); orders/lines (view)",
        "GET /report": "reports/all or reports/read from billing (view)",
        "GET /cli/<path:filename>": "OPEN",
        "DELETE /stock": "rejected (403) (view)",
        "GET /stock": "stock/read (view)",
        "PUT /stock": "stock/write (view)",
        "GET /who": "OPEN: any valid token or no token (view)",
    }
    assert ended.line("Every token must also have shop/use")


def test_json_has_the_same_content(flask: Flask) -> None:
    found = rows(flask("routes", "--json").json)
    assert found["GET", "/who"]["open"]
    assert found["GET", "/orders/lines"]["needs"][0] == {
        "where": "blueprint orders",
        "refused": False,
        "scopes": ["orders/read"],
        "match": "all",
        "clients": None,
        "optional": False,
        "skippable": False,
    }
    assert found["DELETE", "/stock"]["needs"][0]["refused"]


def test_protected_application(flask: Flask) -> None:
    found = rows(flask("routes", "--json", app="service:create_protected_app").json)
    assert {rule: row["open"] for (_, rule), row in found.items()} == {
        "/hello": True,
        "/secret": False,
        "/cli/<path:filename>": True,
    }
    assert found["GET", "/secret"]["needs"][0]["where"] == "application"


def test_guard_below_a_cache_is_unknown(flask: Flask) -> None:
    ended = flask("routes", "--fail-open", app="service:create_own_cache_app", CACHE_TYPE="SimpleCache")
    assert ended.status == 1
    assert ended.line("/above", "UNKNOWN: shop/use, but code above the guard may answer first (view)")
    assert ended.line("/below", "shop/use (view)")
    assert "below" not in ended.err


def test_fail_open_names_open_endpoints(flask: Flask) -> None:
    ended = flask("routes", "--fail-open", "--except", "static", "--except", "pages.*")
    assert ended.status == 1
    assert ended.err.strip() == "Open, but not named with --except: orders.about"


def test_fail_open_passes_when_all_are_excepted(flask: Flask) -> None:
    excepted = ("--except", "static", "--except", "hello")
    ended = flask("routes", "--fail-open", *excepted, app="service:create_protected_app")
    assert (ended.status, ended.err) == (0, "")


def test_app_without_the_extension_is_open(flask: Flask) -> None:
    ended = flask("routes", "--fail-open", app="service:create_bare_app")
    assert ended.status == 1
    assert ended.line("/static/<path:filename>", "OPEN")
