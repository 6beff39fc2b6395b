"""OpenTelemetry's in-memory reader and exporter, and an application that is instrumented with them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flask import Flask

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.otel import instrument
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.headers import bearer
from tests.support.settling import settle

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

LONGEST = 30.0
"""Seconds within which a span ends, even on a busy machine."""

Point = tuple[dict[str, Any], Any]


class Telemetry:
    """Real providers, which keep metrics and spans in memory."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.apps: list[Flask] = []
        #: The tracer of a service that creates its own spans.
        self.tracer = self.tracers.get_tracer("a service")

    def instrument(self, app: Flask) -> None:
        instrument(app, meter_provider=self.meters, tracer_provider=self.tracers)

    @property
    def meter_versions(self) -> set[str | None]:
        return {scoped.scope.version for scoped in self._scopes()}

    def _scopes(self) -> list[Any]:
        settle()
        collected = self._reader.get_metrics_data()
        resources = collected.resource_metrics if collected else ()
        return [scope for resource in resources for scope in resource.scope_metrics]

    def metrics(self) -> list[Any]:
        return [metric for scope in self._scopes() for metric in scope.metrics]

    def points(self, name: str) -> list[Any]:
        return [
            point for metric in self.metrics() if metric.name == name for point in metric.data.data_points
        ]

    def counts(self, name: str) -> list[Point]:
        return [(dict(point.attributes), point.value) for point in self.points(name)]

    @property
    def spans(self) -> list[Any]:
        """The spans that have ended, in that order."""
        settle(within=1.0)  # a refresh that hangs has no span yet
        return list(self._exporter.get_finished_spans())

    @property
    def calls(self) -> list[Any]:
        """The spans of HTTP requests."""
        return [span for span in self.spans if span.kind is SpanKind.CLIENT]

    def refresh(self, value: str) -> Any:
        """Return the only span of a refresh of ``"keys"`` or of the ``"token"``."""
        (found,) = (span for span in self.spans if span.name == f"refresh {value}")
        return found

    def clear(self) -> None:
        """Forget the spans so far."""
        settle()
        self._exporter.clear()

    def wait_for(self, count: int) -> None:
        """Wait until ``count`` spans have ended, on any thread."""
        until = time.monotonic() + LONGEST
        while len(self.spans) < count:
            assert time.monotonic() < until, f"{len(self.spans)} of {count} spans have ended"
            time.sleep(0.005)

    def end(self) -> None:
        self.meters.shutdown()
        self.tracers.shutdown()


def instrumented(pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry, **settings: Any) -> Flask:
    """Build an instrumented service with two clients and a guarded view."""
    app = Flask("shop")
    billing = {"CLIENT_ID": "billing", "CLIENT_SECRET": pool.client("billing").secret}
    values = {"ALLOWED_CLIENT_IDS": "*", "CLIENTS": {"billing": billing}, "SCOPES": "a/read", **settings}
    app.config.update(pool.config("orders", **values))
    m2m.init_app(app)
    telemetry.instrument(app)
    telemetry.apps.append(app)  # else it would be garbage collected
    app.get("/items")(m2m.require_scopes("items/read")(lambda: "reached"))
    return app


def ask(app: Flask, token: str | None = None) -> int:
    """Send a request with this token, and return its status."""
    headers = {} if token is None else bearer(token)
    return app.test_client().get("/items", headers=headers).status_code
