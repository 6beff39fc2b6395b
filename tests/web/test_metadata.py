"""RFC 9728: a client that knows only a service's URL finds where to get a token, and for which scopes."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, Flask

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.testing import LocalUserPool
from flask_m2m_cognito.web.resource_metadata import metadata_path, metadata_url
from tests.web.conftest import Bearer, MakeApp

RESOURCE = "https://stock.example.com"
WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(RESOURCE=RESOURCE)


def view() -> str:
    return "reached"


def challenge_of(app: Flask, path: str, headers: dict[str, str] | None = None) -> str:
    return app.test_client().get(path, headers=headers).headers["WWW-Authenticate"]


class TestAddress:
    @pytest.mark.parametrize(
        ("resource", "url"),
        [
            pytest.param(RESOURCE, f"{RESOURCE}{WELL_KNOWN}", id="only a host"),
            pytest.param(f"{RESOURCE}/", f"{RESOURCE}{WELL_KNOWN}", id="slash after the host"),
            pytest.param(f"{RESOURCE}:8443", f"{RESOURCE}:8443{WELL_KNOWN}", id="port"),
            pytest.param(f"{RESOURCE}/v1/stock", f"{RESOURCE}{WELL_KNOWN}/v1/stock", id="path"),
            pytest.param(
                f"{RESOURCE}/stock/", f"{RESOURCE}{WELL_KNOWN}/stock/", id="path with a trailing slash"
            ),
            pytest.param(f"{RESOURCE}/a?b=c", f"{RESOURCE}{WELL_KNOWN}/a?b=c", id="path and query"),
            pytest.param(f"{RESOURCE}/?b=c", f"{RESOURCE}{WELL_KNOWN}?b=c", id="query"),
        ],
    )
    def test_well_known_path_is_between_host_and_path(self, resource: str, url: str) -> None:
        assert metadata_url(resource) == url

    @pytest.mark.parametrize(
        "resource",
        [f"{RESOURCE}/v1/stock", f"{RESOURCE}/stock/", f"{RESOURCE}/?b=c", f"{RESOURCE}/caf%C3%A9/a%20b"],
    )
    def test_document_is_served_at_the_url_in_challenges(
        self, make_app: MakeApp, resource: str, m2m: CognitoM2M
    ) -> None:
        app = make_app(RESOURCE=resource)
        app.get("/items")(m2m.require_scopes()(view))
        challenge = challenge_of(app, "/items")
        url = metadata_url(resource)
        assert challenge == f'Bearer realm="shop", resource_metadata="{url}"'
        answer = app.test_client().get(url.removeprefix(RESOURCE))
        assert answer.status_code == 200
        assert answer.json["resource"] == resource

    def test_document_is_at_the_root_too_for_every_origin(self, make_app: MakeApp, m2m: CognitoM2M) -> None:
        app = make_app(RESOURCE=f"{RESOURCE}/stock")
        m2m.protect(app)
        answers = [app.test_client().get(path) for path in (WELL_KNOWN, metadata_path(f"{RESOURCE}/stock"))]
        assert [answer.json["resource"] for answer in answers] == [f"{RESOURCE}/stock"] * 2
        assert {answer.headers["Access-Control-Allow-Origin"] for answer in answers} == {"*"}

    @pytest.mark.parametrize("path", [WELL_KNOWN, f"{WELL_KNOWN}/stock"])
    def test_preflight_from_any_origin_is_allowed(
        self, make_app: MakeApp, m2m: CognitoM2M, path: str
    ) -> None:
        """Browsers send one before an MCP client's request, because of its header."""
        app = make_app(RESOURCE=f"{RESOURCE}/stock")
        m2m.protect(app)
        asked = {
            "Origin": "https://inspector.example.org",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "mcp-protocol-version",
        }
        answer = app.test_client().options(path, headers=asked)
        assert (answer.status_code, answer.data) == (204, b"")
        allowed = {name: value for name, value in answer.headers if name.startswith("Access-Control-")}
        assert allowed == {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": "GET",
            "Access-Control-Allow-Headers": "*",
            "Access-Control-Max-Age": "3600",
        }


class TestDocument:
    def test_document_names_the_resource_and_the_pool(self, app: Flask, pool: LocalUserPool) -> None:
        answer = app.test_client().get(WELL_KNOWN)
        assert answer.mimetype == "application/json"
        assert answer.headers["Cache-Control"] == "public, max-age=3600"
        assert answer.json == {
            "resource": RESOURCE,
            "authorization_servers": [pool.issuer],
            "bearer_methods_supported": ["header"],
            "scopes_supported": [],
        }
        assert pool.count() == 0

    def test_each_pool_is_an_authorization_server(self) -> None:
        app = Flask("shop")
        app.config["COGNITO_M2M_USER_POOL_ID"] = ["us-west-2_AbCdEfGhI", "cn-north-1_JkLmNoPqR"]
        app.config["COGNITO_M2M_ALLOWED_CLIENT_IDS"] = "*"
        app.config["COGNITO_M2M_RESOURCE"] = RESOURCE
        CognitoM2M(app)
        assert app.test_client().get(WELL_KNOWN).json["authorization_servers"] == [
            "https://cognito-idp.us-west-2.amazonaws.com/us-west-2_AbCdEfGhI",
            "https://cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_JkLmNoPqR",
        ]

    def test_scopes_are_those_of_all_guards(self, make_app: MakeApp, m2m: CognitoM2M) -> None:
        app = make_app(RESOURCE=RESOURCE, REQUIRED_SCOPES="of/all")
        app.get("/a")(m2m.require_scopes("a/one", "a/two", match="any")(view))
        by_method = {"GET": "b/get", "POST": ["b/post", "b/also"]}
        app.add_url_rule("/b", "b", m2m.require_scopes(by_method=by_method)(view), methods=["GET", "POST"])
        blueprint = Blueprint("inner", __name__)
        blueprint.get("/c")(view)
        m2m.protect(blueprint, "c/use")
        outer = Blueprint("outer", __name__)
        m2m.protect(outer, "outer/use")
        outer.register_blueprint(blueprint)
        app.register_blueprint(outer)
        assert app.test_client().get(WELL_KNOWN).json["scopes_supported"] == [
            "a/one", "a/two", "b/also", "b/get", "b/post", "c/use", "of/all", "outer/use",
        ]  # fmt: skip

    def test_scopes_of_unused_guards_are_not_listed(self, app: Flask, m2m: CognitoM2M) -> None:
        blueprint = Blueprint("open", __name__)
        blueprint.get("/a")(m2m.public(view))
        m2m.protect(blueprint, "a/use")
        app.register_blueprint(blueprint)
        app.get("/b")(m2m.optional_token(lambda: "b"))
        assert app.test_client().get(WELL_KNOWN).json["scopes_supported"] == []

    def test_extra_members_are_added_or_replace_others(self, make_app: MakeApp) -> None:
        more: dict[str, Any] = {"resource_name": "Stock", "scopes_supported": ["a/read"]}
        document = make_app(RESOURCE=RESOURCE, RESOURCE_METADATA=more).test_client().get(WELL_KNOWN).json
        assert (document["resource_name"], document["scopes_supported"]) == ("Stock", ["a/read"])
        assert document["resource"] == RESOURCE

    def test_without_the_setting_there_is_no_document(self, make_app: MakeApp, m2m: CognitoM2M) -> None:
        app = make_app()
        app.get("/a")(m2m.require_scopes()(view))
        assert app.test_client().get(WELL_KNOWN).status_code == 404
        assert challenge_of(app, "/a") == 'Bearer realm="shop"'

    def test_document_is_read_only(self, app: Flask) -> None:
        assert app.test_client().post(WELL_KNOWN).status_code == 405
        assert app.test_client().head(WELL_KNOWN).status_code == 200


class TestAccess:
    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({}, id="no token"),
            pytest.param({"Authorization": "Bearer bad"}, id="invalid token"),
            pytest.param({"Authorization": "Basic YTpi"}, id="another scheme"),
        ],
    )
    def test_document_is_public_under_protection(
        self, app: Flask, headers: dict[str, str], m2m: CognitoM2M
    ) -> None:
        m2m.protect(app, "all/use")
        answer = app.test_client().get(WELL_KNOWN, headers=headers)
        assert (answer.status_code, answer.json["scopes_supported"]) == (200, ["all/use"])

    def test_document_is_served_while_the_pool_is_down(
        self, app: Flask, pool: LocalUserPool, m2m: CognitoM2M
    ) -> None:
        m2m.protect(app)
        with pool.offline():
            assert app.test_client().get(WELL_KNOWN).status_code == 200


def test_each_challenge_names_the_document(app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
    app.get("/items")(m2m.require_scopes("items/read")(view))
    app.get("/billing")(m2m.require_scopes(clients=["billing"])(lambda: "billing"))
    m2m.protect(app)
    other, client = bearer("items/write"), app.test_client()
    answers = [
        client.get("/items"),
        client.get("/nowhere"),
        client.get("/items", headers={"Authorization": "Bearer"}),
        client.get("/items", headers={"Authorization": "Bearer bad"}),
        client.get("/items", headers=other),
        client.get("/billing", headers=other),
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 400, 401, 403, 403]
    member = f'resource_metadata="{RESOURCE}{WELL_KNOWN}"'
    assert {answer.headers["WWW-Authenticate"].count(member) for answer in answers} == {1}
