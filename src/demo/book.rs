//! The account of every trace: what was sent of it, which sampler it belongs to, what the oracle
//! says about it, and what came to the store. A round is accounted for when it is over and what
//! the samplers keep of it must have come; then only sums are left, so a run may be long.

use std::sync::Arc;

use super::endpoints::Endpoints;
use super::homes::Homes;
use super::rounds::Closed;
use super::span;
use super::store::Arrival;
use super::traffic::Traffic;
use super::verdicts::{Judged, Verdicts};

/// Sums over all rounds that are accounted for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub traces: u64,
    /// Traces that came to the store whole and once, and their spans.
    pub kept: [u64; 2],
    /// Traces of which something came, but not every span once.
    pub broken: u64,
    /// Traces of which spans came from another sampler than the ring's own answer.
    pub misplaced: u64,
    /// Traces that the oracle judged, and those whose spans at the store are not what it lets out.
    pub judged: u64,
    pub wrong: u64,
    /// Traces that it did not judge: since the machine stood still, since they are too many.
    pub stalled: u64,
    pub skipped: u64,
    /// The oracle's votes by policy: traces to keep, to drop.
    pub votes: Vec<[u64; 2]>,
    /// Late spans: of kept traces, of others.
    pub late: [u64; 2],
    /// By sampler, the traces and spans that the ring gives it.
    pub homes: Vec<[u64; 2]>,
}

/// The account.
#[derive(Debug)]
pub(super) struct Book {
    traffic: Traffic,
    /// Ids by trace; those of late spans are told.
    spans: Vec<Vec<([u8; 8], bool)>>,
    homes: Arc<Homes>,
    verdicts: Verdicts,
    pub sums: Sums,
}

impl Book {
    pub(super) fn new(traffic: Traffic, homes: Arc<Homes>, verdicts: Verdicts) -> Self {
        let sums = Sums { homes: vec![[0; 2]; homes.count()], ..Sums::default() };
        Self { spans: traffic.spans(), traffic, homes, verdicts, sums }
    }

    /// Accounts for a round; `judge`: the oracle is asked.
    pub(super) fn close(&mut self, closed: &Closed, endpoints: &Endpoints, judge: bool) {
        let traces = u32::try_from(self.spans.len()).expect("a round is short");
        let ids: Vec<_> = (0..traces).map(|n| self.traffic.id(closed.round, n)).collect();
        let mut store = endpoints.store();
        let arrivals: Vec<_> = ids.iter().map(|id| store.take(id)).collect();
        drop(store);
        self.account(closed, &ids, &arrivals, judge);
    }

    fn account(&mut self, closed: &Closed, ids: &[[u8; 16]], came: &[Arrival], judge: bool) {
        let ask = judge && !closed.stalled;
        let judged = ask.then(|| self.verdicts.judge(ids, closed.late));
        let sums = &mut self.sums;
        for ((id, came), spans) in ids.iter().zip(came).zip(&self.spans) {
            let sent = || spans.iter().filter(|(_, late)| closed.late || !late);
            let late = sent().filter(|(_, late)| *late).count() as u64;
            let digests = sent().map(|(span, _)| span::digest(id, *span));
            let home = self.homes.of(id);
            let whole = Arrival {
                spans: sent().count() as u64,
                digest: digests.fold(0, u64::wrapping_add),
                homes: came.homes,
            };
            match came.spans {
                0 => sums.late[1] += late,
                _ if *came == whole => {
                    sums.kept[0] += 1;
                    sums.kept[1] += whole.spans;
                    sums.late[0] += late;
                }
                _ => sums.broken += 1,
            }
            sums.misplaced += u64::from(came.homes & !(1 << home) != 0);
            if let Some([traces, spans]) = sums.homes.get_mut(usize::from(home)) {
                *traces += 1;
                *spans += whole.spans;
            }
        }
        sums.traces += ids.len() as u64;
        match judged {
            Some(judged) => sums.compare(&judged, came),
            None if closed.stalled => sums.stalled += ids.len() as u64,
            None => sums.skipped += ids.len() as u64,
        }
    }
}

impl Sums {
    fn compare(&mut self, judged: &Judged, came: &[Arrival]) {
        self.judged += came.len() as u64;
        let each = judged.leaving.iter().zip(came);
        self.wrong += each.filter(|(leaving, came)| **leaving != came.spans).count() as u64;
        self.votes.resize(judged.votes.len(), [0; 2]);
        for (sum, votes) in self.votes.iter_mut().zip(&judged.votes) {
            sum[0] += votes[0];
            sum[1] += votes[1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, Request, load};
    use crate::route::{Generation, Ring};
    use crate::time::Instant;

    const CLOSED: Closed = Closed { round: 5, at: Instant(0), stalled: false, late: true };

    /// Reads the samplers' own configuration.
    fn book() -> Book {
        let env = |name: &str| match name {
            "CONFIG" => Some(include_str!("sampler.yaml").to_owned()),
            "TRACES" => Some("20000".to_owned()),
            _ => Some("127.0.0.1:1".to_owned()),
        };
        let request = Request { configs: vec!["env:CONFIG".into()], ..Request::default() };
        let plan = load(&request, &env, &Machine::read()).unwrap().plan;
        let options = &plan.pipelines[0].sampling.as_ref().unwrap().options;
        let names = ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        let homes = Arc::new(Homes::new(&names, Ring::new(Generation::V3, &names)));
        let traffic = Traffic::new(3);
        let verdicts = Verdicts::new(options, traffic.clone());
        Book::new(traffic, homes, verdicts)
    }

    /// Ids of a round, and what comes if every verdict is the oracle's.
    fn right(book: &Book, late: bool) -> (Vec<[u8; 16]>, Vec<Arrival>) {
        let ids: Vec<_> =
            (0..).take(book.spans.len()).map(|n| book.traffic.id(CLOSED.round, n)).collect();
        let judged = book.verdicts.judge(&ids, late);
        let came =
            ids.iter().zip(&book.spans).zip(&judged.leaving).map(|((id, spans), leaving)| {
                let sent = spans.iter().filter(|(_, is_late)| late || !is_late);
                let digest = sent.map(|(s, _)| span::digest(id, *s)).fold(0, u64::wrapping_add);
                match leaving {
                    0 => Arrival::default(),
                    _ => Arrival { spans: *leaving, digest, homes: 1 << book.homes.of(id) },
                }
            });
        let came = came.collect();
        (ids, came)
    }

    #[test]
    fn verdicts_of_the_oracle_let_whole_traces_out_for_every_reason() {
        for late in [false, true] {
            let mut book = book();
            let (ids, came) = right(&book, late);
            book.account(&Closed { late, ..CLOSED }, &ids, &came, true);
            let sums = &book.sums;
            assert_eq!((sums.broken, sums.wrong, sums.misplaced), (0, 0, 0));
            assert_eq!((sums.traces, sums.judged), (ids.len() as u64, ids.len() as u64));
            assert!(sums.kept[0] > 5 && sums.kept[0] < sums.traces / 3, "{sums:?}");
            assert_eq!(sums.late[0] + sums.late[1], if late { 12 } else { 0 });
            let [health, errors, slow, share] = sums.votes[..] else { panic!("{sums:?}") };
            assert_eq!(health, [0, 6]);
            assert!(errors[0] > 2 && slow[0] > 2 && share[0] > 2, "{sums:?}");
            assert!(sums.homes.iter().all(|home| home[0] > 0 && home[1] > home[0]), "{sums:?}");
        }
    }

    #[test]
    fn a_trace_that_is_torn_wrongly_kept_wrongly_dropped_or_astray_is_found() {
        type Harm = fn(&mut Arrival);
        let table: [(&str, bool, Harm, [u64; 3]); 5] = [
            ("a span is missing", true, |a| a.spans -= 1, [1, 1, 0]),
            ("another span", true, |a| a.digest ^= 1, [1, 0, 0]),
            ("dropped", true, |a| *a = Arrival::default(), [0, 1, 0]),
            ("kept", false, |a| (a.spans, a.homes) = (3, 0), [1, 1, 0]),
            ("from elsewhere", true, |a| a.homes ^= 3, [0, 0, 1]),
        ];
        for (name, kept, harm, want) in table {
            let mut book = book();
            let (ids, mut came) = right(&book, true);
            harm(came.iter_mut().find(|a| (a.spans > 0) == kept).unwrap());
            book.account(&CLOSED, &ids, &came, true);
            let sums = &book.sums;
            assert_eq!([sums.broken, sums.wrong, sums.misplaced], want, "{name}");
        }
    }

    #[test]
    fn a_round_in_which_the_machine_stood_still_is_only_looked_at_for_torn_traces() {
        let mut book = book();
        let (ids, mut came) = right(&book, true);
        *came.iter_mut().find(|a| a.spans > 0).unwrap() = Arrival::default();
        book.account(&Closed { stalled: true, ..CLOSED }, &ids, &came, true);
        book.account(&CLOSED, &ids, &came, false);
        let sums = &book.sums;
        let all = ids.len() as u64;
        assert_eq!((sums.judged, sums.stalled, sums.skipped, sums.wrong), (0, all, all, 0));
        came.iter_mut().find(|a| a.spans > 0).unwrap().spans += 1;
        book.account(&Closed { stalled: true, ..CLOSED }, &ids, &came, true);
        assert_eq!(book.sums.broken, 1);
    }
}
