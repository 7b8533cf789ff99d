"""A store of all three signals over gRPC: it decodes what comes and counts it."""

from concurrent import futures

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics

DATA = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


def points(metric):
    return sum(len(getattr(metric, kind).data_points) for kind in DATA if metric.HasField(kind))


class Store:
    """Counts records and points."""

    def __init__(self):
        self.counts = {"logs": 0, "metrics": 0}
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((
            self.service("logs", logs.ExportLogsServiceRequest, lambda r: sum(
                len(s.log_records) for g in r.resource_logs for s in g.scope_logs)),
            self.service("metrics", metrics.ExportMetricsServiceRequest, lambda r: sum(
                points(m) for g in r.resource_metrics for s in g.scope_metrics for m in s.metrics)),
        ))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def service(self, signal, message, count):
        def export(request, _):
            self.counts[signal] += count(message.FromString(request))
            return b""

        name = f"opentelemetry.proto.collector.{signal}.v1.{signal.capitalize()}Service"
        method = grpc.unary_unary_rpc_method_handler(export)
        return grpc.method_handlers_generic_handler(name, {"Export": method})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop(None).wait()
