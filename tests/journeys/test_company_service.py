"""The service of a company over HTTP: its answers and its log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

from flask_m2m_cognito.testing import LocalUserPool
from tests.journeys.running import Program, flask_run

pytestmark = pytest.mark.processes

APP = "tests.journeys.company_service.app"
CLIENTS = ["orders", "reports"]


@pytest.fixture
def stock(pool: LocalUserPool) -> Iterator[Program]:
    settings = pool.config(ALLOWED_CLIENT_IDS=CLIENTS)
    settings["RATELIMIT_STORAGE_URI"] = "memory://"
    with flask_run(APP, settings) as running:
        yield running


def denials(stock: Program) -> list[dict[str, Any]]:
    return [json.loads(line) for line in re.findall("^INFO stock.audit: (.*)", stock.log, re.MULTILINE)]


def test_every_error_has_the_format_of_the_company(stock: Program, pool: LocalUserPool) -> None:
    errors = {
        "missing_token": stock.get("/items"),
        "malformed": stock.get("/items", "no-token"),
        "insufficient_scope": stock.post("/items", pool.token("stock/read", "reports")),
        "client_not_allowed": stock.get("/items", pool.token("stock/read", "shop")),
        "not_found": stock.get("/nowhere"),
    }
    assert {name: reply.json()["error"]["code"] for name, reply in errors.items()} == {
        name: name for name in errors
    }
    assert [reply.status_code for reply in errors.values()] == [401, 401, 403, 403, 404]
    challenge = errors["insufficient_scope"].headers["WWW-Authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="stock/admin stock/write"' in challenge


def test_outage_at_start_has_the_format_of_the_company(stock: Program, pool: LocalUserPool) -> None:
    with pool.fail("jwks", status=500):
        reply = stock.get("/items", pool.token("stock/read", "orders"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "keys_unavailable")
    assert int(reply.headers["Retry-After"]) >= 1


def test_audit_log_names_verified_callers(stock: Program, pool: LocalUserPool) -> None:
    token = pool.token("stock/read", "reports")
    stock.post("/items", token)
    stock.get("/items", pool.token("stock/read", "orders", expires_in=-60))
    header, payload, signature = token.split(".")
    stock.get("/items", f"{header}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}")
    required = ["stock/admin", "stock/write"]
    assert denials(stock) == [
        {
            "client": "reports",
            "reason": "insufficient_scope",
            "path": "/items",
            "had": ["stock/read"],
            "required": required,
        },
        {
            "client": "orders",
            "reason": "expired",
            "path": "/items",
            "had": ["stock/read"],
            "required": ["stock/read"],
        },
        {"client": None, "reason": "bad_signature", "path": "/items", "had": [], "required": []},
    ]


def test_each_client_has_its_own_rate_limit(stock: Program, pool: LocalUserPool) -> None:
    orders, reports = (pool.token("stock/read", client) for client in CLIENTS)
    replies = [stock.get("/items", orders) for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
    assert replies[3].json()["error"]["code"] == "too_many_requests"
    assert stock.get("/items", reports).json()["caller"] == "reports"
    assert stock.get("/health").status_code == 200


def test_openapi_document_has_the_guards(stock: Program, pool: LocalUserPool) -> None:
    document = stock.get("/openapi.json").json()
    validate(document)
    operations = document["paths"]["/items"]
    assert operations["get"]["security"] == [{"cognito_m2m": ["stock/read"]}]
    assert {"cognito_m2m": ["stock/admin"]} in operations["post"]["security"]
    assert {"401", "403", "503"} <= set(operations["get"]["responses"])
    assert "security" not in document["paths"]["/health"]["get"]
    flow = document["components"]["securitySchemes"]["cognito_m2m"]["flows"]["clientCredentials"]
    assert flow["tokenUrl"] == pool.token_url
