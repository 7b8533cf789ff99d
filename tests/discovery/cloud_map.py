"""`resolver: aws_cloud_map` against a stand-in for AWS that checks signatures (SigV4)."""

import hashlib
import hmac
import http.server
import json
import os
import threading

import world
from stage import free_ports
from world import Backends, Load, Router, say, until

KEY, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-west-1"
TARGET = "Route53AutoNaming_v20170314.DiscoverInstances"


def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(method, path, headers, signed, body, scope, stamp):
    """As the documentation of AWS derives it."""
    lines = [method, path, ""]
    lines += [f"{name}:{headers[name].strip()}" for name in signed.split(";")]
    lines += ["", signed, hashlib.sha256(body).hexdigest()]
    request = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = sign(key, part)
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, request])
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class CloudMap(http.server.BaseHTTPRequestHandler):
    instances, asked, faults = [], [], []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            self.check(body)
        except (AssertionError, KeyError, ValueError) as e:
            CloudMap.faults.append(repr(e))
            return self.answer(403, {"__type": "InvalidSignatureException", "message": str(e)})
        CloudMap.asked.append(json.loads(body))
        instances = [{"InstanceId": ip, "Attributes": {"AWS_INSTANCE_IPV4": ip,
                      "AWS_INSTANCE_PORT": "4317"}} for ip in CloudMap.instances]
        return self.answer(200, {"Instances": instances})

    def check(self, body):
        assert self.headers["x-amz-target"] == TARGET
        fields = self.headers["authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(",")
        fields = dict(field.strip().split("=", 1) for field in fields)
        key, scope = fields["Credential"].split("/", 1)
        stamp = self.headers["x-amz-date"]
        assert (key, scope) == (KEY, f"{stamp[:8]}/{REGION}/servicediscovery/aws4_request")
        want = signature("POST", self.path, self.headers, fields["SignedHeaders"], body, scope, stamp)
        assert fields["Signature"] == want, "the signature does not match"

    def answer(self, code, what):
        body = json.dumps(what).encode()
        self.send_response(code)
        self.send_header("content-type", "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def scenario(directory):
    (port,) = free_ports(1)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), CloudMap)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_REGION=REGION,
                      AWS_ENDPOINT_URL_SERVICEDISCOVERY=f"http://127.0.0.1:{port}")
    resolver = {"aws_cloud_map": {"namespace": "obs", "service_name": "tail", "interval": "300ms",
                                  "health_status": "HEALTHY", "owner_account": "123"}}
    CloudMap.instances = ["127.0.0.2", "127.0.0.3"]
    with Backends([f"127.0.0.{i}:4317" for i in (2, 3, 4)]) as sink:
        with Router(directory, resolver, kind="aws") as router:
            router.started()
            until("two instances are two backends", lambda: router.backends() == 2)
            asked = CloudMap.asked[0]
            assert asked == {"NamespaceName": "obs", "ServiceName": "tail",
                             "HealthStatus": "HEALTHY", "OwnerAccount": "123"}, asked
            assert not CloudMap.faults, CloudMap.faults
            say("ok    the question is the collector's, and its signature holds")
            load = Load(f"127.0.0.1:{router.grpc}", 5)
            CloudMap.instances = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
            until("a third is found", lambda: router.backends() == 3)
            server.shutdown()
            server.server_close()
            failed = router.resolutions("false")
            until("failures are counted", lambda: router.resolutions("false") >= failed + 2)
            assert router.backends() == 3
            say("ok    without an answer the last set stays")
            sent = load.summary()
            router.stop()
        world.delivered(sent, sink.summary())


world.main(scenario)
