// Sends one signal with the JavaScript SDK:
// signals.mjs SIGNAL TRANSPORT COMPRESSION ENDPOINT PREFIX COUNT [CA [CERT KEY]]
import { readFileSync } from 'node:fs';
import { credentials } from '@grpc/grpc-js';
import { diag, DiagConsoleLogger, DiagLogLevel } from '@opentelemetry/api';
import { OTLPTraceExporter as GrpcTraces } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as ProtoTraces } from '@opentelemetry/exporter-trace-otlp-proto';
import { OTLPTraceExporter as JsonTraces } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPLogExporter as GrpcLogs } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPLogExporter as ProtoLogs } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPLogExporter as JsonLogs } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPMetricExporter as GrpcMetrics } from '@opentelemetry/exporter-metrics-otlp-grpc';
import { OTLPMetricExporter as ProtoMetrics } from '@opentelemetry/exporter-metrics-otlp-proto';
import {
  AggregationTemporalityPreference, OTLPMetricExporter as JsonMetrics,
} from '@opentelemetry/exporter-metrics-otlp-http';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';

diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);
const [signal, transport, compression, endpoint, prefix, count, ...files] = process.argv.slice(2);
const exporters = {
  traces: { grpc: GrpcTraces, 'http/protobuf': ProtoTraces, 'http/json': JsonTraces },
  logs: { grpc: GrpcLogs, 'http/protobuf': ProtoLogs, 'http/json': JsonLogs },
  metrics: { grpc: GrpcMetrics, 'http/protobuf': ProtoMetrics, 'http/json': JsonMetrics },
};
const [ca, cert, key] = files.map((path) => readFileSync(path));
const url = `${ca ? 'https' : 'http'}://${endpoint}`;
const options = {
  compression,
  // A flush sends all batches at once; above its limit the exporter drops them.
  concurrencyLimit: Number(count),
  temporalityPreference: AggregationTemporalityPreference.DELTA,
};
if (transport === 'grpc') {
  options.url = url;
  if (ca) options.credentials = credentials.createSsl(ca, key ?? null, cert ?? null);
} else {
  options.url = `${url}/v1/${signal}`;
  if (ca) options.httpAgentOptions = { ca, key, cert };
}
const exporter = new exporters[signal][transport](options);

const names = Array.from({ length: Number(count) }, (_, n) => `${prefix}#${n}`);
const batches = { maxExportBatchSize: 64, maxQueueSize: names.length + 64 };
let provider;
if (signal === 'traces') {
  provider = new BasicTracerProvider({
    spanProcessors: [new BatchSpanProcessor(exporter, batches)],
  });
  const tracer = provider.getTracer('interop');
  for (const name of names) tracer.startSpan(name, { root: true }).end();
} else if (signal === 'logs') {
  provider = new LoggerProvider({
    processors: [new BatchLogRecordProcessor({ exporter, ...batches })],
  });
  const logger = provider.getLogger('interop');
  for (const body of names) logger.emit({ body, severityNumber: 9 });
} else {
  provider = new MeterProvider({ readers: [new PeriodicExportingMetricReader({ exporter })] });
  const counter = provider.getMeter('interop').createCounter('items');
  for (const id of names) counter.add(1, { id });
}
await provider.forceFlush();
await provider.shutdown();
