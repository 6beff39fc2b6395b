"""Answers to rejected requests through the adapters that run a WSGI application on AWS Lambda."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_m2m_cognito import CognitoM2M
from tests.web.conftest import Bearer

pytestmark = pytest.mark.usefixtures("current_event_loop")

Handler = Callable[[dict[str, Any]], dict[str, Any]]

PROBLEM = "application/problem+json"
# What a REST API sends to Lambda: payload format 1.0.
EVENT: dict[str, Any] = {
    "resource": "/items",
    "path": "/items",
    "httpMethod": "GET",
    "headers": {"Host": "shop.example.com"},
    "multiValueHeaders": {"Host": ["shop.example.com"]},
    "queryStringParameters": None,
    "multiValueQueryStringParameters": None,
    "requestContext": {"resourcePath": "/items", "stage": "live", "identity": {"sourceIp": "192.0.2.1"}},
    "body": None,
    "isBase64Encoded": False,
}


def mangum(app: Flask, is_configured: bool) -> Handler:
    from a2wsgi import WSGIMiddleware
    from mangum import Mangum
    from mangum.adapter import DEFAULT_TEXT_MIME_TYPES

    types = [*DEFAULT_TEXT_MIME_TYPES, PROBLEM] if is_configured else None
    handler = Mangum(WSGIMiddleware(app), lifespan="off", text_mime_types=types)  # type: ignore[arg-type]
    return lambda event: dict(handler(event, object()))  # type: ignore[arg-type]


def serverless_wsgi(app: Flask, is_configured: bool) -> Handler:
    import serverless_wsgi

    def handle(event: dict[str, Any]) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patched:
            types = [each for each in serverless_wsgi.TEXT_MIME_TYPES if each != PROBLEM]
            patched.setattr(serverless_wsgi, "TEXT_MIME_TYPES", [*types, PROBLEM] if is_configured else types)
            answer: dict[str, Any] = serverless_wsgi.handle_request(app, event, object())
            return answer

    return handle


def apig_wsgi(app: Flask, is_configured: bool) -> Handler:
    from apig_wsgi import make_lambda_handler

    handler = make_lambda_handler(app, binary_support=True)
    return lambda event: dict(handler(event, {}))


def aws_wsgi(app: Flask, is_configured: bool) -> Handler:
    import awsgi

    return lambda event: dict(awsgi.response(app, event, {}))


Adapter = Callable[[Flask, bool], Handler]
NEED_CONFIGURATION: list[Adapter] = [mangum, serverless_wsgi]
ADAPTERS: list[Adapter] = [*NEED_CONFIGURATION, apig_wsgi, aws_wsgi]


@pytest.fixture
def app(app: Flask, m2m: CognitoM2M) -> Flask:
    m2m.protect(app)
    app.get("/items")(lambda: {"reached": True})
    return app


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapter_sends_a_problem_as_text(app: Flask, adapter: Adapter) -> None:
    answer = adapter(app, True)(EVENT)
    assert (int(answer["statusCode"]), answer.get("isBase64Encoded", False)) == (401, False)
    assert json.loads(answer["body"])["reason"] == "missing_token"


@pytest.mark.parametrize("adapter", NEED_CONFIGURATION)
def test_unconfigured_adapter_sends_base64(app: Flask, adapter: Adapter) -> None:
    answer = adapter(app, False)(EVENT)
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (401, True)
    assert json.loads(base64.b64decode(answer["body"]))["reason"] == "missing_token"


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_token_reaches_the_guard_through_an_adapter(app: Flask, adapter: Adapter, bearer: Bearer) -> None:
    headers = bearer()
    event = {
        **EVENT,
        "headers": {**EVENT["headers"], **headers},
        "multiValueHeaders": {**EVENT["multiValueHeaders"], "Authorization": [*headers.values()]},
    }
    answer = adapter(app, True)(event)
    assert (int(answer["statusCode"]), json.loads(answer["body"])) == (200, {"reached": True})
