"""The rows of the table: who sends how, through what, and what must come out."""

import functools
import os
import subprocess
import sys
import tempfile

import keys
import placement
import refusals
import stage
import tiers
from signals import Store
from stage import TOOLS, Failure, Sink, tracemill

HERE = os.path.dirname(os.path.abspath(__file__))
TRACES, SPANS = 400, 5
KEYED_ITEMS = 1500
CLIENT_SECONDS = 120
WIDTHS = (32, 9, 11, 18, 18)


class Skip(Exception):
    """A row cannot run here, and why."""


def need(*tools):
    for tool in tools:
        note = TOOLS / "missing" / tool
        if note.exists():
            raise Skip(f"{tool} could not be installed: {note.read_text().strip()}")


def run(command, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")} | environment
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=CLIENT_SECONDS
    )
    if done.returncode != 0:
        raise Failure(f"the client failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def sdk(name, transport, compression, endpoint, traces=TRACES):
    """Sends traces of SPANS spans; all but telemetrygen say their ids."""
    arguments = [transport, compression, endpoint, str(traces), str(SPANS)]
    if name == "python":
        return run([sys.executable, f"{HERE}/clients/python.py", *arguments])
    elif name == "js":
        need("js")
        return run(["node", str(TOOLS / "js" / "client.mjs"), *arguments])
    elif name == "java":
        need("java")
        jars = f"{TOOLS}/java:{TOOLS}/java/jars/*"
        return run(["java", "-Xmx256m", "-cp", jars, "Client", *arguments])
    return generate("traces", transport, compression, endpoint, [
        "--traces", str(traces // 2), "--workers", "2", "--child-spans", str(SPANS - 1)])


def generate(signal, transport, compression, endpoint, arguments):
    need("telemetrygen")
    command = [str(TOOLS / "bin" / "telemetrygen"), signal, "--otlp-insecure"]
    command += ["--otlp-endpoint", endpoint, "--rate", "0", *arguments]
    if transport == "http":
        command.append("--otlp-http")
    return run(command, OTEL_EXPORTER_OTLP_COMPRESSION=compression)


def arrived(summary, sent):
    """Checks what the sink saw, and returns how many spans."""
    wrong = [
        f"{key} is {summary[key]}, not {want}"
        for key, want in {
            "spans": sent,
            "traces": TRACES,
            "split_traces": 0,
            "duplicate_spans": 0,
            "invalid_requests": 0,
            "spans_without_trace_id": 0,
        }.items()
        if summary[key] != want
    ]
    idle = [a["address"] for a in summary["addresses"] if a["spans"] == 0]
    if idle:
        wrong.append(f"nothing came to {idle}")
    if wrong:
        raise Failure("; ".join(wrong))
    return summary["spans"]


def through(name, transport, compression, scratch):
    """Client → tracemill → sink."""
    with Sink() as sink, tracemill(scratch, stage.balancer(sink.addresses)) as router:
        router.started()
        port = router.grpc if transport == "grpc" else router.http
        sdk(name, transport, compression, f"127.0.0.1:{port}")
        router.stop()
        return TRACES * SPANS, arrived(sink.summary(), TRACES * SPANS)


def behind_agent(transport, compression, scratch):
    """Client → collector → tracemill → sink. The collector writes fields in reverse order."""
    need("collector")
    with Sink() as sink, tracemill(scratch, stage.balancer(sink.addresses, "gzip")) as router:
        router.started()
        client = {} if compression == "gzip" else {"compression": compression}
        agent = stage.forwarder(f"127.0.0.1:{router.grpc}", **client)
        if transport == "http":
            exporter = {"endpoint": f"http://127.0.0.1:{router.http}", **client}
            agent["exporters"] = {"otlp_http": exporter}
            for pipeline in agent["service"]["pipelines"].values():
                pipeline["exporters"] = ["otlp_http"]
        agent["processors"] = {"batch": {"send_batch_max_size": 300, "send_batch_size": 300}}
        agent["service"]["pipelines"]["traces"]["processors"] = ["batch"]
        with stage.collector(scratch, agent, name="agent") as agent:
            agent.started()
            sdk("python", "grpc", "none", f"127.0.0.1:{agent.grpc}")
            agent.stop()
        router.stop()
        return TRACES * SPANS, arrived(sink.summary(), TRACES * SPANS)


def passed_on(signal, transport, compression, scratch):
    """telemetrygen → tracemill → a store that decodes; logs or metrics."""
    count = 300
    with Store() as store, tracemill(
        scratch, stage.forwarder(f"127.0.0.1:{store.port}", compression=compression)
    ) as router:
        router.started()
        port = router.grpc if transport == "grpc" else router.http
        generate(signal, transport, compression, f"127.0.0.1:{port}", [
            f"--{signal}", str(count)])
        router.stop()
        got = store.counts[signal]
        if got != count:
            raise Failure(f"{got} of {count} {signal} arrived")
        return count, got


def both_tiers(router, samplers, scratch):
    """Load tool → router → samplers → sink, with verdicts; numbers are traces."""
    need("collector")
    return tiers.judged(router, samplers, scratch)


def sampled_sdk(name, scratch):
    """SDK → router → samplers → sink, with verdicts; numbers are traces."""
    def send(transport, compression, endpoint):
        return sdk(name, transport, compression, endpoint, TRACES // 2).split()

    return tiers.of_sdk(send, TRACES // 2, SPANS, scratch)


def sampled_telemetrygen(scratch):
    """telemetrygen → router → samplers → sink, with verdicts; numbers are traces."""
    return tiers.of_telemetrygen(functools.partial(generate, "traces"), scratch)


def placed(scratch):
    need("collector")
    return placement.compare(scratch)


def placed_by(signal, key, _):
    """The same items by a routing key; the placements of all keys are made once."""
    need("collector")
    programs = (os.environ["COLLECTOR"], os.environ["TRACEMILL"])
    count, moved = keys.compared(programs, KEYED_ITEMS)[signal, key]
    if moved:
        raise Failure(f"{len(moved)} of {count} went elsewhere, the first is {moved[0]}")
    return count, count


def rows():
    for name in ("telemetrygen", "python", "js", "java"):
        for transport in ("grpc", "http"):
            for compression in ("none", "gzip"):
                yield (f"{name} sdk" if name != "telemetrygen" else name, transport, compression,
                       lambda s, n=name, t=transport, c=compression: through(n, t, c, s))
    for transport, compression in (("grpc", "gzip"), ("grpc", "zstd"), ("grpc", "snappy"),
                                   ("grpc", "none"), ("http", "gzip"), ("http", "none")):
        yield ("collector as agent", transport, compression,
               lambda s, t=transport, c=compression: behind_agent(t, c, s))
    for signal in ("logs", "metrics"):
        for transport, compression in (("grpc", "none"), ("grpc", "gzip"), ("http", "gzip")):
            yield (f"telemetrygen {signal}", transport, compression,
                   lambda s, g=signal, t=transport, c=compression: passed_on(g, t, c, s))
    yield ("collectors as backends", "grpc", "gzip", placed)
    for name in ("python", "js", "java"):
        yield (f"{name} sdk, verdicts", "grpc+http", "none+gzip",
               functools.partial(sampled_sdk, name))
    yield ("telemetrygen, verdicts", "grpc+http", "none+gzip", sampled_telemetrygen)
    for router, samplers in (("tracemill", "tracemill"), ("collector", "tracemill"),
                             ("tracemill", "collector")):
        yield (f"{router} → {samplers}s, verdicts", "grpc", "none",
               lambda s, r=router, t=samplers: both_tiers(r, t, s))
    for signal, key in keys.combinations():
        yield (f"{signal} by {key or 'default'}", "grpc", "none",
               lambda s, g=signal, k=key: placed_by(g, k, s))
    for name, transport, check in refusals.checks():
        yield (f"refusal: {name}", transport, "-",
               lambda s, c=check: (need("collector"), c(s))[1])


def forbidden():
    """Why tracemill cannot run on this machine at all, if so."""
    with tempfile.TemporaryDirectory() as scratch:
        with tracemill(scratch, stage.balancer(["127.0.0.1:1"])) as router:
            try:
                router.started()
            except Failure as why:
                return str(why) if "io_uring" in str(why) else None
            router.stop()
    return None


def line(*cells):
    return " | ".join(str(c).ljust(w) for c, w in zip(cells, WIDTHS)) + " | " + cells[-1]


def main(words):
    strict = bool(os.environ.get("CI"))
    if why := forbidden():
        print(f"SKIPPED: everything. tracemill cannot run here:\n{why}")
        return int(strict)
    failed, skipped = [], []
    print(line("client", "transport", "compression", "sent", "arrived", "ok"), flush=True)
    for name, transport, compression, check in rows():
        title = f"{name} {transport} {compression}"
        if not all(word in title for word in words):
            continue
        sent = got = "-"
        with tempfile.TemporaryDirectory() as scratch:
            try:
                sent, got = check(scratch)
                verdict = "yes"
            except Skip as why:
                verdict = f"SKIPPED: {why}"
                skipped.append(title)
            except (Failure, OSError, subprocess.SubprocessError) as why:
                verdict = f"NO: {why}"
                failed.append(title)
        print(line(name, transport, compression, sent, got, verdict), flush=True)
    for title in skipped:
        print(f"SKIPPED {title}")
    for title in failed:
        print(f"FAILED {title}")
    return 1 if failed or (skipped and strict) else 0


sys.exit(main(sys.argv[1:]))
