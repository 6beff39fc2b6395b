"""Metrics and traces for OpenTelemetry: ``pip install 'flask-m2m-cognito[otel]'``.

An application that is not instrumented pays nothing: this module is imported only if you import it.

==================================  ==========  ======================================================
metric                              kind        attributes
==================================  ==========  ======================================================
``cognito_m2m.requests``            counter     ``cognito_m2m.outcome``; for accepted requests
                                                ``cognito_m2m.check`` (``memory``, ``signature``); for
                                                rejected ones ``error.type`` (the reason) and
                                                ``http.response.status_code``; ``cognito_m2m.client_id`` if
                                                ``client_ids`` is set and the token was verified
``cognito_m2m.refresh.duration``    histogram   ``cognito_m2m.value`` (``keys``, ``token``, ``revocations``),
                                    (s)         the pool or the client; ``cognito_m2m.source`` or
                                                ``error.type``
``cognito_m2m.token_requests``      observed    ``cognito_m2m.client``; Cognito bills each of them
                                    counter
``cognito_m2m.age``                 observed    value, and pool or client: the age of cached keys and tokens
                                    gauge (s)
``cognito_m2m.remaining``           observed    value, and pool or client: the time until they are unusable
                                    gauge (s)
``cognito_m2m.ready``               observed    1 if every pool has had keys, else 0
                                    gauge
``cognito_m2m.cache.up``            observed    0 while the shared cache fails, else 1
                                    gauge
``cognito_m2m.clock_offset``        observed    how far Cognito's clock is ahead of this machine's
                                    gauge (s)
==================================  ==========  ======================================================

Each HTTP request has a span ``GET`` or ``POST`` of kind ``CLIENT``: each download of keys and each token
request, for each address and each retry. The span is current during the request. Instrumentation of
``requests`` or ``urllib3`` creates no second span for it.

Its parent is a span ``refresh keys`` or ``refresh token`` of kind ``INTERNAL``. That span has the outcome of
the refresh, which a single request does not show: a rejected secret is no failure if the next one works, but
a 200 without a key is one. It is a child of the current span of the caller that waits for it, even if the
fetch runs on another thread. A background refresh is a trace of its own, with a link to that span. A span
``refresh revocations`` has no HTTP request, because the list of revocations comes from the cache.

Each span ends with its work, even if the work fails, is abandoned, or its thread is stopped.

===============  ====================================================================================
span             attributes
===============  ====================================================================================
GET, POST        ``http.request.method``, ``server.address``, ``server.port``, ``url.full`` (without user
                 and query), ``http.response.status_code``, ``error.type``; ``cognito_m2m.pool_id``, or
                 ``cognito_m2m.client`` and ``cognito_m2m.client_id``
refresh …        those of the duration, and ``cognito_m2m.scopes``
===============  ====================================================================================

Names without ``cognito_m2m`` are those of OpenTelemetry's semantic conventions 1.27, "HTTP client span".
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
    from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation
    from opentelemetry.trace import Span, TracerProvider

    from .inbound.validated_access_token import ValidatedAccessToken

_NAME = "flask_m2m_cognito"
_EXTENSION = "cognito_m2m_otel"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30)
"""Histogram buckets in seconds: those of OpenTelemetry's HTTP conventions, and one for a longer deadline.
The SDK's defaults are meant for milliseconds: every refresh would be in the first two."""

Attributes = dict[str, Any]
Rows = Iterable[tuple[Attributes, float]]


def instrument(
    app: Any,
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    client_ids: bool = False,
) -> None:
    """Record metrics and traces of ``app``. Call it before or after ``init_app``.

    Args:
        app: the Flask application.
        meter_provider: the provider of the metrics; by default OpenTelemetry's global one.
        tracer_provider: the provider of the traces; by default OpenTelemetry's global one.
        client_ids: whether ``cognito_m2m.requests`` has the caller's client id, if its token was verified.
            Each client is then a separate time series.

    Raises:
        RuntimeError: the application is already instrumented, or OpenTelemetry's API is not installed.
    """
    if _EXTENSION in app.extensions:
        raise RuntimeError(f"The application {app.name!r} is already instrumented.")
    try:
        instrumentation = _SignalReceivers(app, meter_provider, client_ids)
        app.extensions[EXTENSION] = _Spans(tracer_provider, instrumentation.durations)
    except ImportError as error:
        raise RuntimeError(
            "OpenTelemetry's API is not installed. Run: pip install 'flask-m2m-cognito[otel]'"
        ) from error
    # Signals reference their receivers weakly, so the application keeps this object alive.
    app.extensions[_EXTENSION] = instrumentation


def _version() -> str:
    return importlib.metadata.version("flask-m2m-cognito")


class _SignalReceivers:
    """The receivers of one application's signals. Providers live longer, and keep no reference to it."""

    def __init__(self, app: Any, meter_provider: MeterProvider | None, client_ids: bool) -> None:
        self._client_ids = client_ids
        instruments = _instruments_of(meter_provider)
        instruments.observe(app)
        self._requests, self.durations = instruments.requests, instruments.durations
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
        self.durations.record(facts["seconds"], attributes)


class _Spans:
    """The instrumentation of an application: a span for each refresh and each HTTP request."""

    def __init__(self, tracer_provider: TracerProvider | None, durations: Histogram) -> None:
        from opentelemetry import trace

        self._durations = durations
        self._tracer = trace.get_tracer(_NAME, _version(), tracer_provider)

    def request(self, method: str, url: str, of: Of) -> AbstractContextManager[Note]:
        from opentelemetry import context, trace

        # This key is private, but all instrumentations use it to create only one span for a request.
        key = getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", "suppress_http_instrumentation")
        span = self._tracer.start_span(
            method, kind=trace.SpanKind.CLIENT, attributes={**_request(method, url), **_ours(of)}
        )
        return _current(span, trace.set_span_in_context(span, context.set_value(key, True)), _response)

    def refresh(self, value: str, of: Of, is_background: bool) -> AbstractContextManager[Note]:
        from opentelemetry import context, trace

        caller, cause = context.get_current(), trace.get_current_span().get_span_context()
        around = context.Context() if is_background else caller
        ours, began = _ours({"value": value, **of}), time.perf_counter()
        span = self._tracer.start_span(
            f"refresh {value}",
            context=around,
            links=[trace.Link(cause)] if is_background and cause.is_valid else (),
            attributes=ours,
        )

        def note(result: Fetched[Any] | BaseException) -> Attributes:
            outcome = _refreshed(result)
            if value == "revocations":  # the other values have signals
                seconds = time.perf_counter() - began
                report(lambda: self._durations.record(seconds, {**ours, **outcome}))
            return outcome

        return _current(span, trace.set_span_in_context(span, around), note)


@contextmanager
def _current(span: Span, context: Context, attributes_of: Callable[[Any], Attributes]) -> Iterator[Note]:
    """Attach ``context`` to this thread during the work, and end ``span`` with the outcome."""
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
        # Ending a span runs the application's span processors, which may export. That must not delay waiters.
        report(functools.partial(span.end, time.time_ns()))


class _Instruments:
    """The instruments of one provider, for all applications of the process.

    The SDK would ignore the callbacks of a second instrument with the same name. This object keeps no
    application alive, and observed values come from memory.
    """

    def __init__(self, meter_provider: MeterProvider) -> None:
        from opentelemetry import metrics

        meter = metrics.get_meter(_NAME, _version(), meter_provider)
        self.requests = meter.create_counter(
            "cognito_m2m.requests", "{request}", "Requests that guards accepted or rejected."
        )
        self.durations = meter.create_histogram(
            "cognito_m2m.refresh.duration",
            "s",
            "The duration of refreshes of keys, of tokens and of the list of revocations.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        meter.create_observable_counter(
            "cognito_m2m.token_requests",
            [self._token_requests],
            "{request}",
            "Tokens requested from Cognito.",
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
        """Observe the value that ``choose`` selects from those of several applications."""
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
    """Yield the times ``name`` of the cached keys and tokens, with the attributes of each."""
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


# If a process has several applications, a gauge shows the worst value.
_GAUGES: tuple[
    tuple[str, str, Callable[[Mapping[str, Any]], Rows], Callable[[float, float], float], str],
    ...,
] = (
    ("age", "s", _ages, max, "The age of the cached keys and tokens."),
    ("remaining", "s", _remaining, min, "The time until the cached keys and tokens become unusable."),
    # Not the unit "1", for which Prometheus would append "_ratio".
    ("ready", "", _ready, min, "1 if every pool has had keys, else 0."),
    ("cache.up", "", _cache_up, min, "0 while the shared cache fails, else 1."),
    ("clock_offset", "s", _clock_offset, _farthest, "How far Cognito's clock is ahead of this machine's."),
)


_PORTS = {"http": 80, "https": 443}


def _ours(of: Mapping[str, str]) -> Attributes:
    return {f"cognito_m2m.{name}": value for name, value in of.items()}


def _request(method: str, url: str) -> Attributes:
    parts = urlsplit(url)
    # The user and the query may contain secrets.
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
    # Cognito's error code if there is one, because there are few. Texts of errors are too many.
    return {"error.type": getattr(error, "error_code", None) or type(error).__name__}
