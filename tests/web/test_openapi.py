"""``m2m.openapi(document)`` adds what the guards require, and a real validator accepts the result."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import validate

from flask_m2m_cognito import CognitoM2M, ConfigurationError
from flask_m2m_cognito.testing import LocalUserPool
from tests.web.conftest import MakeApp
from tests.web.documents import (
    OK,
    RECEIVES_ONLY,
    SCHEME,
    copied,
    resolve,
    security_of,
    view,
)


def describe(app: Flask, paths: Any = None, token_url: str | None = None, **members: Any) -> dict[str, Any]:
    """Return a document of these operations, or of ``GET /a``, completed by the guards of ``app``."""
    info = {"title": "shop", "version": "1"}
    document = {"openapi": "3.0.3", "info": info, "paths": paths or {"/a": {"get": OK}}, **members}
    with app.app_context():
        made = app.extensions["cognito_m2m"].owner.openapi(document, token_url=token_url)
    return dict(made)


@pytest.fixture
def guarded_app(app: Flask, m2m: CognitoM2M) -> Flask:
    app.get("/a")(m2m.require_scopes("a/read")(view))
    return app


def test_required_scopes_of_the_settings_apply_too(make_app: MakeApp, m2m: CognitoM2M) -> None:
    app = make_app(REQUIRED_SCOPES=["all/a", "all/b"], SCOPE_MATCH="any")
    app.get("/a")(m2m.require_scopes("a/read")(view))
    document = describe(app)
    validate(document)
    assert security_of(document) == [{SCHEME: ["a/read", "all/a"]}, {SCHEME: ["a/read", "all/b"]}]
    flow = document["components"]["securitySchemes"][SCHEME]["flows"]["clientCredentials"]
    assert flow["scopes"].keys() == {"a/read", "all/a", "all/b"}


def test_superset_of_scopes_is_not_an_alternative(app: Flask, m2m: CognitoM2M) -> None:
    inner = m2m.require_scopes("a/read")(view)
    app.get("/a")(m2m.require_scopes("a/read", "a/admin", match="any")(inner))
    assert security_of(describe(app)) == [{SCHEME: ["a/read"]}]


def test_receive_only_service_keeps_its_scopes(
    make_app: MakeApp, m2m: CognitoM2M, pool: LocalUserPool
) -> None:
    app = make_app(**RECEIVES_ONLY)
    app.get("/a")(m2m.require_scopes("a/read", "a/admin", match="any")(view))
    document = describe(app)
    validate(document)
    assert document["components"]["securitySchemes"][SCHEME] == {
        "type": "openIdConnect",
        "openIdConnectUrl": f"{pool.issuer}/.well-known/openid-configuration",
    }
    assert security_of(document) == [{SCHEME: ["a/admin"]}, {SCHEME: ["a/read"]}]


def test_token_url_may_be_given(guarded_app: Flask) -> None:
    url = "https://auth.example.com/oauth2/token"
    document = describe(guarded_app, token_url=url)
    validate(document)
    scheme = document["components"]["securitySchemes"][SCHEME]
    assert scheme["flows"]["clientCredentials"] == {"tokenUrl": url, "scopes": {"a/read": "a/read"}}


def test_guarded_operation_has_the_answers_of_its_guard(guarded_app: Flask) -> None:
    own = {"description": "Not you."}
    operation = {"responses": {**OK["responses"], "403": own}}
    paths = {"/a": {"get": operation}, "/b": {"get": {**OK, "security": []}}}
    document = describe(guarded_app, paths)
    validate(document)
    responses = document["paths"]["/a"]["get"]["responses"]
    assert list(responses) == ["200", "403", "401", "503"]
    assert responses["403"] == own
    assert list(document["paths"]["/b"]["get"]["responses"]) == ["200"]
    unauthorized = resolve(document, responses["401"])
    assert list(unauthorized["headers"]) == ["WWW-Authenticate"]
    assert list(resolve(document, responses["503"])["headers"]) == ["Retry-After"]
    schema = resolve(document, unauthorized["content"]["application/problem+json"]["schema"])
    assert sorted(schema["required"]) == sorted(guarded_app.test_client().get("/a").get_json(force=True))


@pytest.mark.parametrize(
    ("rule", "path", "servers"),
    [
        pytest.param("/v1/a", "/a", ["https://api.example.com/v1"], id="relative to a server"),
        pytest.param("/v1/a", "/a", ["/v1/"], id="relative to a server's path"),
        pytest.param("/v2/a", "/a", ["/v1", "/v2"], id="relative to the second server"),
        pytest.param("/a", "/a", ["https://api.example.com/mounted"], id="a mounted application"),
        pytest.param("/v1/a", "/a", ["https://example.com/{version}"], id="a server with a variable"),
        pytest.param("/a/<int:number>", "/a/{id}", [], id="a parameter of another name"),
        pytest.param("/v1/<x>/a/<y>", "/{p}/a/{q}", ["/v1"], id="both"),
        pytest.param("/a/", "/a", [], id="without the trailing slash"),
        pytest.param("/a/<name>", "/a/{name}", [], id="no converter"),
        pytest.param("/a/<int:name>", "/a/{name}", [], id="converter"),
        pytest.param("/a/<string(length=2):name>", "/a/{name}", [], id="converter with an argument"),
        pytest.param("/a/<any(one, two):name>/b", "/a/{name}/b", [], id="converter with a list"),
        pytest.param("/a/<path:name>/", "/a/{name}/", [], id="path with a trailing slash"),
    ],
)
def test_operation_matches_its_route_by_path(
    app: Flask, m2m: CognitoM2M, rule: str, path: str, servers: list[str]
) -> None:
    app.add_url_rule(rule, "a", m2m.require_scopes("a/read")(view))
    urls = [{"url": url, "variables": {"version": {"default": "v1"}}} for url in servers]
    for item, more in (({"get": OK}, {"servers": urls}), ({"servers": urls, "get": OK}, {})):
        assert security_of(describe(app, {path: item}, **more), path) == [{SCHEME: ["a/read"]}]


@pytest.mark.parametrize(("path", "method"), [("/typo", "get"), ("/a", "delete"), ("/a/{id}", "get")])
def test_operation_without_a_route_is_an_error(guarded_app: Flask, path: str, method: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f": {method.upper()} {path}. ")):
        describe(guarded_app, {"/a": {"get": OK}, path: {method: OK}})


def test_ambiguous_operation_is_an_error(app: Flask, m2m: CognitoM2M) -> None:
    app.add_url_rule("/a/<int:number>", "number", m2m.require_scopes("a/read")(view))
    app.add_url_rule("/a/<name>", "name", copied(view))
    document = describe(app, {"/a/{number}": {"get": OK}, "/a/{name}": {"get": OK}})
    assert security_of(document, "/a/{number}") == [{SCHEME: ["a/read"]}]
    assert "security" not in document["paths"]["/a/{name}"]["get"]
    with pytest.raises(ConfigurationError, match=r"/a/<int:number>, /a/<name>"):
        describe(app, {"/a/{id}": {"get": OK}})


def test_other_parts_of_the_document_stay(guarded_app: Flask) -> None:
    other = {"basic": {"type": "http", "scheme": "basic"}}
    document = describe(
        guarded_app,
        {"/a": {"summary": "An a.", "get": OK}, "/elsewhere": {"get": {**OK, "security": []}}},
        components={"securitySchemes": other, "schemas": {"Item": {"type": "object"}}},
        security=[{"basic": []}],
    )
    validate(document)
    assert document["components"]["schemas"]["Item"] == {"type": "object"}
    assert document["components"]["securitySchemes"]["basic"] == other["basic"]
    assert document["security"] == [{"basic": []}]
    assert security_of(document) == [{SCHEME: ["a/read"]}]
    assert document["paths"]["/elsewhere"]["get"] == {**OK, "security": []}
    assert list(OK["responses"]) == ["200"]  # the shared dict is not changed
    assert document["paths"]["/a"]["summary"] == "An a."


def test_second_call_changes_nothing(app: Flask, m2m: CognitoM2M) -> None:
    app.get("/a")(m2m.optional_token(view))
    once = describe(app)
    assert m2m.openapi(once, app) == once


def test_uninitialised_application_is_an_error(m2m: CognitoM2M) -> None:
    with pytest.raises(RuntimeError):
        m2m.openapi({"paths": {}}, Flask("other"))


@pytest.mark.parametrize(
    "document",
    [{"swagger": "1.2", "paths": {"/a": {"get": OK}}}, [], None],
    ids=["Swagger 1", "a list", "nothing"],
)
def test_unsupported_documents_are_errors(app: Flask, m2m: CognitoM2M, document: Any) -> None:
    with pytest.raises(ConfigurationError, match="OpenAPI 3"):
        m2m.openapi(document, app)


def test_empty_parts_of_a_document_are_accepted(guarded_app: Flask, m2m: CognitoM2M) -> None:
    document = describe(guarded_app, {"/a": None}, components=None)
    assert list(document["components"]["securitySchemes"]) == [SCHEME]
    assert m2m.openapi({"openapi": "3.1.0", "paths": None}, guarded_app)["paths"] is None
