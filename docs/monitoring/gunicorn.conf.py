"""Each gunicorn worker sends its own metrics over OTLP, also with preload_app."""

import socket


def post_fork(server, worker):
    from opentelemetry import metrics
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
        OTLPMetricExporter,
    )
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource

    # Without this id, the series of one worker would overwrite those of another.
    resource = Resource.create(
        {"service.instance.id": f"{socket.gethostname()}-{worker.pid}"}
    )
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    metrics.set_meter_provider(MeterProvider([reader], resource))
