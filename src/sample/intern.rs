//! Resources and scopes, each kept once however many requests repeat it. They are counted per run
//! of spans in the buffer ([`super::buffer`]) and go with the last.
//!
//! The index is bounded: what finds no place in it is kept too, only not shared.

use hashbrown::HashTable;

use super::hash::Key;
use crate::otlp::value::{Field, Fields};
use crate::otlp::wire::Extent;

/// Most entries that are found again.
pub const SHARED_MAX: usize = 1 << 16;

/// The fields of a ResourceSpans or ScopeSpans that are not its children.
#[derive(Debug)]
pub struct Envelope {
    /// As they came.
    pub fields: Box<[u8]>,
    content: Content,
    /// Predicates that hold for the resource; empty for a scope.
    pub holds: Box<[u64]>,
    /// What the collector would write for it: the Resource or InstrumentationScope with its tag
    /// and length; 0 if nobody asks.
    pub size: u64,
    runs: u32,
    hash: u64,
    shared: bool,
}

#[derive(Debug)]
enum Content {
    /// It stands once, here.
    Within(Extent),
    /// It stood in several pieces, which are one message.
    Joined(Box<[u8]>),
}

impl Envelope {
    /// Content of the Resource or InstrumentationScope message.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        match &self.content {
            Content::Within(extent) => extent.of(&self.fields),
            Content::Joined(all) => all,
        }
    }
}

/// All envelopes of one kind.
#[derive(Debug)]
pub struct Interner {
    envelopes: Vec<Option<Envelope>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    key: Key,
    bytes: u64,
}

impl Interner {
    /// Nothing yet.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self { envelopes: Vec::new(), free: Vec::new(), index: HashTable::new(), key, bytes: 0 }
    }

    /// The envelope of these fields, if it is known.
    #[must_use]
    pub fn find(&self, fields: &[u8]) -> Option<u32> {
        let same = |at: &u32| *self.get(*at).fields == *fields;
        self.index.find(self.key.bytes(fields), same).copied()
    }

    /// [`Self::find`], where it most likely is the one at `guess`, if that is still in use.
    #[must_use]
    pub fn find_at(&self, guess: Option<u32>, fields: &[u8]) -> Option<u32> {
        let envelope = guess.and_then(|at| self.envelopes.get(at as usize)?.as_ref());
        match envelope {
            Some(envelope) if envelope.shared && *envelope.fields == *fields => guess,
            _ => self.find(fields),
        }
    }

    /// Adds an envelope that [`Self::find`] did not find. It stays until it was counted and the
    /// count is zero again.
    pub fn add(&mut self, fields: &[u8], holds: Box<[u64]>, size: u64) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.envelopes.push(None);
            u32::try_from(self.envelopes.len() - 1).expect("fewer envelopes than bytes")
        });
        let hash = self.key.bytes(fields);
        let shared = self.index.len() < SHARED_MAX;
        let content = content(fields);
        let fields: Box<[u8]> = fields.into();
        self.bytes += cost(&fields);
        let envelope = Envelope { fields, content, holds, size, runs: 0, hash, shared };
        self.envelopes[at as usize] = Some(envelope);
        if shared {
            let envelopes = &self.envelopes;
            let hash_of = |at: &u32| envelopes[*at as usize].as_ref().map_or(0, |e| e.hash);
            self.index.insert_unique(hash, at, hash_of);
        }
        at
    }

    /// An envelope that is in use.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    #[inline]
    pub fn get(&self, at: u32) -> &Envelope {
        self.envelopes[at as usize].as_ref().expect("an envelope in use")
    }

    /// An envelope that is in use, to note what is known of it.
    ///
    /// # Panics
    /// If it is not.
    pub fn get_mut(&mut self, at: u32) -> &mut Envelope {
        self.envelopes[at as usize].as_mut().expect("an envelope in use")
    }

    /// One more run needs it.
    pub fn count(&mut self, at: u32) {
        self.envelopes[at as usize].as_mut().expect("an envelope in use").runs += 1;
    }

    /// One run less needs it.
    pub fn release(&mut self, at: u32) {
        let envelope = self.envelopes[at as usize].as_mut().expect("an envelope in use");
        envelope.runs -= 1;
        if envelope.runs > 0 {
            return;
        }
        if envelope.shared
            && let Ok(entry) = self.index.find_entry(envelope.hash, |other| *other == at)
        {
            entry.remove();
        }
        self.bytes -= cost(&envelope.fields);
        self.envelopes[at as usize] = None;
        self.free.push(at);
    }

    /// Bytes held.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn cost(fields: &[u8]) -> u64 {
    (fields.len() + size_of::<Option<Envelope>>()) as u64
}

/// Field 1 is the Resource, or the InstrumentationScope. Repeated, it is one message in pieces.
fn content(fields: &[u8]) -> Content {
    let mut pieces = Fields::of(fields).filter_map(|(number, field)| match field {
        Field::Bytes(bytes) if number == 1 => Some(bytes),
        _ => None,
    });
    match (pieces.next(), pieces.next()) {
        (None, _) => Content::Within(Extent::default()),
        (Some(only), None) => Content::Within(Extent::within(fields, only)),
        (Some(first), Some(second)) => {
            let mut all = [first, second].concat();
            pieces.for_each(|piece| all.extend_from_slice(piece));
            Content::Joined(all.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_kept_once_and_as_long_as_a_run_needs_it() {
        let mut interner = Interner::new(Key::new(1));
        let fields = [0x0a, 2, 0x10, 5];
        assert_eq!(interner.find(&fields), None);
        let at = interner.add(&fields, Box::default(), 0);
        interner.count(at);
        interner.count(at);
        assert_eq!(interner.find(&fields), Some(at));
        assert_eq!(interner.get(at).content(), [0x10, 5]);
        interner.release(at);
        assert_eq!(interner.find(&fields), Some(at));
        interner.release(at);
        assert_eq!((interner.find(&fields), interner.bytes()), (None, 0));
    }

    #[test]
    fn a_guess_is_as_good_as_none() {
        let mut interner = Interner::new(Key::new(1));
        let (one, two) = ([0x0a, 1, b'a'], [0x0a, 1, b'b']);
        let at = interner.add(&one, Box::default(), 0);
        interner.add(&two, Box::default(), 0);
        for guess in [None, Some(0), Some(1), Some(9)] {
            assert_eq!(interner.find_at(guess, &one), Some(at), "{guess:?}");
            assert_eq!(interner.find_at(guess, b"none"), None, "{guess:?}");
        }
        interner.count(at);
        interner.release(at);
        assert_eq!(interner.find_at(Some(at), &one), None, "it is gone");
    }

    #[test]
    fn a_message_in_pieces_is_one() {
        let mut interner = Interner::new(Key::new(1));
        let at = interner.add(&[0x0a, 1, b'a', 0x1a, 1, b'u', 0x0a, 1, b'b'], Box::default(), 0);
        assert_eq!(interner.get(at).content(), b"ab");
        let none = interner.add(&[0x1a, 1, b'u'], Box::default(), 0);
        assert_eq!(interner.get(none).content(), b"");
    }
}
