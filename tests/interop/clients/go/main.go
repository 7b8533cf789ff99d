// Sends one signal with the Go SDK:
// signals SIGNAL TRANSPORT COMPRESSION ENDPOINT PREFIX COUNT [CA [CERT KEY]]
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strconv"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"
)

type target struct {
	grpc, json, gzip bool
	url              string
	tls              *tls.Config
}

func main() {
	a := os.Args[1:]
	files := a[6:]
	to := target{grpc: a[1] == "grpc", json: a[1] == "http/json", gzip: a[2] == "gzip",
		url: "http://" + a[3]}
	if len(files) > 0 {
		to.url, to.tls = "https://"+a[3], configuration(files)
	}
	count, err := strconv.Atoi(a[5])
	check(err)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(check))
	send := map[string]func(context.Context, target, string, int){
		"traces": traces, "logs": logs, "metrics": metrics}[a[0]]
	send(context.Background(), to, a[4], count)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func configuration(files []string) *tls.Config {
	ca, err := os.ReadFile(files[0])
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	config := &tls.Config{RootCAs: roots}
	if len(files) == 3 {
		pair, err := tls.LoadX509KeyPair(files[1], files[2])
		check(err)
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

func traces(ctx context.Context, to target, prefix string, count int) {
	var client otlptrace.Client
	if to.grpc {
		o := []otlptracegrpc.Option{otlptracegrpc.WithEndpointURL(to.url)}
		if to.gzip {
			o = append(o, otlptracegrpc.WithCompressor("gzip"))
		}
		if to.tls != nil {
			o = append(o, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(to.tls)))
		}
		client = otlptracegrpc.NewClient(o...)
	} else {
		o := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(to.url + "/v1/traces")}
		if to.gzip {
			o = append(o, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		}
		if to.tls != nil {
			o = append(o, otlptracehttp.WithTLSClientConfig(to.tls))
		}
		if to.json {
			o = append(o, otlptracehttp.WithEncoding(otlptracehttp.EncodingJSON))
		}
		client = otlptracehttp.NewClient(o...)
	}
	exporter, err := otlptrace.New(ctx, client)
	check(err)
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter,
		sdktrace.WithMaxQueueSize(count+64), sdktrace.WithMaxExportBatchSize(64)))
	tracer := provider.Tracer("interop")
	for n := range count {
		_, span := tracer.Start(ctx, fmt.Sprintf("%s#%d", prefix, n))
		span.End()
	}
	check(provider.ForceFlush(ctx))
	check(provider.Shutdown(ctx))
}

func logs(ctx context.Context, to target, prefix string, count int) {
	var exporter sdklog.Exporter
	var err error
	if to.grpc {
		o := []otlploggrpc.Option{otlploggrpc.WithEndpointURL(to.url)}
		if to.gzip {
			o = append(o, otlploggrpc.WithCompressor("gzip"))
		}
		if to.tls != nil {
			o = append(o, otlploggrpc.WithTLSCredentials(credentials.NewTLS(to.tls)))
		}
		exporter, err = otlploggrpc.New(ctx, o...)
	} else {
		o := []otlploghttp.Option{otlploghttp.WithEndpointURL(to.url + "/v1/logs")}
		if to.gzip {
			o = append(o, otlploghttp.WithCompression(otlploghttp.GzipCompression))
		}
		if to.tls != nil {
			o = append(o, otlploghttp.WithTLSClientConfig(to.tls))
		}
		exporter, err = otlploghttp.New(ctx, o...)
	}
	check(err)
	provider := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter,
		sdklog.WithMaxQueueSize(count+64), sdklog.WithExportMaxBatchSize(64))))
	logger := provider.Logger("interop")
	for n := range count {
		var record log.Record
		record.SetSeverity(log.SeverityInfo)
		record.SetBody(attribute.StringValue(fmt.Sprintf("%s#%d", prefix, n)))
		logger.Emit(ctx, record)
	}
	check(provider.ForceFlush(ctx))
	check(provider.Shutdown(ctx))
}

func metrics(ctx context.Context, to target, prefix string, count int) {
	var exporter sdkmetric.Exporter
	var err error
	delta := func(sdkmetric.InstrumentKind) metricdata.Temporality {
		return metricdata.DeltaTemporality
	}
	if to.grpc {
		o := []otlpmetricgrpc.Option{
			otlpmetricgrpc.WithEndpointURL(to.url), otlpmetricgrpc.WithTemporalitySelector(delta)}
		if to.gzip {
			o = append(o, otlpmetricgrpc.WithCompressor("gzip"))
		}
		if to.tls != nil {
			o = append(o, otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(to.tls)))
		}
		exporter, err = otlpmetricgrpc.New(ctx, o...)
	} else {
		o := []otlpmetrichttp.Option{otlpmetrichttp.WithEndpointURL(to.url + "/v1/metrics"),
			otlpmetrichttp.WithTemporalitySelector(delta)}
		if to.gzip {
			o = append(o, otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
		}
		if to.tls != nil {
			o = append(o, otlpmetrichttp.WithTLSClientConfig(to.tls))
		}
		exporter, err = otlpmetrichttp.New(ctx, o...)
	}
	check(err)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	counter, err := provider.Meter("interop").Int64Counter("items")
	check(err)
	for n := range count {
		id := attribute.String("id", fmt.Sprintf("%s#%d", prefix, n))
		counter.Add(ctx, 1, metric.WithAttributes(id))
	}
	check(provider.Shutdown(ctx))
}
