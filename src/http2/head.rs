//! The head of a request or a reply: what its header block says, and whether it may (RFC 9113 §8.2,
//! §8.3).
//!
//! One head is read again and again into the same memory, so a call costs no allocation here.

use super::unpack::ENTRY_BYTES;

/// Pseudo-headers, in the order of [`Head::pseudo`]: those of a request, and that of a reply.
const PSEUDO: [&[u8]; 5] = [b":method", b":scheme", b":authority", b":path", b":status"];

/// The head of a request or a reply, or trailers.
#[derive(Debug, Default)]
pub(crate) struct Head {
    text: Vec<u8>,
    fields: Vec<Field>,
    /// Their values.
    pseudo: [Option<(usize, usize)>; PSEUDO.len()],
    content_length: Option<u64>,
    /// What the fields count (RFC 9113 §6.5.2), and may.
    bytes: usize,
    bytes_max: usize,
    /// The first rule that it broke.
    broken: Option<&'static str>,
}

/// A field: its name and value stand in the text, one after the other.
#[derive(Debug, Clone, Copy)]
struct Field {
    start: usize,
    value: usize,
    end: usize,
}

impl Head {
    /// Begins anew, for fields of at most `bytes_max`.
    pub(crate) fn clear(&mut self, bytes_max: usize) {
        self.text.clear();
        self.fields.clear();
        let (text, fields) = (std::mem::take(&mut self.text), std::mem::take(&mut self.fields));
        *self = Self { text, fields, bytes_max, ..Self::default() };
    }

    /// Takes the next field. One that is beyond the limit only counts.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        self.bytes = self.bytes.saturating_add(name.len() + value.len() + ENTRY_BYTES);
        if self.bytes > self.bytes_max || self.broken.is_some() {
            return;
        }
        match name.first() {
            Some(b':') => self.add_pseudo(name, value),
            Some(_) => self.add_field(name, value),
            None => self.broken = Some("a header without a name"),
        }
    }

    fn add_pseudo(&mut self, name: &[u8], value: &[u8]) {
        let place = PSEUDO.iter().position(|p| *p == name);
        self.broken = match place {
            None => Some("a pseudo-header that nobody knows"),
            Some(at) if self.pseudo[at].is_some() => Some("a pseudo-header twice"),
            Some(_) if !self.fields.is_empty() => Some("a pseudo-header behind a header"),
            Some(_) if !is_value(value) => Some("a header value with control characters"),
            Some(at) => {
                let start = self.text.len();
                self.text.extend_from_slice(value);
                self.pseudo[at] = Some((start, self.text.len()));
                None
            }
        };
    }

    fn add_field(&mut self, name: &[u8], value: &[u8]) {
        self.broken = match name {
            _ if !name.iter().all(|b| is_name(*b)) => {
                Some("a header name with upper case or control characters")
            }
            _ if !is_value(value) => Some("a header value with control characters"),
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding"
            | b"upgrade" => Some("a header that is about a connection of HTTP/1"),
            b"te" if value != b"trailers" => Some("te other than trailers"),
            b"content-length" => {
                let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                let other = self.content_length.is_some_and(|first| Some(first) != length);
                self.content_length = length;
                (length.is_none() || other).then_some("content-length is not one number")
            }
            _ => None,
        };
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let middle = self.text.len();
        self.text.extend_from_slice(value);
        self.fields.push(Field { start, value: middle, end: self.text.len() });
    }

    /// Whether the fields are more than was announced.
    pub(crate) fn is_too_large(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// The rule that a request with this head breaks.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let [method, scheme, _, path, status] = self.pseudo;
        self.broken.or_else(|| match (method, scheme, path) {
            _ if status.is_some() => Some("a pseudo-header that no request has"),
            (Some(_), Some(_), Some((start, end))) if start < end => None,
            _ => Some(":method, :scheme or :path is missing"),
        })
    }

    /// The rule that a reply with this head breaks.
    pub(crate) fn fault_in_reply(&self) -> Option<&'static str> {
        let [of_request @ .., _] = self.pseudo;
        self.broken.or_else(|| match of_request.iter().any(Option::is_some) {
            true => Some("a pseudo-header that no reply has"),
            false => self.status().is_none().then_some(":status is not three digits"),
        })
    }

    /// The rule that a message breaks whose body is followed by this.
    pub(crate) fn fault_in_trailers(&self) -> Option<&'static str> {
        let pseudo = self.pseudo.iter().any(Option::is_some);
        self.broken.or_else(|| pseudo.then_some("a pseudo-header in trailers"))
    }

    /// `:method`.
    pub(crate) fn method(&self) -> &[u8] {
        self.pseudo(0)
    }

    /// Whether it says for whom it is, in either of the two ways.
    pub(crate) fn has_authority(&self) -> bool {
        self.pseudo[2].is_some() || self.get("host").is_some()
    }

    /// `:path`.
    pub(crate) fn path(&self) -> &[u8] {
        self.pseudo(3)
    }

    /// `:status`, if it is three digits.
    pub(crate) fn status(&self) -> Option<u16> {
        let digits = self.pseudo(4);
        let valid = digits.len() == 3 && digits.iter().all(u8::is_ascii_digit) && digits[0] != b'0';
        valid.then(|| digits.iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0')))
    }

    fn pseudo(&self, at: usize) -> &[u8] {
        self.pseudo[at].map_or(b"", |(start, end)| &self.text[start..end])
    }

    /// The first value of a header; `name` is in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields().find_map(|(n, value)| (n == name.as_bytes()).then_some(value))
    }

    /// Names and values, without the pseudo-headers.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|f| (&self.text[f.start..f.value], &self.text[f.value..f.end]))
    }

    /// What the sender says that its body has.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

/// A lower-case token (RFC 9110 §5.6.2).
fn is_name(b: u8) -> bool {
    matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(b, b'^'..=b'`' | b'|' | b'~')
}

/// Visible characters, spaces and tabs; bytes above ASCII are opaque (RFC 9110 §5.5).
fn is_value(value: &[u8]) -> bool {
    value.iter().all(|b| *b >= b' ' && *b != 0x7f || *b == b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        head.clear(1000);
        for (name, value) in fields {
            head.add(name.as_bytes(), value.as_bytes());
        }
        head
    }

    const GOOD: [(&str, &str); 4] =
        [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/p")];

    #[test]
    fn a_head_is_kept_as_it_came() {
        let mut head =
            head(&[&GOOD[..], &[("x-a", "1"), ("te", "trailers"), ("x-a", "2")]].concat());
        assert_eq!(head.fault(), None);
        assert_eq!((head.method(), head.path()), (&b"POST"[..], &b"/p"[..]));
        assert_eq!((head.get("x-a"), head.get("x-b")), (Some(&b"1"[..]), None));
        assert_eq!(head.fields().count(), 3);
        assert_eq!(head.fault_in_trailers(), Some("a pseudo-header in trailers"));
        head.clear(100);
        assert_eq!((head.fields().count(), head.path()), (0, &b""[..]));
        assert_eq!(head.fault_in_trailers(), None);
    }

    #[test]
    fn what_http2_forbids_is_a_fault() {
        for field in [
            ("", "x"),
            ("X-Upper", "x"),
            ("a b", "x"),
            ("a", "x\r\ny"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            (":status", "200"),
            (":path", "/other"),
            (":scheme", "http"),
            ("content-length", "-1"),
        ] {
            let broken = head(&[&GOOD[..], &[field]].concat());
            assert!(broken.fault().is_some(), "{field:?}");
        }
        for (name, _) in GOOD {
            let others: Vec<_> = GOOD.into_iter().filter(|(n, _)| *n != name).collect();
            let head = head(&others);
            assert_eq!(head.fault().is_none(), name == ":authority", "{name}");
            assert_eq!(head.has_authority(), name != ":authority", "{name}");
        }
        assert!(head(&[GOOD[0], GOOD[1], (":path", "")]).fault().is_some());
        assert!(head(&[GOOD[0], ("a", "b"), GOOD[1], GOOD[3]]).fault().is_some());
        let twice = |second| head(&[("content-length", "5"), ("content-length", second)]);
        assert_eq!(twice("5").fault_in_trailers(), None);
        assert!(twice("6").fault_in_trailers().is_some());
    }

    #[test]
    fn a_reply_has_a_status_and_nothing_of_a_request() {
        for (fields, want) in [
            (&[(":status", "200"), ("a", "b")][..], Some(200)),
            (&[(":status", "100")], Some(100)),
            (&[(":status", "999")], Some(999)),
            (&[("a", "b")], None),
            (&[(":status", "099")], None),
            (&[(":status", "20")], None),
            (&[(":status", "+20")], None),
            (&[(":status", "2000")], None),
            (&[(":status", "")], None),
        ] {
            let head = head(fields);
            assert_eq!(head.status(), want, "{fields:?}");
            assert_eq!(head.fault_in_reply().is_none(), want.is_some(), "{fields:?}");
        }
        for field in [(":path", "/"), (":status", "200"), (":x", "y"), ("A", "b")] {
            assert!(head(&[(":status", "200"), field]).fault_in_reply().is_some(), "{field:?}");
        }
        assert!(head(&[(":status", "200")]).fault_in_trailers().is_some());
    }

    #[test]
    fn fields_beyond_the_limit_are_counted_and_not_kept() {
        let long = "y".repeat(500);
        let big = head(&[("a", &long), ("b", &long), ("c", "z")]);
        assert!(big.is_too_large());
        assert_eq!(big.fields().count(), 1);
    }
}
