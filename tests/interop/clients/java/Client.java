// Sends traces with the Java SDK: Client TRANSPORT COMPRESSION ENDPOINT TRACES SPANS
// Spans of one trace leave in different requests. Ends with an error if an export fails.
// Prints the traces' ids. The last digit of a trace's number makes it what it is: with 0 its first
// child is an error, with 1 its first child is wanted, and with 2 it takes 2000 ms from the start
// of the root to the end of the last child; all others take 1999 ms.

import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

public final class Client {
  public static void main(String[] args) {
    String endpoint = "http://" + args[2];
    int traces = Integer.parseInt(args[3]);
    int spans = Integer.parseInt(args[4]);
    SpanExporter exporter =
        args[0].equals("grpc")
            ? OtlpGrpcSpanExporter.builder().setEndpoint(endpoint).setCompression(args[1]).build()
            : OtlpHttpSpanExporter.builder()
                .setEndpoint(endpoint + "/v1/traces")
                .setCompression(args[1])
                .build();
    BatchSpanProcessor processor =
        BatchSpanProcessor.builder(exporter)
            .setMaxExportBatchSize(64)
            .setMaxQueueSize(traces * spans + 64)
            .build();
    SdkTracerProvider provider =
        SdkTracerProvider.builder()
            .setResource(
                Resource.builder().put(AttributeKey.stringKey("service.name"), "interop-java").build())
            .addSpanProcessor(processor)
            .build();
    Tracer tracer = provider.get("interop");
    long begin = System.currentTimeMillis();
    List<Span> roots = new ArrayList<>();
    for (int i = 0; i < traces; i++) {
      roots.add(
          tracer
              .spanBuilder("root " + i)
              .setNoParent()
              .setStartTimestamp(begin, TimeUnit.MILLISECONDS)
              .startSpan());
    }
    for (int n = 1; n < spans; n++) {
      long start = begin + (n == spans - 1 ? 1998 : 0);
      for (int i = 0; i < traces; i++) {
        Span span =
            tracer
                .spanBuilder("child")
                .setParent(Context.root().with(roots.get(i)))
                .setStartTimestamp(start, TimeUnit.MILLISECONDS)
                .startSpan();
        boolean isWanted = i % 10 == 1 && n == 1;
        boolean isError = i % 10 == 0 && n == 1;
        span.setAttribute("n", n).setAttribute("wanted", isWanted ? "yes" : "no");
        span.setStatus(isError ? StatusCode.ERROR : StatusCode.OK).addEvent("event");
        span.end(start + (i % 10 == 2 ? 2 : 1), TimeUnit.MILLISECONDS);
      }
    }
    for (Span root : roots) {
      root.end(begin + 1, TimeUnit.MILLISECONDS);
      System.out.println(root.getSpanContext().getTraceId());
    }
    boolean flushed = provider.forceFlush().join(60, TimeUnit.SECONDS).isSuccess();
    boolean closed = provider.shutdown().join(10, TimeUnit.SECONDS).isSuccess();
    // not 0 also when the sender keeps threads
    System.exit(flushed && closed ? 0 : 1);
  }
}
