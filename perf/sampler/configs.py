"""Configurations. They are written as JSON, which is YAML: the same file for tracemill and for the
collector, and for tracemill a second one with its own key."""

POLICIES = [
    {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
    {"name": "slow", "type": "latency", "latency": {"threshold_ms": 500}},
    {"name": "some", "type": "probabilistic", "probabilistic": {"sampling_percentage": 2}},
]
# With these policies and this share of failed traces about 10 % of the traces are kept.
ERROR_SHARE = "8%"


def sampler(ports, sink, *, wait, num_traces, policies=None, limiter=None, **more):
    """One pipeline: otlp, tail_sampling, otlp_grpc. `more` goes into `tail_sampling`."""
    grpc, metrics = ports
    processors = {
        "tail_sampling": {
            "decision_wait": f"{wait}s",
            "num_traces": num_traces,
            "policies": policies or POLICIES,
            **more,
        }
    }
    names = ["tail_sampling"]
    if limiter:
        processors["memory_limiter"] = limiter
        names.insert(0, "memory_limiter")
    reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": metrics}}}}
    return {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{grpc}"}}}},
        "processors": processors,
        "exporters": {
            "otlp_grpc": {
                "endpoint": sink,
                "tls": {"insecure": True},
                "compression": "none",
                "sending_queue": {"queue_size": 100_000},
            }
        },
        "service": {
            "telemetry": {"metrics": {"readers": [reader]}},
            "pipelines": {
                "traces": {"receivers": ["otlp"], "processors": names, "exporters": ["otlp_grpc"]}
            },
        },
    }


# Attributes that the spans of the load tool have: the number in every span, the texts in some.
NUMBER, METHOD, PATH = "http.status_code", "http.request.method", "url.path"


def numeric(at):
    return {
        "type": "numeric_attribute",
        "numeric_attribute": {"key": NUMBER, "min_value": 10_000 + at, "max_value": 10_000 + at},
    }


def text(key, value, **more):
    return {"type": "string_attribute", "string_attribute": {"key": key, "values": [value], **more}}


def never(count):
    """`count` policies that read the same three attributes, hold for no span and so must be asked
    for each one. One policy alone reads all three."""
    makers = [
        numeric,
        lambda at: text(METHOD, f"NEVER{at}"),
        lambda at: text(PATH, f"/never/{at}"),
    ]
    if count == 1:
        # Inverted, the first two hold: so the third is read, too.
        subs = [
            {"name": "a", **text(METHOD, "NEVER", invert_match=True)},
            {"name": "b", **text(PATH, "/never", invert_match=True)},
            {"name": "c", **numeric(0)},
        ]
        return [{"name": "p0", "type": "and", "and": {"and_sub_policy": subs}}]
    return [{"name": f"p{at}", **makers[at % 3](at)} for at in range(count)]


def _ottl(condition):
    options = {"error_mode": "ignore", "span": [condition]}
    return {"type": "ottl_condition", "ottl_condition": options}


# One policy each that never holds. `nothing` reads no span.
KINDS = {
    "nothing": {"type": "probabilistic", "probabilistic": {"sampling_percentage": 0}},
    "status_code": {"type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
    "latency": {"type": "latency", "latency": {"threshold_ms": 3_600_000}},
    "span_count": {"type": "span_count", "span_count": {"min_spans": 1000}},
    "numeric_attribute": numeric(0),
    "boolean_attribute": {
        "type": "boolean_attribute",
        "boolean_attribute": {"key": "never", "value": True},
    },
    "string_attribute": text(PATH, "/never"),
    "string_attribute regex": text(PATH, "^/never/[0-9]+$$", enabled_regex_matching=True),
    "string_attribute 10 regexes": {
        "type": "string_attribute",
        "string_attribute": {
            "key": PATH,
            "values": [f"^/never/{at}/.*[a-z]$$" for at in range(10)],
            "enabled_regex_matching": True,
        },
    },
    "trace_state": {"type": "trace_state", "trace_state": {"key": "never", "values": ["x"]}},
    "ottl attribute": _ottl(f'attributes["{PATH}"] == "/never"'),
    "ottl number": _ottl(f'attributes["{NUMBER}"] >= 10000'),
    "ottl duration": _ottl('end_time - start_time > Duration("1h")'),
    "ottl IsMatch": _ottl(f'IsMatch(attributes["{PATH}"], "^/never/[0-9]+$$")'),
    "ottl three": _ottl(
        f'kind == SPAN_KIND_CLIENT and attributes["{METHOD}"] != nil'
        f' and attributes["{NUMBER}"] > 10000'
    ),
}
