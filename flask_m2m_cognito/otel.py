"""Metrics and traces for OpenTelemetry, by the signals: ``pip install 'flask-m2m-cognito[otel]'``.

Nothing here is imported unless you import it, and an application that is not instrumented pays nothing.

==================================  ==========  ======================================================
metric                              kind        attributes
==================================  ==========  ======================================================
``cognito_m2m.requests``            counter     ``cognito_m2m.outcome``; if it was refused ``error.type``
                                                (the reason) and ``http.response.status_code``
``cognito_m2m.refresh.duration``    histogram   ``cognito_m2m.value`` (``keys``, ``token``), and of which
                                    (s)         pool or client; ``cognito_m2m.source`` or ``error.type``
``cognito_m2m.token_requests``      observed    ``cognito_m2m.client``; Cognito bills each of them
                                    counter
``cognito_m2m.age``                 observed    as the duration: of the keys and tokens that are held
                                    gauge (s)
==================================  ==========  ======================================================

A span of kind ``CLIENT`` stands for each refresh that went to Cognito. It is made when the refresh has ended,
so that nothing waits for a tracer; a refresh behind a request runs on a thread of its own, and its span has
no parent.

Source of the names that are not ours: OpenTelemetry's semantic conventions 1.27, ``error.type`` and
``http.response.status_code``.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import signals

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import TracerProvider

    from .inbound.validated_access_token import ValidatedAccessToken

_NAME = "flask_m2m_cognito"
_EXTENSION = "cognito_m2m_otel"

Attributes = dict[str, Any]


def instrument(
    app: Any,
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
) -> None:
    """Have ``app``'s signals counted and traced, before or after ``init_app``.

    Args:
        app: the Flask application.
        meter_provider, tracer_provider: OpenTelemetry's global ones if not given.

    Raises:
        RuntimeError: the application is instrumented already, or OpenTelemetry's API is not installed.
    """
    if _EXTENSION in app.extensions:
        raise RuntimeError(f"The application {app.name!r} is instrumented already.")
    try:
        instrumentation = _Instrumentation(app, meter_provider, tracer_provider)
    except ImportError as error:
        raise RuntimeError(
            "OpenTelemetry's API is not installed: pip install 'flask-m2m-cognito[otel]'."
        ) from error
    # Signals hold their receivers weakly: it lives as long as the application.
    app.extensions[_EXTENSION] = instrumentation


class _Instrumentation:
    """The receivers of one application's signals. No provider, which outlives it, holds any of it."""

    def __init__(
        self, app: Any, meter_provider: MeterProvider | None, tracer_provider: TracerProvider | None
    ) -> None:
        from opentelemetry import metrics, trace

        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        self._requests = meter.create_counter(
            "cognito_m2m.requests", "{request}", "Requests that the guards let in or refused."
        )
        self._durations = meter.create_histogram(
            "cognito_m2m.refresh.duration", "s", "How long it took to get newer keys or a newer token."
        )
        health = _Health(app)
        meter.create_observable_counter(
            "cognito_m2m.token_requests", [health.token_requests], "{request}", "Tokens bought of Cognito."
        )
        meter.create_observable_gauge(
            "cognito_m2m.age", [health.ages], "s", "The age of the keys and tokens that are held."
        )
        for signal, receiver in (
            (signals.token_accepted, self._on_accepted),
            (signals.token_rejected, self._on_rejected),
            (signals.keys_refreshed, self._on_keys),
            (signals.keys_failed, self._on_keys),
            (signals.token_obtained, self._on_token),
            (signals.token_failed, self._on_token),
        ):
            signal.connect(receiver, sender=app)

    def _on_accepted(self, sender: object, token: ValidatedAccessToken) -> None:
        self._requests.add(1, _ACCEPTED)

    def _on_rejected(self, sender: object, reason: str, status: int, **more: Any) -> None:
        self._requests.add(
            1, {"cognito_m2m.outcome": "rejected", "error.type": reason, "http.response.status_code": status}
        )

    def _on_keys(self, sender: object, pool_id: str, **facts: Any) -> None:
        self._note_refresh("keys", {"cognito_m2m.pool_id": pool_id}, facts)

    def _on_token(
        self, sender: object, client: str | None, client_id: str, scopes: str, **facts: Any
    ) -> None:
        of = {"cognito_m2m.client": client or "default", "cognito_m2m.client_id": client_id}
        self._note_refresh("token", of, facts, {"cognito_m2m.scopes": scopes})

    def _note_refresh(
        self,
        value: str,
        of: Attributes,
        facts: Mapping[str, Any],
        of_span: Mapping[str, Any] | None = None,
    ) -> None:
        attributes = {"cognito_m2m.value": value, **of, **_outcome(facts)}
        self._durations.record(facts["seconds"], attributes)
        if facts.get("source") != "store":
            self._trace(f"refresh {value}", facts["seconds"], {**attributes, **(of_span or {})})

    def _trace(self, name: str, seconds: float, attributes: Attributes) -> None:
        from opentelemetry.trace import SpanKind, StatusCode

        ended = time.time_ns()
        span = self._tracer.start_span(
            name, kind=SpanKind.CLIENT, attributes=attributes, start_time=ended - int(seconds * 1e9)
        )
        if "error.type" in attributes:
            span.set_status(StatusCode.ERROR)
        span.end(ended)


class _Health:
    """What is observed when metrics are collected, from memory; it does not keep the application."""

    def __init__(self, app: Any) -> None:
        self._app = weakref.ref(app)

    def token_requests(self, options: CallbackOptions) -> Iterator[Observation]:
        from opentelemetry.metrics import Observation

        for client, count in self._now().get("token_requests", {}).items():
            yield Observation(count["total"], {"cognito_m2m.client": client})

    def ages(self, options: CallbackOptions) -> Iterator[Observation]:
        from opentelemetry.metrics import Observation

        health = self._now()
        for pool_id, row in health.get("pools", {}).items():
            if row["age"] is not None:
                yield Observation(row["age"], {"cognito_m2m.value": "keys", "cognito_m2m.pool_id": pool_id})
        for row in health.get("tokens", ()):
            if row["age"] is not None:
                of = {f"cognito_m2m.{name}": row[name] for name in ("client", "client_id", "scopes")}
                yield Observation(row["age"], {"cognito_m2m.value": "token", **of})

    def _now(self) -> dict[str, Any]:
        app = self._app()
        parts = None if app is None else app.extensions.get("cognito_m2m")
        health: dict[str, Any] = {} if parts is None else parts.health()
        return health


_ACCEPTED = {"cognito_m2m.outcome": "accepted"}


def _outcome(facts: Mapping[str, Any]) -> Attributes:
    error = facts.get("error")
    if error is None:
        return {"cognito_m2m.source": facts["source"]}
    # Cognito's code, where there is one: it is one of few. No text of an error, which is of many.
    return {"error.type": getattr(error, "error_code", None) or type(error).__name__}
