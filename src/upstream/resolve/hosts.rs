//! The machine's hosts file, as Go reads it: whoever stands there is looked up nowhere else.

use std::borrow::Cow;
use std::net::IpAddr;

/// All addresses of `name` in `file`, of both families, in the order and as often as they stand
/// there.
pub(super) fn addresses(file: &str, name: &str) -> Vec<IpAddr> {
    let name = absolute(name);
    let mut found = Vec::new();
    for line in file.lines() {
        let line = line.split_once('#').map_or(line, |(line, _comment)| line);
        let mut fields = line.split_ascii_whitespace();
        let Some(Ok(address)) = fields.next().map(str::parse::<IpAddr>) else { continue };
        found.extend(fields.filter(|f| absolute(f).eq_ignore_ascii_case(&name)).map(|_| address));
    }
    found
}

/// `a.b` and `a.b.` are one name. `a` is not `a.`, which only name servers know: names without a
/// dot are those of this machine.
fn absolute(name: &str) -> Cow<'_, str> {
    match name.contains('.') && !name.ends_with('.') {
        true => Cow::Owned(format!("{name}.")),
        false => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# a comment
127.0.0.1\tlocalhost Backends.example # also localhost6
::1 ip6-localhost

fe80::1%lo localhost
10.0.0.1 backends.example. backends.example other
10.0.0.256 backends.example
fd00::1 BACKENDS.example
10.0.0.9
";

    #[test]
    fn a_name_has_the_addresses_of_every_line_that_names_it() {
        let rows: [(&str, &[&str]); 8] = [
            ("localhost", &["127.0.0.1"]),
            ("LocalHost", &["127.0.0.1"]),
            ("ip6-localhost", &["::1"]),
            ("backends.example", &["127.0.0.1", "10.0.0.1", "10.0.0.1", "fd00::1"]),
            ("backends.example.", &["127.0.0.1", "10.0.0.1", "10.0.0.1", "fd00::1"]),
            ("localhost.", &[]),
            ("a.localhost", &[]),
            ("localhost6", &[]),
        ];
        for (name, want) in rows {
            let found: Vec<String> = addresses(FILE, name).iter().map(IpAddr::to_string).collect();
            assert_eq!(found, want, "{name}");
        }
    }
}
