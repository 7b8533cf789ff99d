// Sends traces with the JavaScript SDK: client.mjs TRANSPORT COMPRESSION ENDPOINT TRACES SPANS
// Spans of one trace leave in different requests. Ends with an error if an export fails.
// Prints the traces' ids. The last digit of a trace's number makes it what it is: with 0 its first
// child is an error, with 1 its first child is wanted, and with 2 it takes 2000 ms from the start
// of the root to the end of the last child; all others take 1999 ms.
import { ExportResultCode } from '@opentelemetry/core';
import { OTLPTraceExporter as Grpc } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as Http } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { ROOT_CONTEXT, SpanStatusCode, trace } from '@opentelemetry/api';

const [transport, compression, endpoint, traces, spans] = process.argv.slice(2);
const size = Number(traces) * Number(spans);
// A flush sends all batches at once; above its limit the exporter drops them.
const concurrencyLimit = size;
const exporter = transport === 'grpc'
  ? new Grpc({ url: `http://${endpoint}`, compression, concurrencyLimit })
  : new Http({ url: `http://${endpoint}/v1/traces`, compression, concurrencyLimit });

let exported = 0;
let failed = 0;
const counting = {
  export(batch, done) {
    exporter.export(batch, (result) => {
      if (result.code === ExportResultCode.SUCCESS) exported += batch.length;
      else { failed += batch.length; console.error(result.error ?? result); }
      done(result);
    });
  },
  shutdown: () => exporter.shutdown(),
  forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
};

const provider = new BasicTracerProvider({
  resource: resourceFromAttributes({ 'service.name': 'interop-js' }),
  spanProcessors: [new BatchSpanProcessor(counting, {
    maxExportBatchSize: 64, maxQueueSize: size + 64,
  })],
});
const tracer = provider.getTracer('interop');
const begin = Date.now();
const roots = [];
for (let i = 0; i < Number(traces); i += 1) {
  roots.push(tracer.startSpan(`root ${i}`, { root: true, startTime: begin }));
}
for (let n = 1; n < Number(spans); n += 1) {
  const startTime = begin + (n === Number(spans) - 1 ? 1998 : 0);
  roots.forEach((root, i) => {
    const attributes = { n, zero: 0, wanted: i % 10 === 1 && n === 1 ? 'yes' : 'no' };
    const span = tracer.startSpan('child', { attributes, startTime },
      trace.setSpan(ROOT_CONTEXT, root));
    const isError = i % 10 === 0 && n === 1;
    span.setStatus({ code: isError ? SpanStatusCode.ERROR : SpanStatusCode.OK });
    span.addEvent('event');
    span.end(startTime + (i % 10 === 2 ? 2 : 1));
  });
}
for (const root of roots) {
  root.end(begin + 1);
  console.log(root.spanContext().traceId);
}
await provider.forceFlush();
await provider.shutdown();
if (failed > 0 || exported !== size) {
  console.error(`${exported} of ${size} spans were exported`);
  process.exit(1);
}
