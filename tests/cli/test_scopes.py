"""``flask m2m scopes`` prints the required scopes in formats that other tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hcl2
import pytest
from flask import Flask as Application

from flask_m2m_cognito import require_scopes
from flask_m2m_cognito.cli.scopes import read_exported_scopes, show_scopes
from tests.cli.flask_process import Flask

REQUIRED = {
    "items": {"read", "write"},
    "orders": {"lines", "read"},
    "reports": {"all", "read"},
    "stock": {"read", "write"},
}
ODD = ("https://api.example.com/v1/use", "Api-Example/use", "api.example/use", "9/$${a}%{b}'$HOME", "openid")


def test_text_names_the_routes_of_each_scope(flask: Flask) -> None:
    ended = flask("scopes", REQUIRED_SCOPES="shop/use")
    assert ended.status == 0
    assert ended.line("items/read", "GET /items")
    assert ended.line("shop/use", "COGNITO_M2M_REQUIRED_SCOPES")


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"]], ids=" ".join)
def test_json(flask: Flask, option: list[str]) -> None:
    content = flask("scopes", *option).json
    found = {
        server["Identifier"]: {scope["ScopeName"] for scope in server["Scopes"]}
        for server in content["resource_servers"]
    }
    assert found == REQUIRED
    assert content["demanded_by"]["stock/write"] == ["PUT /stock"]


def test_json_with_another_format_is_an_error(flask: Flask) -> None:
    ended = flask("scopes", "--json", "--format", "terraform")
    assert ended.status == 2
    assert "not both" in ended.err


def test_terraform_parses(flask: Flask) -> None:
    assert scopes_of_terraform(flask("scopes", "--format", "terraform").out) == REQUIRED


def test_odd_scopes_are_valid_terraform(capsys: pytest.CaptureFixture[str]) -> None:
    """Identifiers that are URLs, give the same label, or have a meaning in a shell or in HCL."""
    app = Application("odd")
    app.get("/")(require_scopes(*ODD)(lambda: ""))
    assert show_scopes(app, form="terraform", diff=None) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("openid is skipped")
    assert scopes_of_terraform(captured.out) == {
        "https://api.example.com/v1": {"use"},
        "Api-Example": {"use"},
        "api.example": {"use"},
        "9": {"$${a}%{b}'$HOME"},
    }


def test_nothing_to_export_is_an_error(flask: Flask) -> None:
    ended = flask("scopes", "--format", "terraform", app="service:create_unguarded_app")
    assert ended.status == 1
    assert "requires no scope" in ended.err


class TestDiff:
    def test_missing_and_unused_scopes_are_printed(self, flask: Flask, tmp_path: Path) -> None:
        export = {"ResourceServers": [{"Identifier": "stock", "Scopes": [scope("read"), scope("count")]}]}
        ended = flask("scopes", "--diff", write_export(tmp_path, export))
        assert ended.status == 1
        assert ended.line("+ stock/write")
        assert ended.line("- stock/count")
        assert "stock/read" not in ended.out

    def test_unused_scope_in_the_file_is_no_failure(self, flask: Flask, tmp_path: Path) -> None:
        content = flask("scopes", "--json").json
        content["resource_servers"][0]["Scopes"].append(scope("more"))
        ended = flask("scopes", "--json", "--diff", write_export(tmp_path, content))
        assert (ended.status, ended.json) == (0, {"missing": [], "unused": ["items/more"]})

    @pytest.mark.parametrize(
        "export",
        [
            {"ResourceServer": {"Identifier": "stock", "Scopes": [{"ScopeName": "read"}]}},
            {"Resources": {"A": {"Properties": {"Identifier": "stock", "Scopes": [{"ScopeName": "read"}]}}}},
            {"values": {"root_module": {"resources": [
                {"values": {"identifier": "stock", "scope": [{"scope_name": "read"}]}}]}}},
        ],
        ids=["describe-resource-server", "cloudformation", "terraform show -json"],
    )  # fmt: skip
    def test_every_export_format_is_read(self, export: dict[str, Any], tmp_path: Path) -> None:
        assert read_exported_scopes(write_export(tmp_path, export)) == {"stock/read"}

    def test_pool_without_resource_servers_lacks_every_scope(self, flask: Flask, tmp_path: Path) -> None:
        ended = flask("scopes", "--diff", write_export(tmp_path, {"ResourceServers": []}))
        assert ended.status == 1
        assert len(ended.out.splitlines()) == 8

    @pytest.mark.parametrize("text", ["resource {}", '{"UserPools": []}'], ids=["not JSON", "something else"])
    def test_other_file_is_rejected(self, flask: Flask, tmp_path: Path, text: str) -> None:
        path = tmp_path / "export"
        path.write_text(text)
        ended = flask("scopes", "--diff", str(path))
        assert ended.status == 1
        assert "list-resource-servers" in ended.err


def scope(name: str) -> dict[str, str]:
    return {"ScopeName": name, "ScopeDescription": name}


def write_export(directory: Path, content: object) -> str:
    path = directory / "export.json"
    path.write_text(json.dumps(content))
    return str(path)


def scopes_of_terraform(text: str) -> dict[str, set[str]]:
    found = {}
    for block in hcl2.loads(text)["resource"]:
        (kind, labelled), *_ = block.items()
        assert unquoted(kind) == "aws_cognito_resource_server"
        (server,) = (body for label, body in labelled.items() if not label.startswith("__"))
        assert unquoted(server["user_pool_id"]) in ("${var.user_pool_id}", "var.user_pool_id")
        found[unquoted(server["identifier"])] = {unquoted(each["scope_name"]) for each in server["scope"]}
    return found


def unquoted(text: str) -> str:
    """Return the text of a template: python-hcl2 keeps its quotes (since 5) and escapes."""
    return text.strip('"').replace("$${", "${").replace("%%{", "%{")
