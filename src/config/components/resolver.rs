//! `resolver` of `load_balancing`: exactly one of four (loadbalancing 1.3, 1.6).

use std::net::IpAddr;
use std::time::Duration;

use super::address::host_port;
use crate::config::read::{Absent, Block};
use crate::upstream::resolve::cloud_map::{self, HealthStatus};
use crate::upstream::resolve::{Options, dns, k8s};

const RESOLVERS: [&str; 4] = ["static", "dns", "k8s", "aws_cloud_map"];

/// Reads the block; several resolvers are an error, so that it does not matter which one is given.
pub fn read(b: &mut Block<'_>) -> Options {
    let given: Vec<&str> = RESOLVERS.into_iter().filter(|r| b.has(r)).collect();
    let hostnames = b.optional("static", Absent::OffAlsoIfNull, hostnames);
    let dns = b.optional("dns", Absent::OffAlsoIfNull, dns);
    let k8s = b.optional("k8s", Absent::OffAlsoIfNull, k8s);
    let right = "static: {hostnames: [backend-1:4317, backend-2:4317]}";
    let cloud_map = b.optional("aws_cloud_map", Absent::OffAlsoIfNull, cloud_map);
    match given.len() {
        _ if !b.in_use() => {}
        0 => b.error("no resolver is given", right),
        1 => {}
        _ => b.error(format!("more than one resolver: {}", given.join(", ")), right),
    }
    let mut hostnames = hostnames.unwrap_or_default();
    // Bytewise, duplicates kept (loadbalancing 1.6, 2.2).
    hostnames.sort();
    let others = [dns.map(Options::Dns), k8s.map(Options::K8s), cloud_map.map(Options::CloudMap)];
    others.into_iter().flatten().next().unwrap_or(Options::Static(hostnames))
}

fn dns(b: &mut Block<'_>) -> dns::Options {
    let default = dns::Options::default();
    let hostname = b.text("hostname", "");
    if hostname.is_empty() {
        b.error("no hostname specified to resolve the backends", "hostname: samplers.example");
    } else if hostname.parse::<IpAddr>().is_err() && host_port(&format!("{hostname}:1")).is_err() {
        let what = format!("\"{hostname}\" is not a name");
        b.error_at("hostname", what, "hostname: samplers.example   # the port stands beside it");
    }
    let port = port(b);
    let interval = not_zero(b.duration("interval", default.interval), default.interval);
    let timeout = not_zero(b.duration("timeout", default.timeout), default.timeout);
    dns::Options { hostname, port, interval, timeout }
}

/// Text, as in the collector; a bare number is what many files have (configs 4).
fn port(b: &mut Block<'_>) -> String {
    let port = if b.is_int("port") {
        let what = "a port without quotes is refused by the collector";
        b.warn_at("port", what, "port: \"4317\"");
        b.scalar_text("port")
    } else {
        b.text("port", "")
    };
    if !port.is_empty() && !matches!(port.parse::<u16>(), Ok(1..)) {
        b.error_at("port", format!("\"{port}\" is no port"), "port: \"4317\"");
    }
    port
}

fn k8s(b: &mut Block<'_>) -> k8s::Options {
    let written = b.text("service", "");
    let service = k8s::Service::parse(&written).unwrap_or_else(|what| {
        b.error_at("service", what, "service: samplers.observability");
        k8s::Service::default()
    });
    let ports = b.numbers("ports", 1 << 16);
    if ports.contains(&0) {
        b.error_at("ports", "0 is no port", "ports: [4317]");
    }
    let ports = ports.into_iter().filter_map(|port| i32::try_from(port).ok()).collect();
    let default = Duration::from_secs(60);
    let timeout = not_zero(b.duration("timeout", default), default);
    let return_hostnames = b.flag("return_hostnames", false);
    k8s::Options { service, ports, timeout, return_hostnames }
}

fn cloud_map(b: &mut Block<'_>) -> cloud_map::Options {
    let namespace = b.text("namespace", "");
    if namespace.is_empty() {
        b.error("no Cloud Map namespace specified to resolve the backends", "namespace: obs");
    }
    let service_name = b.text("service_name", "");
    if service_name.is_empty() {
        let what = "no Cloud Map service_name specified to resolve the backends";
        b.error(what, "service_name: samplers");
    }
    let status = |status: HealthStatus| (status.name(), Some(status));
    let choices = [
        ("", None),
        status(HealthStatus::Healthy),
        status(HealthStatus::Unhealthy),
        status(HealthStatus::All),
        status(HealthStatus::HealthyOrElseAll),
    ];
    let health_status = b.choice("health_status", "", &choices, None);
    let (interval, timeout) = (Duration::from_secs(30), Duration::from_secs(5));
    let interval = not_zero(b.duration("interval", interval), interval);
    let timeout = not_zero(b.duration("timeout", timeout), timeout);
    let port = b.has("port").then(|| b.unsigned32("port", 0));
    let port = port.map(|port| match u16::try_from(port) {
        Ok(port @ 1..) => port,
        _ => {
            b.error_at("port", format!("{port} is no port"), "port: 4317");
            1
        }
    });
    let owner_account = b.text("owner_account", "");
    let owner_account = (!owner_account.is_empty()).then_some(owner_account);
    cloud_map::Options {
        namespace,
        service_name,
        health_status,
        interval,
        timeout,
        port,
        owner_account,
    }
}

/// Zero is the default in the collector.
fn not_zero(written: Duration, default: Duration) -> Duration {
    if written.is_zero() { default } else { written }
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
