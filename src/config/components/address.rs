//! `host:port` as written in a configuration.

/// Host (without brackets) and port.
///
/// # Errors
/// What is wrong, in words.
pub fn host_port(text: &str) -> Result<(&str, u16), String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("has '[' without ']'")?;
        let port = rest.strip_prefix(':').ok_or("has no port")?;
        (host, port)
    } else {
        let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
        if host.contains(':') {
            return Err("has too many colons (an IPv6 address stands in brackets)".into());
        }
        (host, port)
    };
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/[]".contains(c)) {
        return Err("has no valid host".into());
    }
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("has no valid port (\"{port}\")"));
    }
    match port.parse() {
        Ok(port) => Ok((host, port)),
        Err(_) => Err(format!("has port {port}, the largest is 65535")),
    }
}

/// Whether two listeners cannot stand side by side: same path, or same port, and same host or one
/// of them all.
#[must_use]
pub fn collide(a: &str, b: &str) -> bool {
    if a.starts_with('/') {
        return a == b;
    }
    let (Ok((host_a, port_a)), Ok((host_b, port_b))) = (host_port(a), host_port(b)) else {
        return false;
    };
    let all = |host: &str| matches!(host, "" | "0.0.0.0" | "::");
    let name = |host: &str| if host == "127.0.0.1" { "localhost".into() } else { host.to_owned() };
    port_a != 0 && port_a == port_b && (all(host_a) || all(host_b) || name(host_a) == name(host_b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_host_and_a_port() {
        let rows = [
            ("localhost:4317", Ok(("localhost", 4317))),
            (":4317", Ok(("", 4317))),
            ("[::1]:4317", Ok(("::1", 4317))),
            ("0.0.0.0:0", Ok(("0.0.0.0", 0))),
            ("localhost", Err("has no port")),
            ("::1", Err("too many colons")),
            ("[::1]", Err("has no port")),
            ("[::1", Err("without ']'")),
            ("h:99999", Err("largest is 65535")),
            ("h:", Err("no valid port")),
            ("h:http", Err("no valid port")),
            ("h:-1", Err("no valid port")),
            ("a b:1", Err("no valid host")),
        ];
        for (text, want) in rows {
            match (host_port(text), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn listeners_collide_on_the_same_port_of_the_same_host() {
        assert!(collide("localhost:1", "127.0.0.1:1"));
        assert!(collide("0.0.0.0:1", "10.0.0.1:1"));
        assert!(!collide("localhost:1", "localhost:2"));
        assert!(!collide("10.0.0.1:1", "10.0.0.2:1"));
        assert!(!collide("localhost:0", "localhost:0"));
    }
}
