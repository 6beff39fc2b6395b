"""Settings for ``gunicorn --config python:…``. Each worker sends its own metrics over OTLP."""

from __future__ import annotations

import socket
from typing import Any

wsgi_app = "tests.journeys.production.app:create_app()"
preload_app = True
workers = 2
worker_class = "gthread"
threads = 4


def post_fork(server: object, worker: Any) -> None:
    from opentelemetry import metrics
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource

    # Without a unique id, the series of one worker would overwrite those of another.
    resource = Resource.create({"service.instance.id": f"{socket.gethostname()}-{worker.pid}"})
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    metrics.set_meter_provider(MeterProvider([reader], resource))
