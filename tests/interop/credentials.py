"""Credentials between the collector and tracemill: who shows them, who checks, right and wrong."""

import collections
import re

from stage import free_ports

SIGNAL = "traces"
BALANCED = "load_balancing"
EXTENSIONS = ("basicauth", "bearertokenauth", "headers")
# what a client has against what a server wants
MISMATCHES = {
    "no certificate": ("TLS", "mTLS"),
    "unknown authority": ("roots", "TLS"),
    "plaintext": ("plain", "TLS"),
    "TLS": ("TLS", "plain"),
}
TOKENS = {"right": "secret", "wrong": "guess"}


class Way(collections.namedtuple("Way", "kind shows checks transport security good")):
    """One try; `good` is "right" or "wrong". `security` is what the server wants."""

    @property
    def name(self):
        return re.sub(r"\W", "-", "-".join(self))

    def prefix(self, signal):
        """The signal stands where `cells.Cell.prefix` has it."""
        return ".".join((self.kind, self.shows, self.transport, signal, self.security, self.good))


def ways():
    for kind in EXTENSIONS + tuple(MISMATCHES):
        for shows, checks in (("collector", "tracemill"), ("tracemill", "collector")):
            for transport in ("grpc", "http/protobuf", BALANCED):
                if (shows, transport) == ("collector", BALANCED):
                    continue
                for security, good in tries(kind, transport):
                    yield Way(kind, shows, checks, transport, security, good)


def tries(kind, transport):
    if kind in MISMATCHES:
        return [(MISMATCHES[kind][1], "wrong")]
    # gRPC of the collector does not show credentials in plaintext
    securities = ("plain", "TLS") if transport == "http/protobuf" else ("TLS",)
    return [(security, good) for security in securities for good in TOKENS]


def shown(kind, good):
    """What an exporter's extension of this kind is."""
    if kind == "basicauth":
        return {"client_auth": {"username": "a", "password": TOKENS[good]}}
    return {"token": TOKENS[good]}


def checked(kind):
    if kind == "basicauth":
        return {"htpasswd": {"inline": "a:secret"}}
    if kind == "bearertokenauth":
        return {"token": "secret"}
    return {"header": "X-Tenant", "scheme": "", "token": "secret"}


class Credentials:
    """Adds its ways to the three configurations of a `collectors.Stage`."""

    def __init__(self, on, words):
        self.ways = [w for w in ways() if all(word in w.prefix("") for word in words)]
        self.sent_to = dict(zip(self.ways, free_ports(len(self.ways))))
        self.said, self.log = {}, ""
        for way in self.ways:
            self.add(way, on)

    def add(self, way, on):
        from collectors import exporter, listening, served

        middle, last = free_ports(2)
        directory = on.directory
        # the hop that this is about has what the way says, the other is plain or right
        inner = way.shows == "collector"
        transport = "grpc" if way.transport == BALANCED else way.transport
        client = MISMATCHES.get(way.kind, (way.security,))[0]
        first_out = exporter(way.name, transport, "none", client if inner else "plain", middle,
                             directory)
        middle_out = exporter(way.name, transport, "none", "plain" if inner else client, last,
                              directory)
        (first,), (second,) = first_out.values(), middle_out.values()
        first["sending_queue"] = {"enabled": False}
        middle_in = served(way.security if inner else "plain", directory)
        last_in = served("plain" if inner else way.security, directory)
        out, server = (first, middle_in) if inner else (second, last_in)
        if way.kind == "headers" and not inner:
            # from the request, through tracemill
            middle_in["include_metadata"] = True
        if way.kind == "headers":
            first["headers"] = {"x-tenant": TOKENS[way.good]}
        if way.kind in EXTENSIONS:
            show, check = self.extensions(way, on)
            if show:
                out["auth"] = {"authenticator": show}
            server["auth"] = {"authenticator": check}
        if way.transport == BALANCED:
            endpoint = second.pop("endpoint")
            middle_out = {f"load_balancing/{way.name}": {
                "protocol": {"otlp": second},
                "resolver": {"static": {"hostnames": [endpoint]}}}}
        on.first.add(way.name, [SIGNAL], listening(way.name, "grpc", self.sent_to[way]), first_out)
        on.middle.add(way.name, [SIGNAL], listening(way.name, transport, middle, **middle_in),
                      middle_out)
        on.last.add(way.name, [SIGNAL], listening(way.name, transport, last, **last_in),
                    {"file": {"path": f"{directory}/out.json"}})

    @staticmethod
    def extensions(way, on):
        """Names of the extensions that show and that check, which are made."""
        inner = way.shows == "collector"
        showing, checking = (on.first, on.middle) if inner else (on.middle, on.last)
        show, check = f"{way.kind}/{way.good}", f"{way.kind}/check"
        if way.kind == "headers":
            show, check = None if inner else "headers_setter", "bearertokenauth/tenant"
            made = {"headers": [{"key": "x-tenant", "from_context": "x-tenant"}]}
        else:
            made = shown(way.kind, way.good)
        if show:
            showing.extend({show: made})
        checking.extend({check: checked(way.kind)})
        return show, check

    def send(self, send):
        for way in self.ways:
            self.said[way] = send(self.sent_to[way], SIGNAL, way.prefix(SIGNAL))

    def heard(self, middle):
        """Keeps the log of tracemill, once it has ended."""
        middle.log.seek(0)
        self.log = middle.log.read()

    def judged(self, seen, arrived):
        """Lines of the table."""
        for way in self.ways:
            if way.good == "right" and way._replace(good="wrong") in self.ways:
                continue
            right, wrong = way._replace(good="right"), way._replace(good="wrong")
            verdict = "–"
            if right in self.ways:
                bad = self.said[right] or arrived(seen[right.prefix(SIGNAL)])
                verdict = f"NO: {bad}" if bad else "yes"
            said = self.said[wrong] if wrong.shows == "collector" else self.complaint(wrong)
            refused = not seen[wrong.prefix(SIGNAL)] and said
            yield (
                *self.names(way), way.transport, way.security, verdict,
                "refused" if refused else "NO: let in, or nothing said",
                "`" + re.sub(r"(localhost|127\.0\.0\.1|\[::1\]):\d+", r"\1:PORT", said) + "`",
            )

    def complaint(self, way):
        """The error of tracemill's last line about it."""
        lines = [line for line in self.log.splitlines() if f"/{way.name}\"" in line]
        errors = [m[1] for line in lines if (m := re.search(r'"error": "((?:[^"\\]|\\.)*)"', line))]
        return errors[-1].replace('\\"', '"') if errors else ""

    @staticmethod
    def names(way):
        show = check = f"`{way.kind}`"
        if way.kind == "headers":
            show, check = "`headers`", "`bearertokenauth` with `header: X-Tenant`"
            if way.shows == "tracemill":
                show = "`headers_setter` from the request"
        if way.kind in MISMATCHES:
            show, check = way.kind, "certificate" if way.security == "mTLS" else way.security
        return f"{way.shows}: {show}", f"{way.checks}: {check}"
