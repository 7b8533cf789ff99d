//! `load_balancing` exporter, formerly `loadbalancing` (loadbalancing 1).

use std::time::Duration;

use super::address::host_port;
use super::{grpc_client, queue, retry};
use crate::config::plan::{ExporterKind, LoadBalancing, Resolver};
use crate::config::read::{Absent, Block};
use crate::otlp::Signal;
use crate::route::{Generation, Key};
use crate::upstream::options::MergeOptions;

/// The collector's own bound of a fan-out when `timeout` is not given (loadbalancing 1.1).
const TIMEOUT: Duration = Duration::from_secs(5);
const NOT_YET: &str = "is not in this release";
const RESOLVERS: [&str; 4] = ["static", "dns", "k8s", "aws_cloud_map"];

/// Reads the exporter; `signals` are those of the pipelines that use it.
pub fn read(
    b: &mut Block<'_>,
    signals: &[Signal],
    ring: Generation,
    merge: &MergeOptions,
) -> ExporterKind {
    let keys = routing_keys(b, signals);
    let template = b.block("protocol", |b| {
        b.block("otlp", |b| {
            if b.has("endpoint") {
                let what = "has no effect: backends come from the resolver";
                b.warn_at("endpoint", what, "leave it out");
                b.unrecorded(grpc_client::endpoint);
            }
            grpc_client::read(b, false, merge)
        })
    });
    let resolver = b.block("resolver", resolver);
    let timeout = match b.duration("timeout", TIMEOUT) {
        Duration::ZERO => TIMEOUT,
        timeout => timeout,
    };
    let retry = retry::read(b, false, true);
    let queue = queue::read(b, Absent::Off, &mut MergeOptions::default());
    ExporterKind::LoadBalancing(Box::new(LoadBalancing {
        template,
        keys,
        resolver,
        ring,
        timeout,
        retry,
        queue,
    }))
}

/// What each signal is routed by (loadbalancing 1.2, 1.3).
fn routing_keys(b: &mut Block<'_>, signals: &[Signal]) -> [Key; 3] {
    let key = b.text("routing_key", "");
    let attributes = b.texts("routing_attributes", &[]);
    let keys = Signal::ALL.map(|signal| Key::of(signal, &key, &attributes));
    if (key == "attributes") == attributes.is_empty() {
        let (at, what) = match attributes.is_empty() {
            false => ("routing_attributes", "stand only beside routing_key: attributes"),
            true => ("routing_key", "attributes wants routing_attributes"),
        };
        b.error_at(at, what, "routing_key: attributes\nrouting_attributes: [service.name]");
        return keys.map(Option::unwrap_or_default);
    }
    for &signal in signals.iter().filter(|&&signal| keys[signal as usize].is_none()) {
        let name = signal.name();
        let right = if signal == Signal::Traces { "traceID" } else { "service" };
        let what = format!("\"{key}\" cannot route {name}");
        b.error_at("routing_key", what, &format!("routing_key: {right}"));
    }
    keys.map(Option::unwrap_or_default)
}

/// Exactly one resolver (loadbalancing 1.3).
fn resolver(b: &mut Block<'_>) -> Resolver {
    let given: Vec<&str> = RESOLVERS.into_iter().filter(|r| b.has(r)).collect();
    let hostnames = b.optional("static", Absent::OffAlsoIfNull, hostnames);
    for other in &RESOLVERS[1..] {
        if b.has(other) {
            old_dns_port(b);
            let right = "resolver:\n  static:\n    hostnames: [backend-1:4317, backend-2:4317]";
            b.refuse_at(other, format!("the {other} resolver {NOT_YET}"), right);
        }
    }
    let right = "static: {hostnames: [backend-1:4317, backend-2:4317]}";
    match given.len() {
        _ if !b.in_use() => {}
        0 => b.error("no resolver is given", right),
        1 => {}
        _ => b.error(format!("more than one resolver: {}", given.join(", ")), right),
    }
    let mut hostnames = hostnames.unwrap_or_default();
    // Bytewise, duplicates kept (loadbalancing 1.6, 2.2).
    hostnames.sort();
    Resolver::Static(hostnames)
}

/// Old form: `port: 4317` without quotes, which the collector refuses (configs 4).
fn old_dns_port(b: &mut Block<'_>) {
    b.unrecorded(|b| {
        b.lenient("dns", |dns| {
            if dns.is_int("port") {
                let what = "a port without quotes is refused by the collector";
                dns.warn_at("port", what, "port: \"4317\"");
            }
        });
    });
}

fn hostnames(b: &mut Block<'_>) -> Vec<String> {
    let names = b.texts("hostnames", &[]);
    if names.is_empty() && b.in_use() {
        b.error("no hostnames", "hostnames: [backend-1:4317, backend-2:4317]");
    }
    let mut seen: Vec<&str> = Vec::new();
    for name in &names {
        if seen.contains(&name.as_str()) {
            let what =
                format!("\"{name}\" stands twice: it gets a double share, as in the collector");
            b.warn_at("hostnames", what, "");
        }
        seen.push(name);
        check_hostname(b, name);
    }
    names
}

/// What the collector finds only when it dials. The default port is added when dialling, never
/// before hashing (loadbalancing 1.7).
fn check_hostname(b: &Block<'_>, name: &str) {
    if let Some((scheme, rest)) = name.split_once("://") {
        let what = match scheme {
            "https" => {
                format!("\"{name}\" is a URL; TLS is what protocol.otlp.tls says, of all backends")
            }
            _ => format!("\"{name}\" is a URL, not host:port"),
        };
        b.refuse_at(
            "hostnames",
            what,
            &format!("write {rest}; the ring hashes the text as written"),
        );
        return;
    }
    let dialled = if name.contains(':') { name.to_owned() } else { format!("{name}:4317") };
    let problem = match host_port(&dialled) {
        Ok(("", _)) => Some("has no host".to_owned()),
        Ok((_, 0)) => Some("has port 0".to_owned()),
        Ok(_) => None,
        Err(what) => Some(what),
    };
    if let Some(what) = problem {
        b.refuse_at("hostnames", format!("\"{name}\" {what}"), "hostnames: [backend-1:4317]");
    }
}
