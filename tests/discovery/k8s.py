"""`resolver: k8s` against a kube-apiserver with RBAC: rights, slices that change, a lost watch."""

import contextlib
import json
import os
import pathlib
import ssl
import subprocess
import time
import urllib.error
import urllib.request

import world
from stage import Failure, Process
from world import Backends, Load, Router, say, until

PORT = 6443
# An EndpointSlice may not hold addresses of the loopback range.
POD = ["10.9.0.2", "10.9.0.3", "10.9.0.4"]
SLICES = "/apis/discovery.k8s.io/v1/namespaces/obs/endpointslices"
ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/obs/"


class ApiServer(Process):
    """kube-apiserver; what it knows is in etcd and outlives it."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        tokens = self.directory / "tokens.csv"
        tokens.write_text('admin,admin,1,"system:masters"\nrouter,router,2\n')
        key = self.directory / "sa.key"
        if not key.exists():
            subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True,
                           stderr=subprocess.DEVNULL)
        super().__init__("kube-apiserver", [
            os.environ["KUBE_APISERVER"], "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=127.0.0.1", "--advertise-address=10.0.0.1",
            "--endpoint-reconciler-type=none", f"--secure-port={PORT}", f"--cert-dir={directory}",
            f"--token-auth-file={tokens}", "--authorization-mode=RBAC",
            "--service-account-issuer=https://issuer", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount"])

    def ready(self):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with contextlib.suppress(OSError, urllib.error.URLError):
                self.call("GET", "/readyz")
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.3)
        raise Failure(f"kube-apiserver does not come up:\n{self.logged()}")

    def call(self, method, path, body=None):
        trust = ssl.create_default_context(cafile=self.directory / "apiserver.crt")
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"https://127.0.0.1:{PORT}{path}", data, method=method)
        request.add_header("Authorization", "Bearer admin")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10, context=trust) as reply:
            return reply.read()

    def slice(self, method, name, endpoints):
        path = SLICES if method == "POST" else f"{SLICES}/{name}"
        self.call(method, path, {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "tail"}},
            "endpoints": [{"addresses": [address], "conditions": {"ready": ready},
                           "hostname": f"tail-{address[-1]}"} for address, ready in endpoints],
            "ports": [{"port": 4317}]})

    def allow(self):
        self.call("POST", ROLES + "roles", {
            "metadata": {"name": "slices"},
            "rules": [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
                       "verbs": ["get", "list", "watch"]}]})
        self.call("POST", ROLES + "rolebindings", {
            "metadata": {"name": "slices"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "slices"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User",
                          "name": "router"}]})


def kubeconfig(directory):
    path = pathlib.Path(directory) / "kubeconfig"
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {
            "server": f"https://127.0.0.1:{PORT}",
            "certificate-authority": f"{directory}/apiserver.crt"}}],
        "users": [{"name": "x", "user": {"token": "router"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}]}))
    os.environ["KUBECONFIG"] = str(path)


def resolver(**more):
    return {"k8s": {"service": "tail.obs.svc.cluster.local", "ports": [4317], **more}}


def scenario(directory):
    kubeconfig(directory)
    for address in POD:
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    listen = [f"{address}:4317" for address in POD]
    etcd = Process("etcd", ["etcd", "--data-dir", f"{directory}/etcd"])
    with etcd, Backends(listen) as sink, contextlib.ExitStack() as servers:
        api = servers.enter_context(ApiServer(directory)).ready()
        api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "obs"}})
        with Router(directory, resolver()) as router:
            router.started()
            until("without rights the log says which are missing",
                  lambda: router.has_logged("apiGroups: [discovery.k8s.io]"))
            api.allow()
            api.slice("POST", "tail-a", [(POD[0], True), (POD[1], False)])
            until("with them the ready endpoint is found", lambda: router.backends() == 1)
            load = Load(f"127.0.0.1:{router.grpc}", 25)
            api.slice("PUT", "tail-a", [(POD[0], True), (POD[1], True)])
            until("another becomes ready", lambda: router.backends() == 2)
            api.slice("POST", "tail-b", [(POD[2], True), (POD[0], True)])
            until("a second slice adds what the first has not", lambda: router.backends() == 3)
            api.call("DELETE", f"{SLICES}/tail-a")
            until("a slice goes; what the other has too stays", lambda: router.backends() == 2)
            api.__exit__()
            forgets_nothing(router)
            api = servers.enter_context(ApiServer(directory)).ready()
            api.slice("PUT", "tail-b", [(POD[2], True), (POD[1], True)])
            until("what changed meanwhile is seen after it",
                  lambda: router.share(f"{POD[1]}:4317") > 0)
            sent = load.summary()
            router.stop()
        with Router(directory, resolver(return_hostnames=True)) as router:
            router.started()
            until("names of pods in place of addresses",
                  lambda: router.share("tail-3.tail.obs:4317") > 0)
            router.stop()
        received = sink.summary()
    world.delivered(sent, received)


def forgets_nothing(router):
    time.sleep(2)
    if router.backends() != 2:
        raise Failure("backends are forgotten while the API server is away")
    say("ok    while the API server is away the last set stays")


world.main(scenario)
