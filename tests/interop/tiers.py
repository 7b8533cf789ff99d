"""Both tiers, each of them once the collector's, with the verdict of every trace.

What the traces are is known to the one who sends them; which of them are kept follows from the
policies. So the store must have the kept ones, whole, and no others.
"""

import collections
import json
import os
import pathlib
import subprocess
import time

import stage
from stage import Failure, Sink

MASK = 2**64 - 1
SHARE = 30
WAIT_SECONDS = 1
# A trace waits for the second tick after its last span, at the most.
SETTLE_SECONDS = WAIT_SECONDS + 2
POLICIES = [
    {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
    {"name": "some", "type": "probabilistic", "probabilistic": {"sampling_percentage": SHARE}},
]
# What the clients of the SDKs make of some traces, and telemetrygen's options; other traces come as
# near to it as they can without being it.
MADE = [
    {"name": "wanted", "type": "string_attribute",
     "string_attribute": {"key": "wanted", "values": ["yes"]}},
    {"name": "long", "type": "latency", "latency": {"threshold_ms": 1999}},
    {"name": "named", "type": "ottl_condition",
     "ottl_condition": {"span": ['IsMatch(name, "^root [0-9]*3$")']}},
]
# The last digits of the numbers of traces that an error or one of MADE keeps.
KEPT_DIGITS = (0, 1, 2, 3)
TRANSPORTS = (("grpc", "none"), ("http", "gzip"))
# telemetrygen does not say its traces' ids, so each kind has a number of children of its own, by
# which it is known where it arrives. The children follow each other: the long ones make 2000 ms,
# the others 1999 ms at the most, which is not above the threshold.
GENERATED = 25
GENERATED_KEPT = {
    2: ["--status-code", "Error"],
    3: ["--telemetry-attributes", 'wanted="yes"'],
    4: ["--span-duration", "500ms"],
}
GENERATED_DROPPED = {
    5: ["--status-code", "Ok", "--telemetry-attributes", 'wanted="no"',
        "--span-duration", "399800us"],
}


def sampler(address, policies):
    """otlp → tail_sampling → otlp_grpc to `address`."""
    config = stage.forwarder(address, compression="none")
    config["processors"] = {
        "tail_sampling": {"decision_wait": f"{WAIT_SECONDS}s", "policies": policies}
    }
    traces = config["service"]["pipelines"]["traces"] | {"processors": ["tail_sampling"]}
    config["service"]["pipelines"] = {"traces": traces}
    return config


def is_kept(trace_id, is_error):
    """The policies above; the probabilistic one is tailsampling 2.6."""
    value = 14695981039346656037
    for byte in b"default-hash-seed" + bytes.fromhex(trace_id):
        value = (value ^ byte) * 1099511628211 & MASK
    return is_error or value <= int(SHARE / 100 * 2**64) - 1


def through(scratch, router, samplers, policies, send):
    """send(router) → router → two samplers → sink; what the sink saw, by trace."""
    kinds = {"tracemill": stage.tracemill, "collector": stage.collector}
    came = pathlib.Path(scratch, "came")
    with Sink("--traces-file", str(came)) as sink:
        store = sink.addresses[0]
        with start(kinds[samplers], scratch, "one", store, policies) as one, \
                start(kinds[samplers], scratch, "two", store, policies) as two:
            endpoints = [f"127.0.0.1:{node.started().grpc}" for node in (one, two)]
            with kinds[router](scratch, stage.balancer(endpoints), name="router") as front:
                front.started()
                send(front)
                front.stop()
            time.sleep(SETTLE_SECONDS)
            one.stop()
            two.stop()
        sink.summary()
    return {trace: int(spans) for trace, spans in map(str.split, came.read_text().splitlines())}


def start(kind, scratch, name, store, policies):
    return kind(scratch, sampler(store, policies), name=name)


def judged(router, samplers, scratch):
    """The load tool through both tiers: sent and kept traces."""
    sent = pathlib.Path(scratch, "sent")

    def send(front):
        command = [os.environ["TRACEMILL_LOAD"], "run", "--quiet", "--json"]
        command += ["--endpoint", endpoint(front, "grpc")]
        command += ["--rate", "5000spans/s", "--for", "2s", "--spread", "3"]
        command += ["--error-share", "10%", "--traces-file", str(sent)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failure(f"the load tool failed: {done.stderr[-500:]}")
        said = json.loads(done.stdout.splitlines()[-1])["whole_run"]
        if said["ok"] != said["sent"]:
            raise Failure(f"{said['ok']} of {said['sent']} requests were taken")

    came = through(scratch, router, samplers, POLICIES, send)
    lines = [line.split() for line in sent.read_text().splitlines()]
    wrong, kept = [], 0
    # Traces of which the end of the run has cut a part are not in the file.
    for trace, spans, error in lines:
        want = int(spans) if is_kept(trace, error == "error") else 0
        kept += want > 0
        if came.get(trace, 0) != want:
            wrong.append(f"{trace}: {came.get(trace, 0)} spans of {spans}, want {want}")
    if wrong or not 0 < kept < len(lines):
        raise Failure(f"{len(wrong)} of {len(lines)} traces are wrong, the first: {wrong[:1]}")
    return len(lines), kept


def of_sdk(send, traces, spans, scratch):
    """An SDK through both tiers of tracemill: sent and kept traces."""
    want = {}

    def send_all(front):
        for transport, compression in TRANSPORTS:
            ids = send(transport, compression, endpoint(front, transport))
            if len(set(ids)) != traces:
                raise Failure(f"the client says {len(set(ids))} of {traces} ids")
            for number, trace in enumerate(ids):
                kept = is_kept(trace, number % 10 in KEPT_DIGITS)
                want[trace] = (number, spans if kept else 0)

    came = through(scratch, "tracemill", "tracemill", POLICIES + MADE, send_all)
    wrong = [
        f"{trace}, number {number}: {came.get(trace, 0)} spans, want {count}"
        for trace, (number, count) in want.items()
        if came.get(trace, 0) != count
    ]
    strange = came.keys() - want.keys()
    if wrong or strange:
        raise Failure(f"{len(wrong)} of {len(want)} traces are wrong, the first: {wrong[:1]}; "
                      f"{len(strange)} were never sent")
    return len(want), len(came)


def of_telemetrygen(generate, scratch):
    """telemetrygen through both tiers of tracemill: sent and kept traces."""
    kinds = GENERATED_KEPT | GENERATED_DROPPED

    def send_all(front):
        for transport, compression in TRANSPORTS:
            for children, options in kinds.items():
                size = ["--traces", str(GENERATED), "--child-spans", str(children)]
                generate(transport, compression, endpoint(front, transport), size + options)

    # without the share of all traces, which needs their ids
    policies = POLICIES[:1] + MADE
    came = through(scratch, "tracemill", "tracemill", policies, send_all)
    each = GENERATED * len(TRANSPORTS)
    counts = collections.Counter(came.values())
    want = {children + 1: each for children in GENERATED_KEPT}
    if counts != want:
        raise Failure(f"traces by their spans: {dict(counts)} came, not {want}")
    return each * len(kinds), len(came)


def endpoint(front, transport):
    return f"127.0.0.1:{front.grpc if transport == 'grpc' else front.http}"
