"""`resolver: dns` against dnsmasq, which changes its answers, fails, is silent and truncates."""

import contextlib
import pathlib
import signal
import socket
import subprocess

import world
from stage import Failure, Process
from world import Backends, Load, Router, say, until

NAME = "samplers.test"
SERVER = "127.0.0.1"


class Dnsmasq(Process):
    """Serves the addresses in a file, with a TTL that no test outlives."""

    def __init__(self, hosts):
        super().__init__("dnsmasq", [
            "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
            "--user=root", "--port=53", f"--listen-address={SERVER}", "--bind-interfaces",
            "--local=/test/", "--local-ttl=86400", "--edns-packet-max=512",
            f"--addn-hosts={hosts}", "--pid-file="])
        self.wait_for(53)

    def reread(self):
        self.process.send_signal(signal.SIGHUP)


def use_name_server(directory):
    """Only in this mount namespace."""
    conf = pathlib.Path(directory) / "resolv.conf"
    conf.write_text(f"nameserver {SERVER}\noptions timeout:1 attempts:1\n")
    target = pathlib.Path("/etc/resolv.conf").resolve()
    subprocess.run(["mount", "--bind", str(conf), str(target)], check=True)


def scenario(directory):
    use_name_server(directory)
    hosts = pathlib.Path(directory) / "hosts"

    def serve(addresses, dns=None):
        hosts.write_text("".join(f"{address} {NAME}\n" for address in addresses))
        if dns:
            dns.reread()

    four = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "::1"]
    listen = [f"[{a}]:4317" if ":" in a else f"{a}:4317" for a in four]
    resolver = {"dns": {"hostname": NAME, "port": "4317", "interval": "500ms",
                        "timeout": "400ms"}}
    serve(four[:2])
    with Backends(listen) as sink, contextlib.ExitStack() as servers:
        dns = servers.enter_context(Dnsmasq(hosts))
        with Router(directory, resolver) as router:
            router.started()
            until("two addresses are two backends", lambda: router.backends() == 2)
            load = Load(f"127.0.0.1:{router.grpc}", 20)
            serve(four, dns)
            until("two more, one of them AAAA, TTL or not", lambda: router.backends() == 4)
            serve(four[1:], dns)
            until("one leaves", lambda: router.backends() == 3)
            serve([], dns)
            keeps(router, "an empty answer keeps the last good one")
            dns.__exit__()
            keeps(router, "no name server keeps the last good one")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
                silent.bind((SERVER, 53))
                keeps(router, "a name server that is silent keeps the last good one")
            serve(four)
            dns = servers.enter_context(Dnsmasq(hosts))
            until("a name server that comes back is heard", lambda: router.backends() == 4)
            sent = load.summary()
            many = [f"127.0.1.{i}" for i in range(1, 61)]
            serve(many, dns)
            until("an answer that is truncated is asked for by TCP",
                  lambda: router.backends() == 60)
            router.stop()
        received = sink.summary()
    world.delivered(sent, received)


def keeps(router, what):
    before, failed = router.backends(), router.resolutions("false")
    until(f"({what}: failures are counted)", lambda: router.resolutions("false") >= failed + 2)
    if router.backends() != before:
        raise Failure(f"{what}: {router.backends()} backends")
    say(f"ok    {what}")


world.main(scenario)
