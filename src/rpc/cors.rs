//! Cross-origin requests of browsers (`cors` of an HTTP receiver): who may send from where. The
//! collector's rules: credentials are always allowed, methods are GET, POST and HEAD, and what is
//! not allowed is answered all the same, without the headers that a browser wants to see. Pure.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

/// `cors` of an HTTP server. Without origins it has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// `None` for all of them.
    origins: Option<Vec<Origin>>,
    /// In lower case, sorted, each once; `None` for all of them.
    headers: Option<Vec<String>>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
}

/// An allowed origin, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Exact(String),
    /// What stands before and behind its `*`.
    Wild(String, String),
}

/// Blanks around a name in a list; more of them are no list that a browser writes.
const BLANKS_MAX: usize = 1;
/// Empty elements in a list.
const EMPTY_MAX: usize = 16;

impl Cors {
    /// Rules from the four keys of `cors`; `None` without origins. `max_age` is in seconds: 0 says
    /// nothing, less than 0 says 0.
    #[must_use]
    pub fn new(
        origins: &[String],
        headers: &[String],
        exposed: &[String],
        max_age: i64,
    ) -> Option<Self> {
        if origins.is_empty() {
            return None;
        }
        let origin = |text: &String| {
            let text = text.to_ascii_lowercase();
            match text.split_once('*') {
                Some((before, behind)) => Origin::Wild(before.to_owned(), behind.to_owned()),
                None => Origin::Exact(text),
            }
        };
        let all = |list: &[String]| list.iter().any(|text| text == "*");
        let mut names: Vec<String> = match headers {
            [] => ["accept", "content-type", "x-requested-with"].map(str::to_owned).into(),
            names => names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        };
        names.sort();
        names.dedup();
        let exposed: Vec<String> = exposed.iter().map(|name| canonical(name)).collect();
        let value = |text: String| HeaderValue::from_str(&text).ok();
        Some(Self {
            origins: (!all(origins)).then(|| origins.iter().map(origin).collect()),
            headers: (!all(headers)).then_some(names),
            exposed: value(exposed.join(", ")).filter(|_| !exposed.is_empty()),
            max_age: (max_age != 0).then(|| HeaderValue::from(max_age.max(0))),
        })
    }

    /// Whether the request only asks what it may send.
    pub(super) fn is_preflight(head: &Parts) -> bool {
        let method = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        head.method == Method::OPTIONS && method.is_some_and(|v| !v.is_empty())
    }

    /// The headers of the answer to a preflight, which is 204.
    pub(super) fn preflight(&self, head: &Parts, answer: &mut HeaderMap) {
        const ASKED: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        answer.append(VARY, HeaderValue::from_static(ASKED));
        let Some(origin) = self.allowed(head) else { return };
        let Some(method) = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD) else { return };
        let asked = head.headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS);
        if !matches!(method.as_bytes(), b"GET" | b"POST" | b"HEAD" | b"OPTIONS")
            || !self.accepts(asked.iter().map(HeaderValue::as_bytes))
        {
            return;
        }
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        if asked.iter().next().is_some_and(|first| !first.is_empty()) {
            for value in asked {
                answer.append(ACCESS_CONTROL_ALLOW_HEADERS, value.clone());
            }
        }
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        if let Some(age) = &self.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
        }
    }

    /// Adds to the answer of any other request what its browser wants to see.
    pub(super) fn actual(&self, head: &Parts, answer: &mut HeaderMap) {
        answer.append(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = self.allowed(head) else { return };
        let known = [Method::GET, Method::POST, Method::HEAD, Method::OPTIONS];
        if !known.contains(&head.method) {
            return;
        }
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if let Some(exposed) = &self.exposed {
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }

    /// What the answer says of an origin that is allowed.
    fn allowed(&self, head: &Parts) -> Option<HeaderValue> {
        let origin = head.headers.get(ORIGIN).filter(|origin| !origin.is_empty())?;
        let Some(origins) = &self.origins else { return Some(HeaderValue::from_static("*")) };
        let text = String::from_utf8_lossy(origin.as_bytes()).to_ascii_lowercase();
        let is_allowed = origins.iter().any(|allowed| match allowed {
            Origin::Exact(exact) => *exact == text,
            Origin::Wild(before, behind) => {
                text.len() >= before.len() + behind.len()
                    && text.starts_with(before)
                    && text.ends_with(behind)
            }
        });
        is_allowed.then(|| origin.clone())
    }

    /// Whether all names of the lists are allowed. Browsers write them in lower case, sorted, each
    /// once; others are not accepted.
    fn accepts<'a>(&self, lists: impl Iterator<Item = &'a [u8]>) -> bool {
        let Some(names) = &self.headers else { return true };
        let (mut next, mut empty) = (0, 0);
        for name in lists.flat_map(|list| list.split(|b| *b == b',')) {
            let blank = |b: &&u8| matches!(b, b' ' | b'\t');
            let before = name.iter().take_while(blank).count();
            let behind = name[before..].iter().rev().take_while(blank).count();
            if before > BLANKS_MAX || behind > BLANKS_MAX {
                return false;
            }
            let name = name.trim_ascii();
            if name.is_empty() {
                empty += 1;
                if empty > EMPTY_MAX {
                    return false;
                }
                continue;
            }
            match names.iter().position(|known| known.as_bytes() == name) {
                Some(at) if at >= next => next = at + 1,
                _ => return false,
            }
        }
        true
    }
}

/// `X-Trace-Id`, as HTTP/1.1 writes names.
fn canonical(name: &str) -> String {
    let mut start = true;
    let letters = name.chars().map(|c| {
        let c = if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        start = c == '-';
        c
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|t| (*t).to_owned()).collect()
    }

    fn request(method: &str, headers: &[(&'static str, &str)]) -> Parts {
        let mut builder = http::Request::builder().method(method);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("a request").into_parts().0
    }

    fn preflight(cors: &Cors, headers: &[(&'static str, &str)]) -> HeaderMap {
        let mut answer = HeaderMap::new();
        let request = request("OPTIONS", headers);
        assert!(Cors::is_preflight(&request));
        cors.preflight(&request, &mut answer);
        answer
    }

    #[test]
    fn origins_are_exact_or_have_one_wildcard_and_case_does_not_count() {
        let cors = Cors::new(&own(&["http://a.test", "https://*.B.test"]), &[], &[], 0).unwrap();
        for (origin, allowed) in [
            ("http://a.test", true),
            ("HTTP://A.test", true),
            ("http://a.test:80", false),
            ("https://x.b.test", true),
            ("https://x.y.b.test", true),
            ("https://.b.test", true),
            ("https://b.test", false),
            ("null", false),
            ("", false),
        ] {
            let mut answer = HeaderMap::new();
            cors.actual(&request("POST", &[("origin", origin)]), &mut answer);
            let got = answer.get(ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(got.is_some(), allowed, "{origin}");
            assert!(got.is_none_or(|got| got == origin), "{origin}");
            assert_eq!(answer[VARY], "Origin");
        }
        let all = Cors::new(&own(&["http://a.test", "*"]), &[], &[], 0).unwrap();
        let mut answer = HeaderMap::new();
        all.actual(&request("POST", &[("origin", "http://z")]), &mut answer);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(Cors::new(&[], &own(&["*"]), &[], 5), None);
    }

    #[test]
    fn a_preflight_is_told_what_it_asked_for() {
        let origins = own(&["*"]);
        let cors = Cors::new(&origins, &own(&["X-B", "x-a"]), &own(&["x-trace-ID"]), 7).unwrap();
        let asks = |headers, method| {
            let mut all = vec![("origin", "http://z"), ("access-control-request-method", method)];
            if let Some(headers) = headers {
                all.push(("access-control-request-headers", headers));
            }
            preflight(&cors, &all).contains_key(ACCESS_CONTROL_ALLOW_METHODS)
        };
        for (headers, method, allowed) in [
            (None, "POST", true),
            (None, "PUT", false),
            (Some("x-a,x-b"), "POST", true),
            (Some("x-a, x-b"), "POST", true),
            (Some(",x-b,,"), "POST", true),
            (Some("x-b,x-a"), "POST", false),
            (Some("x-a,x-a"), "POST", false),
            (Some("X-A"), "POST", false),
            (Some("x-a,  x-b"), "POST", false),
            (Some("content-type"), "POST", false),
            (Some(""), "POST", true),
        ] {
            assert_eq!(asks(headers, method), allowed, "{headers:?} {method}");
        }
        let asked = [
            ("origin", "http://z"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "x-a"),
        ];
        let answer = preflight(&cors, &asked);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "x-a");
        assert_eq!(answer[ACCESS_CONTROL_MAX_AGE], "7");
        let mut answer = HeaderMap::new();
        cors.actual(&request("POST", &asked[..1]), &mut answer);
        assert_eq!(answer[ACCESS_CONTROL_EXPOSE_HEADERS], "X-Trace-Id");
        let defaults = Cors::new(&origins, &[], &[], -1).unwrap();
        let asked = [
            ("origin", "http://z"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        assert_eq!(preflight(&defaults, &asked)[ACCESS_CONTROL_MAX_AGE], "0");
    }
}
