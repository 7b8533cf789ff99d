//! What a server keeps of the headers of a request, because an exporter behind it asks for it.
//! Pure.

use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers by name, in the order of the server's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(Vec<(HeaderName, Vec<HeaderValue>)>);

impl Metadata {
    /// Those of `headers` that are `wanted`; `None` if there are none.
    #[must_use]
    pub fn of(headers: &HeaderMap, wanted: &[HeaderName]) -> Option<Rc<Self>> {
        let found = wanted.iter().filter(|name| headers.contains_key(*name));
        let all: Vec<_> = found
            .map(|name| (name.clone(), headers.get_all(name).iter().cloned().collect()))
            .collect();
        (!all.is_empty()).then(|| Rc::new(Self(all)))
    }

    /// The values of a header.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> &[HeaderValue] {
        self.0.iter().find(|(n, _)| n == name).map_or(&[], |(_, values)| values)
    }
}
