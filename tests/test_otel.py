"""OpenTelemetry's metrics, as a reader receives them."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_m2m_cognito import CognitoM2M, __version__
from flask_m2m_cognito.otel import instrument
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.support.telemetry import Telemetry, ask, instrumented


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.end()


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool(clients={"orders": None, "billing": None}) as pool:
        yield pool


@pytest.fixture
def m2m() -> CognitoM2M:
    return CognitoM2M()


@pytest.fixture
def app(pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry) -> Flask:
    return instrumented(pool, m2m, telemetry)


class TestRequests:
    def test_requests_are_counted_by_outcome_and_reason(
        self, app: Flask, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        valid = pool.token("items/read")
        tokens = [valid, valid, None, None, pool.token("items/write"), "bad", pool.token(expires_in=-60)]
        assert [ask(app, token) for token in tokens] == [200, 200, 401, 401, 403, 401, 401]
        counts = telemetry.counts("cognito_m2m.requests")
        rejected = {
            (of["error.type"], of["http.response.status_code"]): value
            for of, value in counts
            if of["cognito_m2m.outcome"] == "rejected"
        }
        accepted = {
            of["cognito_m2m.check"]: value for of, value in counts if of["cognito_m2m.outcome"] == "accepted"
        }
        assert accepted == {"signature": 1, "memory": 1}
        assert rejected == {
            ("missing_token", 401): 2,
            ("insufficient_scope", 403): 1,
            ("malformed", 401): 1,
            ("expired", 401): 1,
        }

    @pytest.mark.parametrize("opted_in", [False, True])
    def test_client_id_is_an_attribute_only_if_enabled(
        self, pool: LocalUserPool, telemetry: Telemetry, opted_in: bool
    ) -> None:
        app = Flask("shop")
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
        m2m = CognitoM2M(app)
        instrument(app, meter_provider=telemetry.meters, client_ids=opted_in)
        app.get("/items")(m2m.require_scopes("items/read")(lambda: "reached"))
        tokens = [
            pool.token("items/read", "billing"),
            pool.token("items/write", "reports"),
            pool.token("items/read", "forger")[:-9] + "AAAAAAAAA",
        ]
        assert [ask(app, token) for token in tokens] == [200, 403, 401]
        named = {
            (of["cognito_m2m.outcome"], of.get("error.type"), of.get("cognito_m2m.client_id"))
            for of, _ in telemetry.counts("cognito_m2m.requests")
        }
        assert named == {
            ("accepted", None, "billing" if opted_in else None),
            ("rejected", "insufficient_scope", "reports" if opted_in else None),
            ("rejected", "bad_signature", None),
        }

    def test_check_is_memory_for_a_known_token_in_an_outage(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        with MovedClock() as clock:
            app, token = instrumented(pool, m2m, telemetry), pool.token("items/read", expires_in=86400)
            assert ask(app, token) == 200
            pool.fail("jwks", status=500)
            clock.move(2 * 3600)
            assert ask(app, token) == 200
        assert {of["cognito_m2m.check"]: value for of, value in telemetry.counts("cognito_m2m.requests")} == {
            "signature": 1,
            "memory": 1,
        }

    def test_another_application_is_not_counted(
        self, app: Flask, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        other = Flask("other")
        other.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
        m2m.init_app(other)
        other.get("/items")(m2m.require_scopes()(lambda: "reached"))
        assert ask(other, pool.token()) == 200
        assert ask(other) == 401
        assert telemetry.counts("cognito_m2m.requests") == []


class TestRefreshes:
    def test_duration_is_recorded_for_keys_and_tokens(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        m2m.warm_up([None, {"client": "billing"}], required=True)
        recorded = {
            tuple(sorted(point.attributes.items())): point.count
            for point in telemetry.points("cognito_m2m.refresh.duration")
        }
        source = ("cognito_m2m.source", "network")
        assert recorded == {
            (("cognito_m2m.pool_id", pool.pool_id), source, ("cognito_m2m.value", "keys")): 1,
            (
                ("cognito_m2m.client", "default"),
                ("cognito_m2m.client_id", "orders"),
                source,
                ("cognito_m2m.value", "token"),
            ): 1,
            (
                ("cognito_m2m.client", "billing"),
                ("cognito_m2m.client_id", "billing"),
                source,
                ("cognito_m2m.value", "token"),
            ): 1,
        }

    @pytest.mark.parametrize(
        ("cache", "outcome"),
        [
            ({"CACHE_TYPE": "FileSystemCache"}, ("cognito_m2m.source", "store")),
            (
                {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": "redis://127.0.0.1:1/0"},
                ("error.type", "StoreDown"),
            ),
        ],
        ids=["read", "failed"],
    )
    def test_duration_is_recorded_for_the_list_of_revocations(
        self,
        pool: LocalUserPool,
        m2m: CognitoM2M,
        telemetry: Telemetry,
        tmp_path: Path,
        cache: dict[str, str],
        outcome: tuple[str, str],
    ) -> None:
        app = Flask("shop")
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", REVOCATIONS=True, CACHE_KEY="k" * 16))
        app.config.update(CACHE_DIR=str(tmp_path), **cache)
        telemetry.instrument(app)
        m2m.init_app(app)
        m2m.warm_up()
        points = telemetry.points("cognito_m2m.refresh.duration")
        (point,) = (each for each in points if each.attributes["cognito_m2m.value"] == "revocations")
        assert (point.attributes, point.count) == (dict([("cognito_m2m.value", "revocations"), outcome]), 1)

    def test_error_without_a_code_has_the_name_of_its_class(
        self, app: Flask, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        with pool.fail("jwks", status=500):
            assert ask(app, pool.token()) == 503
        (point,) = telemetry.points("cognito_m2m.refresh.duration")
        assert point.attributes["error.type"].isidentifier()
        assert (point.attributes["cognito_m2m.value"], point.count) == ("keys", 1)

    def test_buckets_fit_durations_in_seconds(
        self, m2m: CognitoM2M, app: Flask, telemetry: Telemetry
    ) -> None:
        m2m.token()
        (point,) = telemetry.points("cognito_m2m.refresh.duration")
        assert len([bound for bound in point.explicit_bounds if 0.005 <= bound <= 10]) >= 10


class TestGauges:
    def test_token_requests_are_counted_by_client(
        self, app: Flask, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        m2m.token()
        m2m.token("b/read")
        m2m.token("b/read")
        assert telemetry.counts("cognito_m2m.token_requests") == [
            ({"cognito_m2m.client": "default"}, 2),
            ({"cognito_m2m.client": "billing"}, 0),
        ]

    def test_ages_are_those_of_cached_keys_and_tokens(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        assert telemetry.counts("cognito_m2m.age") == []
        m2m.warm_up([None], required=True)
        (keys, keys_age), (token, token_age) = telemetry.counts("cognito_m2m.age")
        assert keys == {"cognito_m2m.value": "keys", "cognito_m2m.pool_id": pool.pool_id}
        assert token == {
            "cognito_m2m.value": "token",
            "cognito_m2m.client": "default",
            "cognito_m2m.client_id": "orders",
            "cognito_m2m.scopes": "a/read",
        }
        assert 0 <= keys_age < 60
        assert 0 <= token_age < 60

    def test_remaining_time_is_that_of_cached_values(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        assert telemetry.counts("cognito_m2m.remaining") == []
        m2m.warm_up([None], required=True)
        left = {of["cognito_m2m.value"]: value for of, value in telemetry.counts("cognito_m2m.remaining")}
        assert 86000 < left["keys"] <= 86400
        assert 3000 < left["token"] < 3600

    def test_ready_is_0_until_all_applications_are_ready(
        self, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        apps = [instrumented(pool, CognitoM2M(), telemetry) for _ in range(2)]
        seen = [telemetry.counts("cognito_m2m.ready")]
        for app in apps:
            app.extensions["cognito_m2m"].warm_up(required=True)
            seen.append(telemetry.counts("cognito_m2m.ready"))
        assert seen == [[({}, 0)], [({}, 0)], [({}, 1)]]

    def test_cache_is_up_until_it_fails(
        self, pool: LocalUserPool, telemetry: Telemetry, tmp_path: Path
    ) -> None:
        taken = tmp_path / "taken"
        taken.write_text("a file, where a directory is needed")
        seen = []
        for directory in (tmp_path / "cache", taken):
            app = Flask("shop")
            app.config.update(CACHE_TYPE="FileSystemCache", CACHE_DIR=str(directory))
            app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", CACHE_KEY="k" * 16))
            m2m = CognitoM2M(app)
            telemetry.instrument(app)
            telemetry.apps.append(app)
            m2m.warm_up()
            seen.append(telemetry.counts("cognito_m2m.cache.up"))
        assert seen == [[({}, 1)], [({}, 0)]]

    def test_clock_offset_is_the_largest_of_all_applications(
        self, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        apps = [instrumented(pool, CognitoM2M(), telemetry) for _ in range(2)]
        assert telemetry.counts("cognito_m2m.clock_offset") == []
        apps[0].extensions["cognito_m2m"].warm_up(required=True)
        with pool.fail("jwks", status=500, headers={"Date": "Mon, 01 Jan 2001 00:00:00 GMT"}):
            apps[1].extensions["cognito_m2m"].warm_up()
        ((_, offset),) = telemetry.counts("cognito_m2m.clock_offset")
        assert offset < -20 * 365 * 86400

    def test_applications_of_one_process_are_counted_together(
        self, pool: LocalUserPool, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
    ) -> None:
        with MovedClock() as clock:
            apps = [instrumented(pool, CognitoM2M(), telemetry) for _ in range(2)]
            for app in apps:
                app.extensions["cognito_m2m"].token()
                clock.move(10)
        apps[1].extensions["cognito_m2m"].token(client="billing")
        counts = telemetry.counts("cognito_m2m.token_requests")
        assert sorted((of["cognito_m2m.client"], count) for of, count in counts) == [
            ("billing", 1),
            ("default", 2),
        ]
        ages = {of["cognito_m2m.client"]: age for of, age in telemetry.counts("cognito_m2m.age")}
        assert ages["default"] > 15  # the age of the older token
        assert "created already" not in caplog.text

    def test_uninitialised_application_is_not_measured(self, telemetry: Telemetry) -> None:
        telemetry.instrument(Flask("later"))
        assert telemetry.counts("cognito_m2m.token_requests") == []


class TestInstrumentation:
    def test_meter_and_tracer_have_the_version(
        self, app: Flask, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        m2m.token()
        spans = {span.instrumentation_scope.version for span in telemetry.spans}
        assert (telemetry.meter_versions, spans) == ({__version__}, {__version__})

    def test_second_instrumentation_is_an_error(self, app: Flask) -> None:
        with pytest.raises(RuntimeError, match="already"):
            instrument(app)

    def test_instrumentation_keeps_no_application_alive(
        self, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        app = Flask("short-lived")
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
        CognitoM2M(app)
        telemetry.instrument(app)
        gone = weakref.ref(app)
        del app
        gc.collect()
        assert gone() is None
        assert telemetry.counts("cognito_m2m.token_requests") == []

    def test_opentelemetry_is_not_imported_by_default(self) -> None:
        code = "import sys, flask_m2m_cognito; print([n for n in sys.modules if 'opentelemetry' in n])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_missing_opentelemetry_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(RuntimeError, match=r"flask-m2m-cognito\[otel\]"):
            instrument(Flask("shop"))


MONITORING = Path(__file__).parents[1] / "docs/monitoring"
SUFFIXES = {
    ("Sum", "{request}"): ["_total"],
    ("Histogram", "s"): ["_seconds_bucket", "_seconds_count", "_seconds_sum"],
    ("Gauge", "s"): ["_seconds"],
    ("Gauge", ""): [""],
}
"""The suffixes that the Prometheus exporter appends to a name. A unit in braces is ignored."""


def names_in_prometheus(telemetry: Telemetry) -> set[str]:
    return {
        metric.name.replace(".", "_") + suffix
        for metric in telemetry.metrics()
        for suffix in SUFFIXES[type(metric.data).__name__, metric.unit]
    }


def expressions_of(path: Path) -> list[str]:
    if path.suffix == ".json":
        panels = json.loads(path.read_text("utf-8"))["panels"]
        return [target["expr"] for panel in panels for target in panel["targets"]]
    yaml = pytest.importorskip("yaml")
    groups = yaml.safe_load(path.read_text("utf-8"))["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


class TestMonitoringFiles:
    @pytest.fixture(autouse=True)
    def record_all_metrics(self, app: Flask, m2m: CognitoM2M) -> None:
        m2m.warm_up([None], required=True)
        ask(app)

    @pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
    def test_metrics_and_labels_exist(self, telemetry: Telemetry, name: str) -> None:
        labels = {"job", "instance", "le", "cognito_m2m_outcome", "cognito_m2m_value", "cognito_m2m_client",
                  "cognito_m2m_pool_id", "error_type"}  # fmt: skip
        for expression in expressions_of(MONITORING / name):
            named = set(re.findall(r"\b(?:cognito_m2m_|error_type|http_)\w*", expression))
            assert named <= names_in_prometheus(telemetry) | labels, expression
            assert named & names_in_prometheus(telemetry), expression

    def test_page_has_every_metric(self, telemetry: Telemetry) -> None:
        page = (MONITORING.parent / "observe.md").read_text("utf-8")
        table = page.partition("## Names in Prometheus")[2].partition("##")[0]
        named = set(re.findall(r"`(cognito_m2m_\w+)`", table))
        assert named == names_in_prometheus(telemetry)

    def test_page_has_every_alert(self) -> None:
        page = (MONITORING.parent / "observe.md").read_text("utf-8")
        alerts = re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text("utf-8"))
        assert sorted(re.findall(r"`(M2M\w+)`", page)) == sorted(alerts)
