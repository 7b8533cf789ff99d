//! Which HTTP proxy stands before a URL: the user's own, or that of the environment, as Go's
//! clients have it. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderValue, Uri};

/// A proxy that speaks plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// `host:port`.
    pub address: String,
    /// `Proxy-Authorization`.
    pub login: Option<HeaderValue>,
}

impl Proxy {
    /// Reads the URL of a proxy; without a scheme it is `http`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(format!("a {scheme} proxy is not in this release, only http"));
        }
        let bad = || "is no URL of a proxy".to_owned();
        let uri: Uri = format!("http://{rest}").parse().map_err(|_| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        let port = authority.port_u16().unwrap_or(80);
        let login = authority.as_str().rsplit_once('@').map(|(login, _)| basic(login));
        if authority.host().is_empty() {
            return Err(bad());
        }
        Ok(Self { address: format!("{}:{port}", authority.host()), login })
    }
}

/// The URL of a proxy without the password in it, if it has one.
#[must_use]
pub fn redacted(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    let login = url[start..end].rfind('@').map(|at| &url[start..start + at]);
    match login.and_then(|login| login.split_once(':').map(|(name, _)| (name, login.len()))) {
        Some((name, login)) => format!("{}{name}:REDACTED{}", &url[..start], &url[start + login..]),
        None => url.to_owned(),
    }
}

/// The value of `Authorization` for `name:password` as it stands in a URL.
fn basic(login: &str) -> HeaderValue {
    let plain: Vec<u8> = percent_encoding::percent_decode_str(login).collect();
    let plain = if plain.contains(&b':') { plain } else { [&plain[..], b":"].concat() };
    let mut value =
        HeaderValue::from_str(&format!("Basic {}", BASE64.encode(plain))).expect("base64 is ASCII");
    value.set_sensitive(true);
    value
}

/// The proxy that the environment has for `url`: `HTTPS_PROXY` or `HTTP_PROXY` by its scheme, in
/// either case, unless `NO_PROXY` names its host. Loopback is never proxied.
#[must_use]
pub fn of_environment(url: &Uri, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let either = |upper: &str| {
        variable(upper)
            .filter(|v| !v.is_empty())
            .or_else(|| variable(&upper.to_ascii_lowercase()))
            .filter(|v| !v.is_empty())
    };
    let https = url.scheme_str() == Some("https");
    let proxy = either(if https { "HTTPS_PROXY" } else { "HTTP_PROXY" })?;
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
    let excepted = either("NO_PROXY").is_some_and(|list| is_excepted(&list, &host, port));
    (!is_loopback(&host) && !excepted).then_some(proxy)
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<core::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// `*`, addresses, networks, `domain` (and what is below it), `.domain` (only what is below it),
/// each perhaps with a port.
fn is_excepted(list: &str, host: &str, port: u16) -> bool {
    let address: Option<core::net::IpAddr> = host.parse().ok();
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        if entry.is_empty() {
            return false;
        }
        if entry == "*" {
            return true;
        }
        if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
            return contains(network, bits, address);
        }
        let bare = entry.trim_start_matches('[').trim_end_matches(']');
        let (name, wanted) = match bare.parse::<core::net::IpAddr>() {
            Ok(_) => (bare, None),
            Err(_) => match entry.rsplit_once(':') {
                Some((name, port)) => {
                    (name.trim_start_matches('[').trim_end_matches(']'), Some(port))
                }
                None => (bare, None),
            },
        };
        if wanted.is_some_and(|wanted| wanted.parse() != Ok(port)) {
            return false;
        }
        if let (Some(address), Ok(named)) = (address, name.parse::<core::net::IpAddr>()) {
            return address == named;
        }
        let name = name.strip_prefix('*').unwrap_or(name);
        match name.strip_prefix('.') {
            Some(_) => host.ends_with(name),
            None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
        }
    })
}

fn contains(network: &str, bits: &str, address: core::net::IpAddr) -> bool {
    use core::net::IpAddr::{V4, V6};
    let (Ok(network), Ok(bits)) = (network.parse(), bits.parse::<u32>()) else { return false };
    match (network, address) {
        (V4(network), V4(address)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (V6(network), V6(address)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        of_environment(&url.parse().expect("a URL"), &variable)
    }

    #[test]
    fn a_shown_url_has_no_password_and_names_the_same_proxy() {
        for (url, shown) in [
            ("http://me:secret@proxy:3128", "http://me:REDACTED@proxy:3128"),
            ("me:a:b@c@proxy:3128/x", "me:REDACTED@proxy:3128/x"),
            ("http://me@proxy:3128", "http://me@proxy:3128"),
            ("http://proxy:3128/@:", "http://proxy:3128/@:"),
            ("proxy:3128", "proxy:3128"),
        ] {
            assert_eq!(redacted(url), shown);
        }
        let address = |url: &str| Proxy::parse(url).unwrap().address;
        let url = "http://me:secret@proxy:3128";
        assert_eq!(address(&redacted(url)), address(url));
    }

    #[test]
    fn the_environment_names_proxies_by_scheme_and_excepts_hosts() {
        let both = [("HTTP_PROXY", "p:1"), ("https_proxy", "s:2")];
        assert_eq!(chosen("http://a.test/", &both).as_deref(), Some("p:1"));
        assert_eq!(chosen("https://a.test/", &both).as_deref(), Some("s:2"));
        assert_eq!(chosen("http://localhost:4318/", &both), None);
        assert_eq!(chosen("http://127.1.2.3/", &both), None);
        assert_eq!(chosen("http://[::1]:80/", &both), None);
        assert_eq!(chosen("http://a.test/", &[]), None);
        for (list, url, excepted) in [
            ("*", "http://a.test", true),
            ("a.test", "http://a.test", true),
            ("a.test", "http://b.a.test", true),
            ("a.test", "http://ba.test", false),
            (".a.test", "http://a.test", false),
            (".a.test", "http://b.a.test", true),
            ("*.a.test", "http://b.a.test", true),
            ("x, A.test:4318", "http://a.test:4318", true),
            ("a.test:4318", "http://a.test", false),
            ("a.test:80", "http://a.test", true),
            ("10.0.0.0/8", "http://10.2.3.4", true),
            ("10.0.0.0/8", "http://11.2.3.4", false),
            ("10.2.3.4", "http://10.2.3.4:1", true),
            ("10.2.3.4:2", "http://10.2.3.4:1", false),
            ("fd00::/8", "http://[fd01::1]", true),
            ("fd01::1", "http://[fd01::1]", true),
            (",", "http://a.test", false),
        ] {
            let got = chosen(url, &[("HTTP_PROXY", "p"), ("NO_PROXY", list)]);
            assert_eq!(got.is_none(), excepted, "{list} {url}");
        }
    }

    #[test]
    fn a_proxy_is_a_url_or_an_address() {
        let rows = [
            ("http://p.test:3128", Ok(("p.test:3128", None))),
            ("p.test", Ok(("p.test:80", None))),
            ("http://u:p%40@p.test:1/", Ok(("p.test:1", Some("Basic dTpwQA==")))),
            ("http://u@[::1]:1", Ok(("[::1]:1", Some("Basic dTo=")))),
            ("socks5://p.test", Err("a socks5 proxy is not in this release, only http")),
            ("http://", Err("is no URL of a proxy")),
        ];
        for (text, want) in rows {
            let got = Proxy::parse(text);
            match (got, want) {
                (Ok(got), Ok((address, login))) => {
                    assert_eq!(got.address, address);
                    assert_eq!(got.login, login.map(HeaderValue::from_static));
                }
                (Err(got), Err(want)) => assert_eq!(got, want),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
