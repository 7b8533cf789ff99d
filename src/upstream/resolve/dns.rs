//! `dns`: all addresses of one name, A and AAAA, asked for every `interval` (loadbalancing 1.6).
//!
//! Name servers, search domains and hosts come from the machine's own files, read anew for each
//! look-up, as in the collector: what changes there needs no restart. Nothing is cached, so that
//! the interval alone says how often name servers are asked, whatever the TTL. Name servers are
//! asked only if the hosts file does not know the name.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use tokio::time::Interval;

use super::{Error, hosts};

const HOSTS_FILE: &str = "/etc/hosts";

/// `dns` of a resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The name.
    pub hostname: String,
    /// Added to each address; the ring hashes an address without port if this is empty.
    pub port: String,
    /// From one look-up to the next.
    pub interval: Duration,
    /// Bound of one look-up.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hostname: String::new(),
            port: String::new(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
        }
    }
}

/// Asks for one name.
#[derive(Debug)]
pub struct Dns {
    options: Options,
    ticks: Interval,
}

impl Dns {
    /// Asks at once and then at every interval.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let ticks = super::every(options.interval);
        Self { options, ticks }
    }

    /// The addresses at the next interval.
    ///
    /// # Errors
    /// If there are none, or name servers do not answer in time.
    pub async fn next(&mut self) -> Result<Vec<String>, Error> {
        self.ticks.tick().await;
        let Options { hostname, port, timeout, .. } = &self.options;
        let fail = |cause| Error::LookUp { hostname: hostname.clone(), cause };
        match tokio::time::timeout(*timeout, look_up(hostname)).await {
            Ok(Ok(found)) if found.is_empty() => Err(fail("the name has no address".into())),
            Ok(Ok(found)) => Ok(names(&found, port)),
            Ok(Err(cause)) => Err(fail(cause)),
            Err(_) => Err(fail(format!("no answer within {timeout:?}"))),
        }
    }
}

async fn look_up(hostname: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = hostname.parse() {
        return Ok(vec![address]);
    }
    // A machine may have none.
    let file = std::fs::read(HOSTS_FILE).unwrap_or_default();
    let known = hosts::addresses(&String::from_utf8_lossy(&file), hostname);
    if !known.is_empty() { Ok(known) } else { ask(hostname).await }
}

/// Asks name servers.
async fn ask(hostname: &str) -> Result<Vec<IpAddr>, String> {
    if is_localhost(hostname) {
        return Err("no such host".to_owned());
    }
    let mut builder = TokioResolver::builder_tokio().map_err(|e| e.to_string())?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    let resolver = builder.build().map_err(|e| e.to_string())?;
    let found = resolver.lookup_ip(hostname).await.map_err(|e| e.to_string())?;
    Ok(found.iter().collect())
}

/// The resolver would not ask, but make up a loopback address of each family.
fn is_localhost(hostname: &str) -> bool {
    let last = hostname.trim_end_matches('.').rsplit('.').next();
    last.is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
}

/// As the collector writes them; an IPv4 address in IPv6 clothes is an IPv4 address to Go.
fn names(found: &[IpAddr], port: &str) -> Vec<String> {
    let name = |ip: &IpAddr| {
        let host = match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        if port.is_empty() { host } else { format!("{host}:{port}") }
    };
    let mut names: Vec<String> = found.iter().map(name).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_and_sorted_as_the_ring_hashes_them() {
        let found: Vec<IpAddr> = ["10.0.0.1", "10.0.0.10", "fd00::2", "::ffff:10.0.0.3"]
            .iter()
            .map(|ip| ip.parse().expect("an address"))
            .collect();
        let with_port = ["10.0.0.10:4317", "10.0.0.1:4317", "10.0.0.3:4317", "[fd00::2]:4317"];
        assert_eq!(names(&found, "4317"), with_port);
        assert_eq!(names(&found, ""), ["10.0.0.1", "10.0.0.10", "10.0.0.3", "[fd00::2]"]);
        assert_eq!(names(&[found[0], found[0]], ""), ["10.0.0.1", "10.0.0.1"]);
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer_and_a_name_without_address_says_so() {
        let options = Options { hostname: "127.0.0.1".into(), ..Options::default() };
        assert_eq!(Dns::new(options).next().await, Ok(vec!["127.0.0.1".into()]));
        let (hostname, port) = ("fd00::1".into(), "4317".into());
        let options = Options { hostname, port, ..Options::default() };
        assert_eq!(Dns::new(options).next().await, Ok(vec!["[fd00::1]:4317".into()]));
        let hostname = String::from("no..name");
        let options = Options { hostname, ..Options::default() };
        let failed = Dns::new(options).next().await.expect_err("no name");
        assert!(failed.to_string().starts_with("lookup no..name: "), "{failed}");
    }

    #[tokio::test]
    async fn no_address_is_made_up_for_names_of_this_machine() {
        for hostname in ["localhost.", "a.localhost", "a.LOCALHOST."] {
            let options = Options { hostname: hostname.into(), ..Options::default() };
            let failed = Dns::new(options).next().await.expect_err("nobody knows it");
            assert_eq!(failed.to_string(), format!("lookup {hostname}: no such host"));
        }
    }
}
