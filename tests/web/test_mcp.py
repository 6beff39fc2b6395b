"""The server on the page on MCP, with the clients of the packages mcp and fastmcp, over HTTP."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Response, request

from example_app.stage import LoopbackServer
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.headers import bearer
from tests.test_docs import DOCS, blocks_of

# The packages emit deprecation warnings.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PAGE = DOCS / "guide/mcp-server.md"
NEW, OLD = "2026-07-28", "2025-11-25"
READ, WRITE = "inventory/read", "inventory/write"
MODES = pytest.mark.parametrize(("mode", "version"), [("legacy", OLD), ("auto", NEW), (NEW, NEW)])
VERSION_IN_BODY = "io.modelcontextprotocol/protocolVersion"


@dataclass
class Server:
    """The page's server, and what it received: method, version, status and challenge of each message."""

    url: str
    names: dict[str, Any]
    received: list[tuple[str | None, str | None, int, str | None]] = field(default_factory=list)

    def statuses_of(self, method: str) -> list[int]:
        return [status for name, _, status, _ in self.received if name == method]

    @property
    def metadata_url(self) -> str:
        return self.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool(clients={"agent": None, "other": None}) as pool:
        pool.add_client("reader", scopes=[READ])
        yield pool


@pytest.fixture
def server(pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    loopback = LoopbackServer(lambda environ, start: app(environ, start), 0)
    server = Server(f"{loopback.url}/mcp", {"__name__": "page"})
    allowed = {"RESOURCE": server.url, "ALLOWED_CLIENT_IDS": ["agent", "reader"]}
    for key, value in pool.config("agent", **allowed).items():
        monkeypatch.setenv(f"FLASK_{key}", value if isinstance(value, str) else json.dumps(value))
    run_block(PAGE, "@app.post", server.names)
    app = server.names["app"]

    @app.after_request
    def record(response: Response) -> Response:
        if request.method == "POST":
            message = request.get_json(silent=True)
            method = message.get("method") if isinstance(message, dict) else None
            version = request.headers.get("MCP-Protocol-Version")
            challenge = response.headers.get("WWW-Authenticate")
            server.received.append((method, version, response.status_code, challenge))
        return response

    yield server
    loopback.end()


def run_block(path: Path, text: str, names: dict[str, Any]) -> None:
    """Run the one Python block of the page that contains ``text``."""
    (block,) = (each for each in blocks_of(path) if each.language == "python" and text in each.content)
    exec(compile(block.content, str(path), "exec"), names)


class Storage:
    """Keeps the tokens of a client of mcp."""

    tokens: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> None:
        return None

    async def set_client_info(self, client_info: Any) -> None:
        """Ignore it: the client is registered."""


async def call_with_mcp(server: Server, auth: Any, mode: str, tool: str) -> tuple[list[str], str]:
    mcp, httpx2 = pytest.importorskip("mcp"), pytest.importorskip("httpx2")
    from mcp.client.streamable_http import streamable_http_client

    async with httpx2.AsyncClient(auth=auth) as http:
        transport = streamable_http_client(server.url, http_client=http)
        async with mcp.Client(transport, mode=mode) as client:
            listed = await client.list_tools()
            result = await client.call_tool(tool, {"item": "tea"})
            return [each.name for each in listed.tools], result.content[0].text


async def call_with_fastmcp(server: Server, auth: Any, mode: str, tool: str) -> tuple[list[str], str]:
    fastmcp = pytest.importorskip("fastmcp")
    async with fastmcp.Client(server.url, auth=auth, mode=mode) as client:
        listed = await client.list_tools()
        result = await client.call_tool(tool, {"item": "tea"})
        return [each.name for each in listed], result.content[0].text


def auth_of_mcp(server: Server, pool: LocalUserPool, client_id: str) -> Any:
    pytest.importorskip("mcp")
    from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider

    secret = pool.client(client_id).secret
    return ClientCredentialsOAuthProvider(server.url, Storage(), client_id, secret, issuer=pool.issuer)


def auth_of_fastmcp(server: Server, pool: LocalUserPool, client_id: str) -> Any:
    pytest.importorskip("fastmcp")
    from fastmcp.client.auth import ClientCredentialsOAuthProvider

    secret = pool.client(client_id).secret
    return ClientCredentialsOAuthProvider(client_id=client_id, client_secret=secret, issuer=pool.issuer)


CLIENTS = pytest.mark.parametrize(
    ("auth_of", "call"),
    [
        pytest.param(auth_of_mcp, call_with_mcp, id="mcp"),
        pytest.param(auth_of_fastmcp, call_with_fastmcp, id="fastmcp"),
    ],
)


class TestDiscovery:
    """Clients that know only the server's URL and their credentials."""

    @CLIENTS
    @MODES
    def test_client_finds_the_pool_and_calls_a_tool(
        self, server: Server, pool: LocalUserPool, auth_of: Any, call: Any, mode: str, version: str
    ) -> None:
        auth = auth_of(server, pool, "agent")
        assert asyncio.run(call(server, auth, mode, "count")) == (["count", "reserve"], "7 left")
        (_, _, status, challenge), *later = server.received
        assert (status, challenge) == (
            401,
            f'Bearer realm="stock_mcp", scope="{READ}", resource_metadata="{server.metadata_url}"',
        )
        assert {each[2] for each in later} <= {200, 202}
        assert server.received[-1][:2] == ("tools/call", version)
        (asked,) = (each for each in pool.requests if each.endpoint == "token")
        assert (asked.form["scope"], asked.form["resource"]) == (READ, server.url)

    @CLIENTS
    @MODES
    def test_challenge_lets_the_client_get_the_scopes_of_a_tool(
        self, server: Server, pool: LocalUserPool, auth_of: Any, call: Any, mode: str, version: str
    ) -> None:
        auth = auth_of(server, pool, "agent")
        assert asyncio.run(call(server, auth, mode, "reserve"))[1] == "6 left"
        assert server.statuses_of("tools/call") == [403, 200]
        assert server.received[-1][:2] == ("tools/call", version)
        scopes = [each.form["scope"] for each in pool.requests if each.endpoint == "token"]
        assert [set(each.split()) for each in scopes] == [{READ}, {READ, WRITE}]

    def test_function_on_the_page_lists_the_tools(self, server: Server, pool: LocalUserPool) -> None:
        pytest.importorskip("fastmcp")
        run_block(PAGE, "async def tools", server.names)
        secret = pool.client("agent").secret
        found = asyncio.run(server.names["tools"](server.url, pool.issuer, "agent", secret))
        assert found == ["count", "reserve"]

    @pytest.mark.parametrize("path", ["/mcp", ""])
    def test_browser_reads_the_document_after_a_preflight(self, server: Server, path: str) -> None:
        url = server.metadata_url.removesuffix("/mcp") + path
        origin = {"Origin": "https://inspector.example.org"}
        asked = {
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "mcp-protocol-version",
        }
        allowed = requests.options(url, headers=origin | asked, timeout=10)
        assert allowed.ok
        assert allowed.headers["Access-Control-Allow-Origin"] == "*"
        assert allowed.headers["Access-Control-Allow-Headers"] == "*"
        document = requests.get(url, headers=origin | {"MCP-Protocol-Version": NEW}, timeout=10)
        assert document.headers["Access-Control-Allow-Origin"] == "*"
        assert document.json()["resource"] == server.url


class TestScopes:
    @pytest.mark.parametrize("call", [call_with_mcp, call_with_fastmcp], ids=["mcp", "fastmcp"])
    @MODES
    def test_tool_without_its_scope_gets_403(
        self, server: Server, call: Any, mode: str, version: str
    ) -> None:
        pytest.importorskip("mcp")
        from mcp.shared.exceptions import MCPError

        auth = server.names["m2m"].auth(READ)
        with pytest.raises(Exception) as raised:  # noqa: PT011 (mcp raises a group)
            asyncio.run(call(server, auth, mode, "reserve"))
        assert [type(each) for each in leaves_of(raised.value)] == [MCPError]
        assert server.received[-1] == (
            "tools/call",
            version,
            403,
            'Bearer realm="stock_mcp", error="insufficient_scope", '
            'error_description="The access token lacks one or more required scopes.", '
            f'scope="{READ} {WRITE}", resource_metadata="{server.metadata_url}"',
        )
        assert server.names["STOCK"] == {"tea": 7}

    @CLIENTS
    def test_client_that_may_not_have_the_scope_stops(
        self, server: Server, pool: LocalUserPool, auth_of: Any, call: Any
    ) -> None:
        auth = auth_of(server, pool, "reader")
        with pytest.raises(Exception) as raised:  # noqa: PT011 (mcp raises a group)
            asyncio.run(call(server, auth, "auto", "reserve"))
        assert "invalid_scope" in repr(leaves_of(raised.value))
        assert server.statuses_of("tools/call") == [403]
        assert server.names["STOCK"] == {"tea": 7}

    def test_other_clients_of_the_pool_are_rejected(self, server: Server, pool: LocalUserPool) -> None:
        answer = post(server, pool.token(READ, client_id="other"), "tools/list")
        assert (answer.status_code, answer.json()["reason"]) == (403, "client_not_allowed")


def leaves_of(error: BaseException) -> list[BaseException]:
    inner = getattr(error, "exceptions", None)
    return [error] if inner is None else [leaf for each in inner for leaf in leaves_of(each)]


class TestOwnAuth:
    """Clients with ``m2m.auth()``."""

    @pytest.mark.parametrize("call", [call_with_mcp, call_with_fastmcp], ids=["mcp", "fastmcp"])
    @MODES
    def test_first_request_has_a_token(self, server: Server, call: Any, mode: str, version: str) -> None:
        auth = server.names["m2m"].auth([READ, WRITE])
        assert asyncio.run(call(server, auth, mode, "reserve")) == (["count", "reserve"], "6 left")
        assert {each[2] for each in server.received} <= {200, 202}
        assert server.received[-1][1] == version

    def test_function_on_the_page_calls_a_tool(self, server: Server) -> None:
        pytest.importorskip("mcp")
        run_block(PAGE, "async def count", names := {"__name__": "page"})
        assert asyncio.run(names["count"](server.url, "tea")) == "7 left"


def post(server: Server, token: str, method: str, **more: Any) -> requests.Response:
    """Send a message as the version 2026-07-28 requires it, with changes."""
    params = {
        "_meta": {VERSION_IN_BODY: NEW, "io.modelcontextprotocol/clientCapabilities": {}},
        **more.pop("params", {}),
    }
    headers = {
        "MCP-Protocol-Version": NEW,
        "Mcp-Method": method,
        "Mcp-Name": params.get("name"),
        **more.pop("headers", {}),
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **more}
    return requests.post(server.url, json=message, headers=bearer(token) | headers, timeout=10)


COUNT = {"name": "count", "arguments": {"item": "tea"}}
OLD_BODY = {"_meta": {}}
ENCODED = f"=?base64?{b64encode(b'count').decode()}?="


class TestHeaders:
    """The rules of both versions of the protocol for headers and statuses."""

    @pytest.mark.parametrize(
        ("headers", "params"),
        [
            pytest.param({}, {}, id="2026-07-28"),
            pytest.param({"Mcp-Name": ENCODED}, {}, id="name in base64"),
            pytest.param(
                {"MCP-Protocol-Version": OLD, "Mcp-Method": None, "Mcp-Name": None}, OLD_BODY, id="2025-11-25"
            ),
        ],
    )
    def test_valid_headers_are_accepted(
        self, server: Server, pool: LocalUserPool, headers: Any, params: Any
    ) -> None:
        answer = post(server, pool.token(READ), "tools/call", headers=headers, params=COUNT | params)
        assert (answer.status_code, answer.json()["result"]["content"][0]["text"]) == (200, "7 left")

    @pytest.mark.parametrize(
        ("headers", "params"),
        [
            pytest.param({"MCP-Protocol-Version": None}, {}, id="no version"),
            pytest.param({"MCP-Protocol-Version": OLD}, {}, id="other version in the body"),
            pytest.param({}, OLD_BODY, id="no version in the body"),
            pytest.param({"Mcp-Method": None}, {}, id="no method"),
            pytest.param({"Mcp-Method": "tools/list"}, {}, id="other method"),
            pytest.param({"Mcp-Method": "TOOLS/CALL"}, {}, id="method in capitals"),
            pytest.param({"Mcp-Name": None}, {}, id="no name"),
            pytest.param({"Mcp-Name": "count"}, {"name": "reserve"}, id="other name"),
            pytest.param({"Mcp-Name": "=?base64?////?="}, {}, id="name that is not UTF-8"),
            pytest.param({"Mcp-Name": "=?base64?A?="}, {}, id="name that is not base64"),
        ],
    )
    def test_header_mismatch_is_400(
        self, server: Server, pool: LocalUserPool, headers: Any, params: Any
    ) -> None:
        token = pool.token([READ, WRITE])
        answer = post(server, token, "tools/call", headers=headers, params=COUNT | params)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)
        assert server.names["STOCK"] == {"tea": 7}

    def test_request_without_client_capabilities_is_400(self, server: Server, pool: LocalUserPool) -> None:
        answer = post(server, pool.token(READ), "tools/list", params={"_meta": {VERSION_IN_BODY: NEW}})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)

    def test_unknown_version_is_400_with_those_supported(self, server: Server, pool: LocalUserPool) -> None:
        headers, body = {"MCP-Protocol-Version": "1900-01-01"}, {"_meta": {VERSION_IN_BODY: "1900-01-01"}}
        answer = post(server, pool.token(READ), "tools/list", headers=headers, params=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, -32022)
        assert error["data"] == {"supported": [NEW, OLD], "requested": "1900-01-01"}

    def test_unknown_method_is_404_only_in_the_new_version(self, server: Server, pool: LocalUserPool) -> None:
        new = post(server, pool.token(READ), "prompts/list")
        old_headers = {"MCP-Protocol-Version": OLD}
        old = post(server, pool.token(READ), "prompts/list", headers=old_headers, params=OLD_BODY)
        assert (new.status_code, old.status_code) == (404, 200)
        assert new.json()["error"]["code"] == old.json()["error"]["code"] == -32601

    @pytest.mark.parametrize(
        ("message", "status"),
        [
            pytest.param({"method": "notifications/initialized"}, 202, id="notification"),
            pytest.param({"id": 1, "result": {}}, 400, id="response"),
            pytest.param([{"id": 1, "method": "tools/list"}], 400, id="batch"),
        ],
    )
    def test_only_notifications_need_no_answer(
        self, server: Server, pool: LocalUserPool, message: Any, status: int
    ) -> None:
        headers = bearer(pool.token(READ)) | {"MCP-Protocol-Version": OLD}
        answer = requests.post(server.url, json=message, headers=headers, timeout=10)
        assert (answer.status_code, answer.content) == (status, b"")

    @pytest.mark.parametrize("item", [None, 7, ["tea"]])
    def test_item_of_another_type_is_unknown(self, server: Server, pool: LocalUserPool, item: Any) -> None:
        params = {"name": "reserve", "arguments": {"item": item}}
        answer = post(server, pool.token([READ, WRITE]), "tools/call", params=params)
        assert answer.json()["result"]["content"][0]["text"] == "0 left"

    def test_unknown_tool_is_an_error(self, server: Server, pool: LocalUserPool) -> None:
        answer = post(server, pool.token(READ), "tools/call", params={**COUNT, "name": "steal"})
        assert answer.json()["error"]["code"] == -32602

    def test_only_post_is_allowed(self, server: Server, pool: LocalUserPool) -> None:
        headers = bearer(pool.token(READ))
        statuses = [
            requests.request(method, server.url, headers=headers, timeout=10).status_code
            for method in ("GET", "DELETE")
        ]
        assert statuses == [405, 405]

    def test_requests_of_web_pages_are_rejected(self, server: Server, pool: LocalUserPool) -> None:
        headers = {"Origin": "https://rebound.example.org"}
        assert post(server, pool.token(READ), "tools/list", headers=headers).status_code == 403
