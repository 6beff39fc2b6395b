"""A caller with a valid token of the wrong kind: signed by the pool, not expired, but not for this view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Blueprint

from tests.attacks.forging import valid_token
from tests.attacks.stage import METHODS, SCOPE, Scene, Service, bearer, cold_service, valid_header

Token = Callable[[Scene], str]

AUDIENCE = "https://orders.example"


class Shop(Service):
    """A service with a view for each kind of requirement."""

    def _add_views(self) -> None:
        require = self.m2m.require_scopes
        for path, guard in {
            "/orders": require(SCOPE),
            "/both": require(SCOPE, "orders/write"),
            "/any": require("orders/write", "orders/admin", match="any"),
            "/reports": require(SCOPE, clients=["reports"]),
            "/mapped": require(by_method={"GET": SCOPE, "POST": [SCOPE, "orders/write"]}),
            "/posted": require(by_method={"POST": SCOPE}),
        }.items():
            self.app.add_url_rule(path, path, guard(self._view), methods=(*METHODS, "PROPFIND"))
        options = require(by_method={"GET": SCOPE})(self._view)
        self.app.add_url_rule("/own-options", "own-options", options, methods=("GET", "OPTIONS"))
        self._add_blueprint()

    def _add_blueprint(self) -> None:
        blueprint, inner = Blueprint("admin", __name__), Blueprint("inner", __name__)
        blueprint.add_url_rule("/secret", "secret", self._view)
        blueprint.add_url_rule("/open", "open", self.m2m.public(lambda: "open"))
        blueprint.add_url_rule("/named", "named", lambda: "named")
        inner.add_url_rule("/secret", "secret", self._view)
        blueprint.register_blueprint(inner, url_prefix="/inner")
        self.m2m.protect(blueprint, "admin/all", public=["named"])
        self.app.register_blueprint(blueprint, url_prefix="/admin")


@dataclass(frozen=True)
class Case:
    """A request with a valid token, and the expected answer."""

    name: str
    source: str
    status: int
    reason: str
    token: Token
    path: str = "/orders"
    method: str = "GET"

    def __str__(self) -> str:
        return self.name


def _claims(**changed: Any) -> Token:
    return lambda scene: valid_token(scene, **changed)


def _plain(scene: Scene) -> str:
    return valid_token(scene)


_SCOPES = "RFC 6749, 3.3: case-sensitive, separated by U+0020 alone"


def _scope(name: str, scope: Any, source: str = _SCOPES) -> Case:
    return Case(f"scope {name}", source, 403, "insufficient_scope", _claims(scope=scope))


KINDS = [
    Case("an ID token", "RFC 8725, 2.8 and 3.12; aws-jwt-verify: id token, access token expected", 401,
         "wrong_token_use", lambda scene: scene.pool.id_token("shop", scope=SCOPE)),
    Case("an ID token with a client_id", "RFC 8725, 3.12", 401, "wrong_token_use",
         lambda scene: scene.pool.sign({**scene.claims(), "token_use": "id", "aud": "shop"})),
    Case("a user access token", "Cognito: same keys, same token_use", 401, "user_token",
         lambda scene: scene.pool.user_token(SCOPE, "shop")),
    Case("a user access token whose sub is the client", "Cognito", 401, "user_token",
         lambda scene: scene.pool.user_token(SCOPE, "shop", sub="shop")),
    Case("a user access token without a username", "Cognito", 401, "user_token",
         lambda scene: scene.pool.user_token(SCOPE, "shop", without=["username"])),
    Case("another client's token", "RFC 8725, 2.8", 403, "client_not_allowed",
         lambda scene: scene.pool.token(SCOPE, "reports")),
    Case("a client with the same prefix", "RFC 8725, 2.8", 403, "client_not_allowed",
         _claims(client_id="shop2", sub="shop2")),
    Case("a client in other case", "RFC 8725, 2.8", 403, "client_not_allowed",
         _claims(client_id="Shop", sub="Shop")),
    Case("a client with a homoglyph", "UTS 39", 403, "client_not_allowed",
         _claims(client_id="sh\u043ep", sub="sh\u043ep")),
    Case("a client that is a star", "CWE-155", 403, "client_not_allowed",
         _claims(client_id="*", sub="*")),
    Case("a client that the view does not allow", "RFC 8725, 2.8", 403, "client_not_allowed", _plain,
         "/reports"),
    Case("one of two scopes", _SCOPES, 403, "insufficient_scope", _plain, "/both"),
    Case("none of several scopes", _SCOPES, 403, "insufficient_scope", _plain, "/any"),
    Case("a scope for another blueprint", _SCOPES, 403, "insufficient_scope", _plain, "/admin/secret"),
    Case("a scope for another blueprint, in a nested one", _SCOPES, 403, "insufficient_scope", _plain,
         "/admin/inner/secret"),
]  # fmt: skip

SCOPES = [
    _scope("absent", ...),
    _scope("null", None),
    _scope("of another kind", "orders/write"),
    _scope("in upper case", "ORDERS/READ"),
    _scope("with one letter more", "orders/reads"),
    _scope("that is a prefix", "orders"),
    _scope("with a suffix", "orders/read/all"),
    _scope("with a backslash", "orders\\read"),
    _scope("that is a star", "*", "CWE-155"),
    _scope("with a star", "orders/*", "CWE-155"),
    _scope("with a trailing comma", "orders/read,"),
    _scope("with a trailing newline", "orders/read\n", "CWE-93; re's $ matches before it"),
    _scope("in a list that is text", '["orders/read"]'),
    _scope("in full-width letters", "\uff4frders/read", "UAX 15: NFKC"),
    _scope("with a zero-width space", "orders/read\u200b", "UTS 39"),
    *(
        _scope(f"after {name}", f"x{separator}orders/read")
        for name, separator in (
            ("a tab", "\t"), ("a newline", "\n"),
            ("a no-break space", "\xa0"), 
            
            ("a comma", ","), 
            ("NUL", "\0"),
        )
    ),
    Case("scopes under scp", "RFC 9068, 2.2.3: the claim is scope", 403, "insufficient_scope",
         _claims(scope=..., scp=[SCOPE])),
    Case("scopes under scopes", "RFC 9068, 2.2.3", 403, "insufficient_scope",
         _claims(scope=..., scopes=SCOPE)),
    Case("scopes under Scope", "RFC 7519, 4: names are case-sensitive", 403, "insufficient_scope",
         _claims(scope=..., Scope=SCOPE)),
    Case("scopes as groups", "Cognito: cognito:groups", 403, "insufficient_scope",
         _claims(scope=..., **{"cognito:groups": [SCOPE]})),
]  # fmt: skip

METHOD_CASES = [
    *(
        Case(f"{method}, which is not in the map", "RFC 9110, 9", 403, "method_not_allowed", _plain, path,
             method)
        for path, method in (
            ("/mapped", "PUT"), ("/mapped", "PATCH"), ("/mapped", "DELETE"), ("/mapped", "PROPFIND"),
            ("/own-options", "OPTIONS"),
        )
    ),
    Case("GET where the map has only POST", "RFC 9110, 9", 403, "method_not_allowed", _plain, "/posted"),
    Case("HEAD where the map has only POST", "RFC 9110, 9.3.2", 403, "method_not_allowed", _plain,
         "/posted", "HEAD"),
    Case("POST with the scopes of GET", "RFC 9110, 9", 403, "insufficient_scope", _plain, "/mapped", "POST"),
    Case("HEAD without the scopes of GET", "RFC 9110, 9.3.2: HEAD is GET", 403, "insufficient_scope",
         _claims(scope="orders/write"), "/mapped", "HEAD"),
    Case("HEAD without the view's scopes", "RFC 9110, 9.3.2", 403, "insufficient_scope",
         _claims(scope="x"), "/orders", "HEAD"),
    Case("a method in lower case", "RFC 9110, 9.1: case-sensitive", 403, "method_not_allowed", _plain,
         "/mapped", "put"),
]  # fmt: skip

CASES = [*KINDS, *SCOPES, *METHOD_CASES]


@pytest.fixture(scope="module")
def shop(scene: Scene) -> Shop:
    return Shop(scene)


@pytest.fixture(scope="module")
def cold_shop(scene: Scene) -> Service:
    return Shop(scene, JWKS_URL=scene.nowhere.jwks_url)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_warm_service_rejects_it(case: Case, scene: Scene, shop: Shop) -> None:
    assert shop.send(valid_header(scene)).ran
    header = bearer(case.token(scene))
    requests = scene.requests

    for _ in ("new", "remembered"):
        reply = shop.send(header, case.path, case.method)
        assert reply.status == case.status
        assert reply.reason == (None if case.method == "HEAD" else case.reason)
        assert not reply.ran
        if case.reason == "insufficient_scope":
            assert 'error="insufficient_scope"' in reply.headers["WWW-Authenticate"]
    assert shop.send(valid_header(scene)).ran
    assert scene.requests == requests


@pytest.mark.parametrize("case", CASES, ids=str)
def test_service_without_keys_answers_503(case: Case, scene: Scene, cold_shop: Shop) -> None:
    reply = cold_shop.send(bearer(case.token(scene)), case.path, case.method)

    assert (reply.status, reply.ran) == (503, False)


def _audience(name: str, aud: Any) -> Case:
    return Case(f"audience {name}", "RFC 8725, 3.9; RFC 7519, 4.1.3; aws-jwt-verify: aud", 401,
                "wrong_audience", _claims(aud=aud))  # fmt: skip


AUDIENCES = [
    _audience("absent", ...),
    _audience("null", None),
    _audience("an empty list", []),
    _audience("of another service", "https://stock.example"),
    _audience("with the same prefix", AUDIENCE + ".attacker.example"),
    _audience("in upper case", AUDIENCE.upper()),
    _audience("two in one text", f"{AUDIENCE} https://stock.example"),
    _audience("in a list in a list", [[AUDIENCE]]),
    _audience("a list of numbers", [7, None, {}, []]),
]


@pytest.fixture(scope="module")
def with_audience(scene: Scene) -> Service:
    service = Service(scene, AUDIENCE=AUDIENCE)
    assert service.send(bearer(_claims(aud=["x", AUDIENCE])(scene))).ran
    return service


@pytest.mark.parametrize("case", AUDIENCES, ids=str)
def test_wrong_audience_is_rejected(case: Case, scene: Scene, with_audience: Service) -> None:
    reply = with_audience.send(bearer(case.token(scene)))

    assert (reply.status, reply.reason, reply.ran, reply.requests) == (401, "wrong_audience", False, 0)


async def _later(subject: object) -> bool:
    return True


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    "check", [lambda subject: _later(subject), lambda subject: None], ids=["a coroutine", "nothing"]
)
@pytest.mark.parametrize(
    ("setting", "reason"),
    [("ALLOWED_CLIENT_IDS", "client_not_allowed"), ("TOKEN_CHECK", "rejected_by_check")],
)
def test_check_without_a_true_result_rejects(setting: str, reason: str, check: Any, scene: Scene) -> None:
    """aws-jwt-verify: custom JWT check that returns a promise."""
    reply = Service(scene, **{setting: check}).send(valid_header(scene))

    assert (reply.status, reply.reason, reply.ran) == (403, reason, False)


def test_options_handled_by_a_view_is_guarded(scene: Scene, shop: Shop) -> None:
    reply = shop.send(None, "/own-options", method="OPTIONS")

    assert (reply.status, reply.reason, reply.ran) == (401, "missing_token", False)


@pytest.mark.parametrize(
    "header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method"]
)
def test_method_override_header_is_ignored(header: str, scene: Scene, shop: Shop) -> None:
    """CWE-650: an override by a proxy or a framework must not choose the scopes."""
    reply = shop.send(valid_header(scene), "/mapped", "PUT", headers={header: "GET"})

    assert (reply.status, reply.reason, reply.ran) == (403, "method_not_allowed", False)


@pytest.mark.parametrize("path", ["/admin/open", "/admin/named"])
def test_public_views_of_a_blueprint_are_open(path: str, shop: Shop) -> None:
    assert shop.send(None, path).status == 200
    assert shop.send("Bearer nonsense", path).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/admin/secret",
        "/admin/inner/secret",
        "/admin/open/../secret",
        "/admin/open/..%2fsecret",
        "/admin/./secret",
        "/admin//secret",
        "//admin/secret",
        "/admin/secret/",
        "/admin/secret?endpoint=admin.open",
        "/admin/secret#/admin/open",
        "/admin/secret;/admin/open",
        "/ADMIN/secret",
        "/admin/%73ecret",
        "/admin/secret%00",
        "/admin\\secret",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "get"])
def test_no_path_spelling_bypasses_a_blueprints_guard(path: str, method: str, shop: Shop) -> None:
    """CWE-22, CWE-289, CWE-647."""
    reply = shop.send(None, path, method)

    assert not reply.ran
    assert reply.status in (308, 401, 404, 405)


def test_right_kind_of_token_is_accepted_everywhere(scene: Scene, shop: Shop) -> None:
    """The rejections above are due to what is wrong with each token."""
    header = bearer(_claims(scope="orders/read orders/write admin/all")(scene))
    for path, method in (
        ("/orders", "GET"), ("/orders", "HEAD"), ("/both", "GET"), ("/any", "GET"), ("/mapped", "POST"),
        ("/mapped", "get"), ("/posted", "POST"), ("/admin/secret", "GET"), ("/admin/inner/secret", "GET"),
    ):  # fmt: skip
        assert shop.send(header, path, method).ran, (path, method)
    assert shop.send(bearer(scene.pool.token(SCOPE, "reports")), "/reports").status == 403
    assert not cold_service(scene).send(header).ran
