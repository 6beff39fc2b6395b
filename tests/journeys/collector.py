"""A server that receives metrics over OTLP, as Prometheus does, and sums them."""

from __future__ import annotations

import gzip
from collections.abc import Generator
from contextlib import contextmanager
from threading import Thread

from flask import Flask, Response, request
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from werkzeug.serving import make_server


class Collector:
    """The latest export of each instance."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.latest: dict[str, ExportMetricsServiceRequest] = {}

    def receive(self) -> Response:
        body = request.get_data()
        if request.content_encoding == "gzip":
            body = gzip.decompress(body)
        export = ExportMetricsServiceRequest()
        export.ParseFromString(body)
        for resource in export.resource_metrics:
            for attribute in resource.resource.attributes:
                if attribute.key == "service.instance.id":
                    self.latest[attribute.value.string_value] = export
        return Response(status=200)

    def total(self, metric: str, **attributes: str) -> float:
        """Return the sum of a metric over all instances, for the series with these attributes."""
        scopes = (
            scope
            for export in self.latest.values()
            for resource in export.resource_metrics
            for scope in resource.scope_metrics
        )
        points = (
            point
            for scope in scopes
            for each in scope.metrics
            if each.name == metric
            for point in (*each.sum.data_points, *each.gauge.data_points)
        )
        total = 0.0
        for point in points:
            has = {item.key.replace(".", "_"): item.value.string_value for item in point.attributes}
            if attributes.items() <= has.items():
                total += point.as_double or point.as_int
        return total


@contextmanager
def running_collector() -> Generator[Collector, None, None]:
    app = Flask("collector")
    server = make_server("127.0.0.1", 0, app, threaded=True)
    collector = Collector(f"http://127.0.0.1:{server.server_port}/v1/metrics")
    app.add_url_rule("/v1/metrics", view_func=collector.receive, methods=["POST"])
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
