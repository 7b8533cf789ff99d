// Sends one signal with the Java SDK:
// Signals SIGNAL TRANSPORT COMPRESSION ENDPOINT PREFIX COUNT [CA [CERT KEY]]

import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.metrics.LongCounter;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.exporter.otlp.http.logs.OtlpHttpLogRecordExporter;
import io.opentelemetry.exporter.otlp.http.metrics.OtlpHttpMetricExporter;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.logs.OtlpGrpcLogRecordExporter;
import io.opentelemetry.exporter.otlp.metrics.OtlpGrpcMetricExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.logs.SdkLoggerProvider;
import io.opentelemetry.sdk.logs.export.BatchLogRecordProcessor;
import io.opentelemetry.sdk.logs.export.LogRecordExporter;
import io.opentelemetry.sdk.metrics.SdkMeterProvider;
import io.opentelemetry.sdk.metrics.export.AggregationTemporalitySelector;
import io.opentelemetry.sdk.metrics.export.MetricExporter;
import io.opentelemetry.sdk.metrics.export.PeriodicMetricReader;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

public final class Signals {
  private final boolean grpc;
  private final String compression;
  private final String url;
  private final List<byte[]> files = new ArrayList<>();
  private final String prefix;
  private final int count;

  private Signals(String[] args) throws IOException {
    grpc = args[1].equals("grpc");
    compression = args[2];
    url = (args.length > 6 ? "https://" : "http://") + args[3];
    prefix = args[4];
    count = Integer.parseInt(args[5]);
    for (int i = 6; i < args.length; i++) {
      files.add(Files.readAllBytes(Path.of(args[i])));
    }
  }

  private boolean ca() {
    return !files.isEmpty();
  }

  private boolean certificate() {
    return files.size() == 3;
  }

  private SpanExporter spanExporter() {
    if (grpc) {
      var b = OtlpGrpcSpanExporter.builder().setEndpoint(url).setCompression(compression);
      if (ca()) b.setTrustedCertificates(files.get(0));
      if (certificate()) b.setClientTls(files.get(2), files.get(1));
      return b.build();
    }
    var b = OtlpHttpSpanExporter.builder().setEndpoint(url + "/v1/traces");
    b.setCompression(compression);
    if (ca()) b.setTrustedCertificates(files.get(0));
    if (certificate()) b.setClientTls(files.get(2), files.get(1));
    return b.build();
  }

  private LogRecordExporter logExporter() {
    if (grpc) {
      var b = OtlpGrpcLogRecordExporter.builder().setEndpoint(url).setCompression(compression);
      if (ca()) b.setTrustedCertificates(files.get(0));
      if (certificate()) b.setClientTls(files.get(2), files.get(1));
      return b.build();
    }
    var b = OtlpHttpLogRecordExporter.builder().setEndpoint(url + "/v1/logs");
    b.setCompression(compression);
    if (ca()) b.setTrustedCertificates(files.get(0));
    if (certificate()) b.setClientTls(files.get(2), files.get(1));
    return b.build();
  }

  private MetricExporter metricExporter() {
    var delta = AggregationTemporalitySelector.deltaPreferred();
    if (grpc) {
      var b = OtlpGrpcMetricExporter.builder().setEndpoint(url).setCompression(compression);
      b.setAggregationTemporalitySelector(delta);
      if (ca()) b.setTrustedCertificates(files.get(0));
      if (certificate()) b.setClientTls(files.get(2), files.get(1));
      return b.build();
    }
    var b = OtlpHttpMetricExporter.builder().setEndpoint(url + "/v1/metrics");
    b.setCompression(compression).setAggregationTemporalitySelector(delta);
    if (ca()) b.setTrustedCertificates(files.get(0));
    if (certificate()) b.setClientTls(files.get(2), files.get(1));
    return b.build();
  }

  private boolean traces() {
    SdkTracerProvider provider =
        SdkTracerProvider.builder()
            .addSpanProcessor(
                BatchSpanProcessor.builder(spanExporter())
                    .setMaxExportBatchSize(64)
                    .setMaxQueueSize(count + 64)
                    .build())
            .build();
    Tracer tracer = provider.get("interop");
    for (int n = 0; n < count; n++) {
      tracer.spanBuilder(prefix + "#" + n).setNoParent().startSpan().end();
    }
    return done(provider.forceFlush()) && done(provider.shutdown());
  }

  private boolean logs() {
    SdkLoggerProvider provider =
        SdkLoggerProvider.builder()
            .addLogRecordProcessor(
                BatchLogRecordProcessor.builder(logExporter())
                    .setMaxExportBatchSize(64)
                    .setMaxQueueSize(count + 64)
                    .build())
            .build();
    Logger logger = provider.get("interop");
    for (int n = 0; n < count; n++) {
      logger.logRecordBuilder().setSeverity(Severity.INFO).setBody(prefix + "#" + n).emit();
    }
    return done(provider.forceFlush()) && done(provider.shutdown());
  }

  private boolean metrics() {
    SdkMeterProvider provider =
        SdkMeterProvider.builder()
            .registerMetricReader(PeriodicMetricReader.create(metricExporter()))
            .build();
    LongCounter counter = provider.get("interop").counterBuilder("items").build();
    for (int n = 0; n < count; n++) {
      counter.add(1, Attributes.of(AttributeKey.stringKey("id"), prefix + "#" + n));
    }
    return done(provider.shutdown());
  }

  private static boolean done(CompletableResultCode result) {
    return result.join(30, TimeUnit.SECONDS).isSuccess();
  }

  public static void main(String[] args) throws IOException {
    Signals signals = new Signals(args);
    boolean sent =
        switch (args[0]) {
          case "traces" -> signals.traces();
          case "logs" -> signals.logs();
          default -> signals.metrics();
        };
    // not 0 also when the sender keeps threads
    System.exit(sent ? 0 : 1);
  }
}
