"""Metrics and traces for OpenTelemetry: ``pip install 'flask-m2m-cognito[otel]'``.

Nothing here is imported unless you import it, and an application that is not instrumented pays nothing.

==================================  ==========  ======================================================
metric                              kind        attributes
==================================  ==========  ======================================================
``cognito_m2m.requests``            counter     ``cognito_m2m.outcome``; if it was accepted
                                                ``cognito_m2m.check`` (``memory``, ``signature``); if it was
                                                rejected ``error.type`` (the reason) and
                                                ``http.response.status_code``; ``cognito_m2m.client_id`` if
                                                ``client_ids`` is set and the token was verified
``cognito_m2m.refresh.duration``    histogram   ``cognito_m2m.value`` (``keys``, ``token``), and of which
                                    (s)         pool or client; ``cognito_m2m.source`` or ``error.type``
``cognito_m2m.token_requests``      observed    ``cognito_m2m.client``; Cognito bills each of them
                                    counter
``cognito_m2m.age``                 observed    as the duration: of the cached keys and tokens
                                    gauge (s)
``cognito_m2m.remaining``           observed    as the age: how long they can still be used
                                    gauge (s)
``cognito_m2m.ready``               observed    1 if every pool has had keys, else 0
                                    gauge
``cognito_m2m.cache.up``            observed    0 while the shared cache fails, else 1
                                    gauge
``cognito_m2m.clock_offset``        observed    how far Cognito's clock is ahead of this machine's
                                    gauge (s)
==================================  ==========  ======================================================

A span of kind ``CLIENT``, ``GET`` or ``POST``, is around each HTTP request: a download of keys, a token
request, each address and each retry. It is current while the request lasts, and an instrumentation of
``requests`` or ``urllib3`` makes no second one of it.

Its parent is the span of what it is for, ``refresh keys`` or ``refresh token``, of kind ``INTERNAL``. That
one says how the refresh ended, which no single request can: a secret that was rejected is no failure, a
200 without a key is one. It is a child of the current span of the caller who waits for it, also where the
fetch runs on a thread of its own; a background refresh is a trace of its own, with a link to that span.

Each ends with its work, whether that failed, was given up, or its thread was stopped.

===============  ====================================================================================
span             attributes
===============  ====================================================================================
GET, POST        ``http.request.method``, ``server.address``, ``server.port``, ``url.full`` (without user
                 and query), ``http.response.status_code``, ``error.type``; ``cognito_m2m.pool_id``, or
                 ``cognito_m2m.client`` and ``cognito_m2m.client_id``
refresh …        as the duration, and ``cognito_m2m.scopes``
===============  ====================================================================================

Source of the names that are not ours: OpenTelemetry's semantic conventions 1.27, "HTTP client span".
"""

from __future__ import annotations

import functools
import importlib.metadata
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import signals
from .remote.freshness import Fetched
from .remote.reports import Note, report
from .remote.transport import Answer, TransportError
from .telemetry.instrumentation import EXTENSION, Of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Span, TracerProvider

    from .inbound.validated_access_token import ValidatedAccessToken

_NAME = "flask_m2m_cognito"
_EXTENSION = "cognito_m2m_otel"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30)
"""Buckets of durations in seconds: those of OpenTelemetry's HTTP conventions, and one for a longer deadline.
The SDK's own are for milliseconds, and would put every refresh into the first two."""

Attributes = dict[str, Any]
Rows = Iterable[tuple[Attributes, float]]


def instrument(
    app: Any,
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    client_ids: bool = False,
) -> None:
    """Count and trace what ``app`` accepts, rejects and requests. Call it before or after ``init_app``.

    Args:
        app: the Flask application.
        meter_provider, tracer_provider: OpenTelemetry's global ones if not given.
        client_ids: add the caller's client id to ``cognito_m2m.requests``, if its token was verified. Each
            client is then a time series of its own.

    Raises:
        RuntimeError: the application is instrumented already, or OpenTelemetry's API is not installed.
    """
    if _EXTENSION in app.extensions:
        raise RuntimeError(f"The application {app.name!r} is instrumented already.")
    try:
        instrumentation = _SignalReceivers(app, meter_provider, client_ids)
        app.extensions[EXTENSION] = _Spans(tracer_provider)
    except ImportError as error:
        raise RuntimeError(
            "OpenTelemetry's API is not installed: pip install 'flask-m2m-cognito[otel]'."
        ) from error
    # Signals hold their receivers weakly: it lives as long as the application.
    app.extensions[_EXTENSION] = instrumentation


def _version() -> str:
    return importlib.metadata.version("flask-m2m-cognito")


class _SignalReceivers:
    """The receivers of one application's signals. No provider, which outlives it, holds any of it."""

    def __init__(self, app: Any, meter_provider: MeterProvider | None, client_ids: bool) -> None:
        self._client_ids = client_ids
        instruments = _instruments_of(meter_provider)
        instruments.observe(app)
        self._requests, self._durations = instruments.requests, instruments.durations
        for signal, receiver in (
            (signals.token_accepted, self._on_accepted),
            (signals.token_rejected, self._on_rejected),
            (signals.keys_refreshed, self._on_keys),
            (signals.keys_failed, self._on_keys),
            (signals.token_obtained, self._on_token),
            (signals.token_failed, self._on_token),
        ):
            signal.connect(receiver, sender=app)

    def _on_accepted(self, sender: object, token: ValidatedAccessToken, check: str) -> None:
        self._count({"cognito_m2m.outcome": "accepted", "cognito_m2m.check": check}, token.client_id)

    def _on_rejected(
        self, sender: object, reason: str, status: int, client_id: str | None = None, **more: Any
    ) -> None:
        self._count(
            {"cognito_m2m.outcome": "rejected", "error.type": reason, "http.response.status_code": status},
            client_id,
        )

    def _count(self, attributes: Attributes, client_id: str | None) -> None:
        if self._client_ids and client_id is not None:
            attributes["cognito_m2m.client_id"] = client_id
        self._requests.add(1, attributes)

    def _on_keys(self, sender: object, pool_id: str, **facts: Any) -> None:
        self._note_refresh("keys", {"pool_id": pool_id}, facts)

    def _on_token(
        self, sender: object, client: str | None, client_id: str, scopes: str, **facts: Any
    ) -> None:
        self._note_refresh("token", {"client": client or "default", "client_id": client_id}, facts)

    def _note_refresh(self, value: str, of: Of, facts: Mapping[str, Any]) -> None:
        attributes = {**_ours({"value": value, **of}), **_outcome(facts.get("error"), facts.get("source"))}
        self._durations.record(facts["seconds"], attributes)


class _Spans:
    """An application's instrumentation: a span for each refresh and each HTTP request."""

    def __init__(self, tracer_provider: TracerProvider | None) -> None:
        from opentelemetry import trace

        self._tracer = trace.get_tracer(_NAME, _version(), tracer_provider)

    def request(self, method: str, url: str, of: Of) -> AbstractContextManager[Note]:
        from opentelemetry import context, trace

        # Private, but all that there is, and what the instrumentations agree on: one request, one span.
        key = getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", "suppress_http_instrumentation")
        span = self._tracer.start_span(
            method, kind=trace.SpanKind.CLIENT, attributes={**_request(method, url), **_ours(of)}
        )
        return _current(span, trace.set_span_in_context(span, context.set_value(key, True)), _response)

    def refresh(self, value: str, of: Of, is_background: bool) -> AbstractContextManager[Note]:
        from opentelemetry import context, trace

        caller, cause = context.get_current(), trace.get_current_span().get_span_context()
        around = context.Context() if is_background else caller
        span = self._tracer.start_span(
            f"refresh {value}",
            context=around,
            links=[trace.Link(cause)] if is_background and cause.is_valid else (),
            attributes=_ours({"value": value, **of}),
        )
        return _current(span, trace.set_span_in_context(span, around), _refreshed)


@contextmanager
def _current(span: Span, context: Context, attributes_of: Callable[[Any], Attributes]) -> Iterator[Note]:
    """Make ``context`` this thread's while the work lasts, and end ``span`` with its outcome."""
    from opentelemetry.context import attach, detach
    from opentelemetry.trace import StatusCode

    token = attach(context)
    outcomes: list[object] = []
    try:
        yield outcomes.append
    except BaseException as error:
        outcomes.append(error)
        raise
    finally:
        detach(token)
        attributes = attributes_of(outcomes[-1])
        span.set_attributes(attributes)
        if "error.type" in attributes:
            span.set_status(StatusCode.ERROR)
        # Ending it runs the application's span processors, which may export: no waiter is delayed by that.
        report(functools.partial(span.end, time.time_ns()))


class _Instruments:
    """What one provider has for all applications of the process: of a second instrument of the same name the
    SDK would ask nothing. It keeps no application, and what is observed comes from memory."""

    def __init__(self, meter_provider: MeterProvider) -> None:
        from opentelemetry import metrics

        meter = metrics.get_meter(_NAME, _version(), meter_provider)
        self.requests = meter.create_counter(
            "cognito_m2m.requests", "{request}", "Requests that the guards let in or refused."
        )
        self.durations = meter.create_histogram(
            "cognito_m2m.refresh.duration",
            "s",
            "How long it took to get newer keys or a newer token.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        meter.create_observable_counter(
            "cognito_m2m.token_requests", [self._token_requests], "{request}", "Tokens bought of Cognito."
        )
        for name, unit, rows_of, choose, description in _GAUGES:
            observe = functools.partial(self._gauge, rows_of, choose)
            meter.create_observable_gauge(f"cognito_m2m.{name}", [observe], unit, description)
        self._apps: weakref.WeakSet[Any] = weakref.WeakSet()

    def observe(self, app: Any) -> None:
        with _lock:
            self._apps.add(app)

    def _token_requests(self, options: CallbackOptions) -> Iterator[Observation]:
        from opentelemetry.metrics import Observation

        totals: dict[str, int] = {}
        for health in self._health():
            for client, count in health["token_requests"].items():
                totals[client] = totals.get(client, 0) + count["total"]
        for client, total in totals.items():
            yield Observation(total, {"cognito_m2m.client": client})

    def _gauge(
        self,
        rows_of: Callable[[Mapping[str, Any]], Rows],
        choose: Callable[[float, float], float],
        options: CallbackOptions,
    ) -> Iterator[Observation]:
        """Observe what ``choose`` returns of the values that several applications have."""
        from opentelemetry.metrics import Observation

        chosen: dict[tuple[tuple[str, Any], ...], float] = {}
        for health in self._health():
            for attributes, value in rows_of(health):
                key = tuple(attributes.items())
                chosen[key] = choose(value, chosen.get(key, value))
        for key, value in chosen.items():
            yield Observation(value, dict(key))

    def _health(self) -> Iterator[dict[str, Any]]:
        with _lock:
            apps = list(self._apps)
        for app in apps:
            parts = app.extensions.get("cognito_m2m")
            if parts is not None:
                yield parts.health()


_lock = threading.Lock()
_by_provider: weakref.WeakKeyDictionary[MeterProvider, _Instruments] = weakref.WeakKeyDictionary()


def _instruments_of(meter_provider: MeterProvider | None) -> _Instruments:
    from opentelemetry import metrics

    provider = metrics.get_meter_provider() if meter_provider is None else meter_provider
    with _lock:
        instruments = _by_provider.get(provider)
        if instruments is None:
            instruments = _by_provider[provider] = _Instruments(provider)
    return instruments


def _times_in(health: Mapping[str, Any], name: str) -> Rows:
    """The times ``name`` of the cached keys and tokens, and what each is of."""
    for pool_id, row in health["pools"].items():
        if row[name] is not None:
            yield _ours({"value": "keys", "pool_id": pool_id}), row[name]
    for row in health["tokens"]:
        if row[name] is not None:
            of = {each: row[each] for each in ("client", "client_id", "scopes")}
            yield _ours({"value": "token", **of}), row[name]


def _ages(health: Mapping[str, Any]) -> Rows:
    return _times_in(health, "age")


def _remaining(health: Mapping[str, Any]) -> Rows:
    return _times_in(health, "seconds_left")


def _ready(health: Mapping[str, Any]) -> Rows:
    return [({}, int(health["ready"]))]


def _cache_up(health: Mapping[str, Any]) -> Rows:
    return [({}, int(health["store"]["works"]))]


def _clock_offset(health: Mapping[str, Any]) -> Rows:
    return [({}, health["clock_offset"])] if health["clock_offset"] is not None else []


def _farthest(one: float, other: float) -> float:
    return max(one, other, key=abs)


# Of several applications in one process, a gauge shows the worst.
_GAUGES: tuple[
    tuple[str, str, Callable[[Mapping[str, Any]], Rows], Callable[[float, float], float], str],
    ...,
] = (
    ("age", "s", _ages, max, "The age of the cached keys and tokens."),
    ("remaining", "s", _remaining, min, "How long the cached keys and tokens can still be used."),
    # Not the unit "1": Prometheus would call it a ratio.
    ("ready", "", _ready, min, "1 if every pool has had keys, else 0."),
    ("cache.up", "", _cache_up, min, "0 while the shared cache fails, else 1."),
    ("clock_offset", "s", _clock_offset, _farthest, "How far Cognito's clock is ahead of this machine's."),
)


_PORTS = {"http": 80, "https": 443}


def _ours(of: Mapping[str, str]) -> Attributes:
    return {f"cognito_m2m.{name}": value for name, value in of.items()}


def _request(method: str, url: str) -> Attributes:
    parts = urlsplit(url)
    # A user and a query may be secrets.
    shown = parts._replace(
        netloc=parts.netloc.rpartition("@")[2], query="REDACTED" if parts.query else "", fragment=""
    )
    return {
        "http.request.method": method,
        "server.address": parts.hostname or "",
        "server.port": parts.port or _PORTS.get(parts.scheme, 0),
        "url.full": shown.geturl(),
    }


def _response(result: Answer | BaseException) -> Attributes:
    if isinstance(result, Answer):
        status = {"http.response.status_code": result.status}
        return {**status, "error.type": str(result.status)} if result.status >= 400 else status
    if isinstance(result, TransportError):
        return {"error.type": "timeout" if result.is_timeout else type(result.cause or result).__name__}
    return {"error.type": type(result).__name__}


def _refreshed(result: Fetched[Any] | BaseException) -> Attributes:
    if isinstance(result, Fetched):
        return _outcome(result.failure, result.source)
    return _outcome(result, None)


def _outcome(error: BaseException | None, source: str | None) -> Attributes:
    if error is None:
        return {"cognito_m2m.source": source}
    # Cognito's code, where there is one: it is one of few. No text of an error, which is of many.
    return {"error.type": getattr(error, "error_code", None) or type(error).__name__}
