//! `k8s`: the ready endpoints of a service, by watching its EndpointSlices (loadbalancing 1.6).
//!
//! Endpoints are kept by slice, and what is told is their union: an address that moves from one
//! slice to another does not leave in between (the collector loses it). After a lost watch
//! everything is listed anew, and what has gone meanwhile leaves then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::config::KubeConfigOptions;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config};

/// `k8s` of a resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whose endpoints.
    pub service: Service,
    /// Each address once with each port; without ports the ring hashes bare addresses.
    pub ports: Vec<i32>,
    /// How long one list or watch may last before it is begun anew; whole seconds.
    pub timeout: Duration,
    /// Names of pods (of a StatefulSet behind a headless service) in place of addresses.
    pub return_hostnames: bool,
}

/// A watch may not last longer, says the client library.
const TIMEOUT_MAX: Duration = Duration::from_secs(294);

/// A service as written in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its namespace; ours, if it is not written.
    pub namespace: Option<String>,
}

impl Service {
    /// Reads `name`, `name.namespace` or `name.namespace.svc.domain` (loadbalancing 1.6).
    ///
    /// # Errors
    /// The collector's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('.').collect();
        let wrong = |what: &str| Err(format!("invalid Kubernetes service FQDN: {what}"));
        let (name, namespace) = (parts[0], parts.get(1).copied().unwrap_or_default());
        if name.is_empty() {
            return Err("no service specified to resolve the backends".into());
        }
        if parts.len() > 2 && namespace.is_empty() {
            return wrong(&format!("namespace segment missing in \"{text}\""));
        }
        if parts.get(2).is_some_and(|third| *third != "svc") {
            return wrong(&format!("expected third DNS label to be 'svc' in \"{text}\""));
        }
        if parts.len() == 3 {
            return wrong(&format!("missing cluster domain in \"{text}\""));
        }
        let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        Ok(Self { name: name.to_owned(), namespace })
    }
}

/// Why the API server did not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no cluster to ask.
    NoCluster(String),
    /// It answered that we may not know.
    Forbidden {
        /// In which namespace.
        namespace: String,
        /// Its words.
        cause: String,
    },
    /// Anything else; it is asked again.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCluster(cause) => write!(
                f,
                "no Kubernetes cluster is configured: {cause} (inside a pod this needs a mounted \
                 service account token; outside, KUBECONFIG)"
            ),
            Self::Forbidden { namespace, cause } => write!(
                f,
                "{cause} (the service account needs a Role in namespace {namespace} with \
                 apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, \
                 watch], and a RoleBinding)"
            ),
            Self::Failed(cause) => f.write_str(cause),
        }
    }
}

/// Watches the endpoints of one service.
pub struct K8s {
    options: Options,
    namespace: String,
    events: BoxStream<'static, watcher::Result<Event<EndpointSlice>>>,
    slices: Slices,
}

impl fmt::Debug for K8s {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("K8s").field("options", &self.options).finish_non_exhaustive()
    }
}

impl K8s {
    /// Begins to watch.
    ///
    /// # Errors
    /// If no cluster is configured.
    pub async fn new(options: Options) -> Result<Self, super::Error> {
        let no_cluster = |cause| super::Error::Kubernetes(Error::NoCluster(cause));
        // Another part of the process may have chosen the same one before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = config().await.map_err(no_cluster)?;
        let namespace = match &options.service.namespace {
            Some(namespace) => namespace.clone(),
            None => own_namespace(),
        };
        let client = Client::try_from(config).map_err(|e| no_cluster(e.to_string()))?;
        let api: Api<EndpointSlice> = Api::namespaced(client, &namespace);
        let label = format!("kubernetes.io/service-name={}", options.service.name);
        let timeout = options.timeout.clamp(Duration::from_secs(1), TIMEOUT_MAX).as_secs();
        let timeout = u32::try_from(timeout).expect("it is clamped");
        let watching = watcher::Config::default().labels(&label).timeout(timeout);
        let events = watcher::watcher(api, watching).default_backoff().boxed();
        Ok(Self { options, namespace, events, slices: Slices::default() })
    }

    /// What the service has after the next change.
    ///
    /// # Errors
    /// What the API server says; it is asked again, with growing waits.
    pub async fn next(&mut self) -> Result<Vec<String>, Error> {
        loop {
            let event = match self.events.next().await {
                Some(Ok(event)) => event,
                Some(Err(e)) => return Err(self.failure(&e)),
                // It does not end by itself.
                None => std::future::pending().await,
            };
            if self.slices.take(event, self.options.return_hostnames) {
                let Options { service, ports, return_hostnames, .. } = &self.options;
                let suffix =
                    return_hostnames.then(|| format!(".{}.{}", service.name, self.namespace));
                return Ok(names(&self.slices.hosts(), suffix.as_deref().unwrap_or(""), ports));
            }
        }
    }

    fn failure(&self, e: &watcher::Error) -> Error {
        let status = match e {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status,
            watcher::Error::WatchError(status) => status,
            _ => return Error::Failed(super::https::told(e)),
        };
        match status.code {
            401 | 403 => Error::Forbidden {
                namespace: self.namespace.clone(),
                cause: status.message.clone(),
            },
            _ => Error::Failed(status.message.clone()),
        }
    }
}

/// In the order of the collector's client: KUBECONFIG, the pod's own account, the user's file.
async fn config() -> Result<Config, String> {
    if std::env::var_os("KUBECONFIG").is_none()
        && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    {
        return Config::incluster().map_err(|e| e.to_string());
    }
    Config::from_kubeconfig(&KubeConfigOptions::default()).await.map_err(|e| e.to_string())
}

const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Ours, or `default` outside a pod (loadbalancing 1.6).
fn own_namespace() -> String {
    let read = std::fs::read_to_string(NAMESPACE_FILE);
    read.map_or_else(
        |e| {
            tracing::warn!(
                "The service has no namespace and ours is not known: \"default\" is taken. \
                 {NAMESPACE_FILE}: {e}"
            );
            "default".into()
        },
        |text| text.trim().to_owned(),
    )
}

/// The ready endpoints, by the name of their slice.
#[derive(Debug, Default)]
struct Slices {
    now: BTreeMap<String, BTreeSet<String>>,
    /// While everything is listed anew.
    anew: Option<BTreeMap<String, BTreeSet<String>>>,
}

impl Slices {
    /// True if there may be something new to tell.
    fn take(&mut self, event: Event<EndpointSlice>, hostnames: bool) -> bool {
        match event {
            Event::Init => self.anew = Some(BTreeMap::new()),
            Event::InitApply(slice) => {
                let anew = self.anew.get_or_insert_default();
                anew.insert(name_of(&slice), hosts(&slice, hostnames));
            }
            Event::InitDone => self.now = self.anew.take().unwrap_or_default(),
            Event::Apply(slice) => {
                self.now.insert(name_of(&slice), hosts(&slice, hostnames));
            }
            Event::Delete(slice) => {
                self.now.remove(&name_of(&slice));
            }
        }
        // Half a list is not told.
        self.anew.is_none()
    }

    fn hosts(&self) -> BTreeSet<&str> {
        self.now.values().flatten().map(String::as_str).collect()
    }
}

fn name_of(slice: &EndpointSlice) -> String {
    slice.metadata.name.clone().unwrap_or_default()
}

/// A missing `conditions.ready` means ready. A pod without a hostname is left out until it has one.
fn hosts(slice: &EndpointSlice, hostnames: bool) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    for endpoint in slice.endpoints.iter() {
        if endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(false) {
            continue;
        }
        match (&endpoint.hostname, hostnames) {
            (_, false) => hosts.extend(endpoint.addresses.iter().cloned()),
            (Some(name), true) if !name.is_empty() => drop(hosts.insert(name.clone())),
            _ => tracing::warn!(
                slice = name_of(slice),
                "An endpoint has no hostname yet and is left out: return_hostnames wants a \
                 headless service that is the serviceName of a StatefulSet."
            ),
        }
    }
    hosts
}

/// As the collector writes them: an IPv6 address stands in brackets only before a port.
fn names(hosts: &BTreeSet<&str>, suffix: &str, ports: &[i32]) -> Vec<String> {
    let mut names = Vec::new();
    for host in hosts {
        let host = format!("{host}{suffix}");
        let joined = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        names.extend(ports.iter().map(|port| format!("{joined}:{port}")));
        if ports.is_empty() {
            names.push(host);
        }
    }
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_written_in_three_forms() {
        let service = |name: &str, namespace: Option<&str>| {
            Ok(Service { name: name.into(), namespace: namespace.map(str::to_owned) })
        };
        let rows = [
            ("tail", service("tail", None)),
            ("tail.", service("tail", None)),
            ("tail.obs", service("tail", Some("obs"))),
            ("tail.obs.svc.cluster.local", service("tail", Some("obs"))),
            ("", Err("no service specified")),
            (".obs", Err("no service specified")),
            ("tail..svc.x", Err("namespace segment missing")),
            ("tail.obs.pod.x", Err("to be 'svc'")),
            ("tail.obs.svc", Err("missing cluster domain")),
        ];
        for (text, want) in rows {
            match (Service::parse(text), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    /// A slice of `(address, hostname, ready)`.
    fn slice(name: &str, endpoints: &[(&str, &str, Option<bool>)]) -> EndpointSlice {
        let endpoint = |&(address, hostname, ready): &(&str, &str, Option<bool>)| {
            serde_json::json!({
                "addresses": [address], "hostname": hostname, "conditions": {"ready": ready},
            })
        };
        let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
        let slice = serde_json::json!({
            "metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints,
        });
        serde_json::from_value(slice).expect("a slice")
    }

    fn told(slices: &mut Slices, event: Event<EndpointSlice>) -> Option<Vec<String>> {
        slices.take(event, false).then(|| names(&slices.hosts(), "", &[]))
    }

    #[test]
    fn what_is_told_is_the_union_of_all_slices_and_never_half_a_list() {
        let mut slices = Slices::default();
        let list = |list: &[&str]| Some(list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(told(&mut slices, Event::Init), None);
        let a = slice("a", &[("10.0.0.1", "", None), ("10.0.0.9", "", Some(false))]);
        assert_eq!(told(&mut slices, Event::InitApply(a)), None);
        let b = slice("b", &[("10.0.0.2", "", Some(true))]);
        assert_eq!(told(&mut slices, Event::InitApply(b)), None);
        assert_eq!(told(&mut slices, Event::InitDone), list(&["10.0.0.1", "10.0.0.2"]));
        // An endpoint moves from one slice to the other.
        let b = slice("b", &[("10.0.0.2", "", None), ("10.0.0.1", "", None)]);
        assert_eq!(told(&mut slices, Event::Apply(b)), list(&["10.0.0.1", "10.0.0.2"]));
        let a = slice("a", &[]);
        assert_eq!(told(&mut slices, Event::Delete(a)), list(&["10.0.0.1", "10.0.0.2"]));
        // The watch is lost; meanwhile one has gone.
        let kept = slices.hosts().len();
        slices.take(Event::Init, false);
        assert_eq!(slices.hosts().len(), kept);
        let b = slice("b", &[("10.0.0.2", "", None)]);
        assert_eq!(told(&mut slices, Event::InitApply(b)), None);
        assert_eq!(told(&mut slices, Event::InitDone), list(&["10.0.0.2"]));
        assert_eq!(told(&mut slices, Event::Delete(slice("b", &[]))), list(&[]));
    }

    #[test]
    fn a_pod_without_hostname_is_left_out_and_the_others_stay() {
        let slice = slice("a", &[("10.0.0.1", "tail-0", None), ("10.0.0.2", "", None)]);
        assert_eq!(hosts(&slice, true), BTreeSet::from(["tail-0".to_owned()]));
        assert_eq!(hosts(&slice, false).len(), 2);
    }

    #[test]
    fn names_are_written_as_the_collector_writes_them() {
        let hosts = BTreeSet::from(["10.0.0.1", "fd00::1"]);
        assert_eq!(names(&hosts, "", &[]), ["10.0.0.1", "fd00::1"]);
        let want = ["10.0.0.1:4317", "10.0.0.1:4318", "[fd00::1]:4317", "[fd00::1]:4318"];
        assert_eq!(names(&hosts, "", &[4317, 4318]), want);
        let pods = BTreeSet::from(["tail-0"]);
        assert_eq!(names(&pods, ".tail.obs", &[4317]), ["tail-0.tail.obs:4317"]);
    }
}
