"""The arguments of a decorator are checked when it runs, and are plain data afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.views import MethodView

from flask_m2m_cognito import CognitoM2M, ConfigurationError, require_scopes
from flask_m2m_cognito.web.requirement import Requirement, requirements_of


def view() -> str:
    """A view."""
    return "reached"


@pytest.mark.parametrize(
    "decorator",
    [pytest.param(require_scopes, id="module level"), pytest.param(CognitoM2M().require_scopes, id="object")],
)
class TestMistakes:
    @pytest.mark.parametrize(
        ("scopes", "named"),
        [
            pytest.param([], {"match": "some"}, id="an unknown match"),
            pytest.param(["a"], {"match": ["all"]}, id="a match that is a list"),
            pytest.param(["a"], {"match": None}, id="no match"),
            pytest.param([""], {}, id="an empty scope"),
            pytest.param([" "], {}, id="a space"),
            pytest.param(["a b"], {}, id="two scopes in one text"),
            pytest.param(["a\tb"], {}, id="a tab"),
            pytest.param(['a"b'], {}, id="a quote"),
            pytest.param(["a\\b"], {}, id="a backslash"),
            pytest.param(["a,b"], {}, id="a comma"),
            pytest.param([], {"by_method": {"GET": ["a", "b,c"]}}, id="by_method with a comma in a scope"),
            pytest.param(["é"], {}, id="a letter that is not ASCII"),
            pytest.param([7], {}, id="a number"),
            pytest.param([None], {}, id="None"),
            pytest.param([b"a"], {}, id="bytes"),
            pytest.param([["a", "b"]], {}, id="a list among the scopes"),
            pytest.param([{"a"}], {}, id="a set among the scopes"),
            pytest.param(["a", ("b",)], {}, id="a tuple after a scope"),
            pytest.param(["a"], {"clients": "billing"}, id="clients as one text"),
            pytest.param(["a"], {"clients": b"billing"}, id="clients as bytes"),
            pytest.param(["a"], {"clients": []}, id="no client"),
            pytest.param(["a"], {"clients": [""]}, id="an empty client"),
            pytest.param(["a"], {"clients": [None]}, id="None as a client"),
            pytest.param(["a"], {"clients": 7}, id="clients as a number"),
            pytest.param(["a"], {"clients": [["a"]]}, id="clients as a list in a list"),
            pytest.param(["a"], {"by_method": {"GET": "b"}}, id="scopes and by_method"),
            pytest.param([], {"by_method": {}}, id="by_method without a method"),
            pytest.param([], {"by_method": ["GET"]}, id="by_method as a list"),
            pytest.param([], {"by_method": "GET"}, id="by_method as text"),
            pytest.param([], {"by_method": {"GET": "a b"}}, id="by_method with two scopes in one text"),
            pytest.param([], {"by_method": {"GET": None}}, id="by_method with None for scopes"),
            pytest.param([], {"by_method": {"GET": [["a"]]}}, id="by_method with a list in a list"),
            pytest.param([], {"by_method": {"GET,POST": "a"}}, id="by_method with a comma in a method"),
            pytest.param([], {"by_method": {"": "a"}}, id="by_method with an empty method"),
            pytest.param([], {"by_method": {7: "a"}}, id="by_method with a number for a method"),
            pytest.param([], {"by_method": {"GET POST": "a"}}, id="by_method with two methods in one"),
            pytest.param([], {"by_method": {"GET": "a", "get": "b"}}, id="by_method with a method twice"),
        ],
    )
    def test_invalid_arguments_are_value_errors_at_once(
        self, decorator: Callable[..., Any], scopes: list[Any], named: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigurationError) as raised:
            decorator(*scopes, **named)
        assert isinstance(raised.value, ValueError)

    @pytest.mark.parametrize("decorated", [view, type("Items", (MethodView,), {})])
    def test_missing_parentheses_are_an_error(self, decorator: Callable[..., Any], decorated: Any) -> None:
        with pytest.raises(ConfigurationError, match="parentheses"):
            decorator(decorated)

    def test_decorated_class_is_an_error_with_advice(self, decorator: Callable[..., Any]) -> None:
        with pytest.raises(ConfigurationError, match=r"Items.*decorators"):
            decorator("a")(type("Items", (MethodView,), {}))


class TestRequirements:
    @pytest.mark.parametrize(
        ("scopes", "named", "requirement"),
        [
            pytest.param([], {}, Requirement(), id="no scopes: any valid token"),
            pytest.param(["a", "b"], {}, Requirement(frozenset("ab")), id="scopes"),
            pytest.param(["a", "b"], {"match": "any"}, Requirement(frozenset("ab"), "any"), id="any"),
            pytest.param(
                [],
                {"by_method": {"M-SEARCH": "a"}},
                Requirement(by_method={"M-SEARCH": frozenset("a")}),
                id="by_method with any method of RFC 9110",
            ),
            pytest.param([], {"clients": ["x", "y"]}, Requirement(clients=frozenset("xy")), id="clients"),
            pytest.param([], {"clients": {"x"}}, Requirement(clients=frozenset("x")), id="clients as a set"),
            pytest.param(
                [],
                {"by_method": {"get": "a", "Post": ["a", "b"], "DELETE": []}},
                Requirement(
                    by_method={"GET": frozenset("a"), "POST": frozenset("ab"), "DELETE": frozenset()}
                ),
                id="by_method, as text, list and any valid token, in any case",
            ),
        ],
    )
    def test_requirements_are_data_on_the_view(
        self, scopes: list[str], named: dict[str, Any], requirement: Requirement
    ) -> None:
        assert requirements_of(require_scopes(*scopes, **named)(view)) == (requirement,)

    def test_stacked_requirements_are_listed_outermost_first(self) -> None:
        stacked = require_scopes("a")(require_scopes("b", clients=["x"])(view))
        assert requirements_of(stacked) == (
            Requirement(frozenset("a")),
            Requirement(frozenset("b"), clients=frozenset("x")),
        )

    def test_unguarded_view_has_no_requirements(self) -> None:
        assert requirements_of(view) == ()

    def test_guarded_view_keeps_its_name_and_leaves_the_original(self) -> None:
        guarded = require_scopes("a")(view)
        assert (guarded.__name__, guarded.__doc__, guarded.__wrapped__) == ("view", "A view.", view)
        assert view() == "reached"

    @pytest.mark.parametrize(
        ("by_method", "method", "scopes"),
        [
            pytest.param(
                {"GET": "read"}, "get", {"read"}, id="a method in lower case, as werkzeug routes it"
            ),
            pytest.param({"DELETE": []}, "DELETE", set(), id="a method without scopes"),
            pytest.param({"GET": "read"}, "HEAD", {"read"}, id="HEAD is covered by GET"),
            pytest.param({"GET": "read", "HEAD": "peek"}, "HEAD", {"peek"}, id="HEAD has its own entry"),
            pytest.param({"HEAD": "peek"}, "GET", None, id="GET is not covered by HEAD"),
            pytest.param({"GET": "read"}, "OPTIONS", None, id="OPTIONS is not covered by GET"),
            pytest.param({"GET": "read"}, "", None, id="empty"),
            pytest.param(None, "BREW", set(), id="without by_method: every method"),
        ],
    )
    def test_scopes_for_a_method(self, by_method: Any, method: str, scopes: set[str] | None) -> None:
        (requirement,) = requirements_of(require_scopes(by_method=by_method)(view))
        assert requirement.scopes_for(method) == scopes
