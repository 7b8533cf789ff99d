//! Which requests were answered OK, to say at the end which traces the receiver owes us.
//!
//! One bit per request. Which traces a request carries is a function of its number.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::bodies::Bodies;

/// The requests that were answered OK, none of their spans rejected.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    words: Vec<u64>,
}

impl Ledger {
    pub(super) fn note(&mut self, number: u64) {
        let word = (number / 64) as usize;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
    }

    fn has(&self, number: u64) -> bool {
        self.words.get((number / 64) as usize).is_some_and(|w| w >> (number % 64) & 1 == 1)
    }

    /// One line for each trace all of whose requests are noted: id, spans, `error` or `-`.
    pub(super) fn write(&self, bodies: &mut Bodies, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        for number in 0..self.words.len() as u64 * 64 {
            if !(number..number + bodies.spread()).all(|n| self.has(n)) {
                continue;
            }
            for trace in bodies.begun_by(number) {
                let id = u128::from_be_bytes(trace.id);
                let error = if trace.error { "error" } else { "-" };
                writeln!(out, "{id:032x} {} {error}", trace.spans)?;
            }
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_there_and_nothing_else() {
        let mut ledger = Ledger::default();
        for number in [0, 63, 64, 1000] {
            ledger.note(number);
        }
        let there: Vec<u64> = (0..2000).filter(|n| ledger.has(*n)).collect();
        assert_eq!(there, [0, 63, 64, 1000]);
    }
}
