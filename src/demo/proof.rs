//! The summary: what the router promises, checked against what was sent and what arrived.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::generator::Sent;
use super::judge::{Judge, histogram};
use super::seen;
use super::table::{count, quantile};
use crate::otlp::Signal;
use crate::router::snapshot::Snapshot;
use crate::rpc::service::Transport;

/// One promise.
#[derive(Debug)]
struct Claim {
    holds: bool,
    name: &'static str,
    text: String,
}

/// The router's own counters, summed over cores, in spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub accepted: u64,
    pub refused: u64,
    /// By endpoint: offered, sent, failed, in flight.
    pub lanes: Vec<[u64; 4]>,
}

impl Counters {
    /// `addresses` are the endpoints in the order of their numbers.
    pub(super) fn of(snapshots: &[Snapshot], addresses: &[String]) -> Self {
        let mut sums = Self { lanes: vec![[0; 4]; addresses.len()], ..Self::default() };
        for snapshot in snapshots {
            for (_, received) in &snapshot.received {
                let received = &received[Transport::Grpc as usize][Signal::Traces as usize];
                sums.accepted += received.accepted;
                sums.refused += received.refused;
            }
            for lane in &snapshot.lanes {
                let Some(at) = addresses.iter().position(|a| *a == lane.endpoint) else { continue };
                let stats = &lane.stats;
                let counts = [stats.offered, stats.sent, stats.lost(), lane.held_items];
                sums.lanes[at].iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
        }
        sums
    }

    /// Spans that the router holds.
    pub(super) fn in_flight(&self) -> u64 {
        self.lanes.iter().map(|lane| lane[3]).sum()
    }

    fn total(&self) -> [u64; 4] {
        let column = |at| self.lanes.iter().map(|lane: &[u64; 4]| lane[at]).sum();
        [column(0), column(1), column(2), column(3)]
    }
}

/// What is known when everything has ended.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub sent: &'a Sent,
    pub judge: &'a Judge,
    pub counters: &'a Counters,
    /// Spans that the router gave up when it was shut down.
    pub abandoned: u64,
    /// CPU time of the data cores.
    pub cpu: Duration,
}

impl Outcome<'_> {
    /// The summary, and whether every promise was kept.
    pub(super) fn prove(&self) -> (String, bool) {
        let claims = [self.spans(), self.traces(), self.placement(), self.conservation()];
        let holds = claims.iter().all(|claim| claim.holds);
        let mut out = String::from("\nThe proof\n");
        for claim in &claims {
            let mark = if claim.holds { "ok" } else { "WRONG" };
            _ = writeln!(out, "  {mark:<5} {:<10} {}", claim.name, claim.text);
        }
        self.balance(&mut out);
        if let Some(trouble) = &self.sent.trouble {
            _ = writeln!(out, "  The first trouble that a client had: {trouble}");
        }
        out.push_str(if holds { "Every promise was kept.\n" } else { "A promise was BROKEN.\n" });
        (out, holds)
    }

    fn spans(&self) -> Claim {
        let (sent, judge) = (self.sent, self.judge);
        let same = sent.digest == judge.digest;
        let holds = sent.spans > 0 && sent.spans == judge.spans() && same && judge.unreadable == 0;
        let (a, b) = (whole(sent.spans), whole(judge.spans()));
        let mut text = format!("sent {a} {} received {b}", if holds { "=" } else { "against" });
        match (same, sent.refused) {
            (true, _) => text.push_str(", the very same ones (checksum over their ids)"),
            (false, 0) => text.push_str(", and not the same ones (checksum over their ids)"),
            (false, refused) => _ = write!(text, ", {} were refused", whole(refused)),
        }
        if judge.unreadable > 0 {
            _ = write!(text, ", {} cannot be read", whole(judge.unreadable));
        }
        Claim { holds, name: "spans", text }
    }

    fn traces(&self) -> Claim {
        let (sent, judge) = (self.sent.traces, self.judge);
        let holds = sent == judge.traces && judge.split == 0;
        let text = format!(
            "sent {} {} seen {}, of them split over endpoints: {}",
            whole(sent),
            if sent == judge.traces { "=" } else { "against" },
            whole(judge.traces),
            whole(judge.split)
        );
        Claim { holds, name: "traces", text }
    }

    fn placement(&self) -> Claim {
        let wrong = self.judge.misplaced;
        let text =
            format!("spans at another endpoint than the ring's own answer: {}", whole(wrong));
        Claim { holds: wrong == 0, name: "placement", text }
    }

    /// The router's own counters add up, and agree with what was seen from outside.
    fn conservation(&self) -> Claim {
        let counters = self.counters;
        let [offered, sent, failed, in_flight] = counters.total();
        let arrived = self.judge.tallies().iter().map(|t| t.spans);
        let each = counters.lanes.iter().zip(arrived).all(|(&[offered, sent, failed, held], n)| {
            offered == sent + failed + held && sent == n
        });
        let holds = each
            && counters.accepted == self.sent.acknowledged
            && counters.refused == self.sent.refused
            && counters.accepted == offered
            && failed + in_flight + self.abandoned == 0;
        let text = format!(
            "accepted {} = sent {} + failed {} + in flight {}; refused {}",
            whole(counters.accepted),
            whole(sent),
            whole(failed),
            whole(in_flight + self.abandoned),
            whole(counters.refused)
        );
        Claim { holds, name: "counters", text }
    }

    fn balance(&self, out: &mut String) {
        let tallies = self.judge.tallies();
        let shares: Vec<f64> = (0..tallies.len()).map(|n| self.judge.ring_share(n)).collect();
        let spans: Vec<f64> = tallies.iter().map(|t| t.spans as f64).collect();
        _ = writeln!(
            out,
            "        balance    hottest endpoint {:.2} x the mean, {:.2} x by the ring's shares",
            hottest(&spans),
            hottest(&shares)
        );
        let mut hop: Histogram<u64> = histogram();
        tallies.iter().for_each(|t| _ = hop.add(&t.hop));
        _ = writeln!(
            out,
            "        cost       {} ns of router CPU per span; hop p50 {}, p99 {}",
            whole(nanos_per_span(self.cpu, self.judge.spans())),
            quantile(&hop, 0.5),
            quantile(&hop, 0.99)
        );
        _ = writeln!(
            out,
            "        memory     splits are looked for among the last {} traces, in {} MiB",
            whole(seen::TRACES_MAX as u64),
            seen::BYTES >> 20
        );
    }
}

fn nanos_per_span(cpu: Duration, spans: u64) -> u64 {
    crate::time::nanos(cpu) / spans.max(1)
}

fn hottest(of: &[f64]) -> f64 {
    let mean = of.iter().sum::<f64>() / of.len().max(1) as f64;
    if mean > 0.0 { of.iter().copied().fold(0.0, f64::max) / mean } else { 0.0 }
}

fn whole(n: u64) -> String {
    count(n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::judge::tests::judged;

    /// Everything as it should be, for what `judge` has seen.
    fn good(judge: &Judge, digest: u64) -> (Sent, Counters) {
        let (spans, traces) = (judge.spans(), judge.traces);
        let sent = Sent { traces, spans, acknowledged: spans, digest, ..Sent::default() };
        let lanes = judge.tallies().iter().map(|t| [t.spans, t.spans, 0, 0]).collect();
        (sent, Counters { accepted: spans, refused: 0, lanes })
    }

    /// Names of the claims that are wrong, which must be those that the verdict rests on.
    fn wrong(judge: &Judge, sent: &Sent, counters: &Counters, abandoned: u64) -> Vec<String> {
        let cpu = Duration::from_millis(1);
        let (text, holds) = Outcome { sent, judge, counters, abandoned, cpu }.prove();
        let claims = text.lines().filter_map(|l| l.trim_start().strip_prefix("WRONG "));
        let names: Vec<_> =
            claims.map(|l| l.split(' ').next().unwrap_or_default().to_owned()).collect();
        assert_eq!(holds, names.is_empty(), "{text}");
        assert_eq!(text.contains("Every promise was kept."), holds, "{text}");
        names
    }

    #[test]
    fn each_kind_of_loss_or_error_breaks_its_promise() {
        let (judge, _, digest) = judged(|owner| u8::try_from(owner).unwrap());
        type Harm = fn(&mut Sent, &mut Counters);
        let table: [(&str, Harm, &[&str]); 9] = [
            ("nothing", |_, _| (), &[]),
            ("a span is missing", |s, _| s.spans += 1, &["spans"]),
            ("another span came", |s, _| s.digest ^= 1, &["spans"]),
            ("a trace is missing", |s, _| s.traces += 1, &["traces"]),
            ("an answer is missing", |s, _| s.acknowledged -= 1, &["counters"]),
            ("the router refused", |_, c| c.refused += 1, &["counters"]),
            ("an endpoint got less than was sent", |_, c| c.lanes[0][1] += 1, &["counters"]),
            ("a span was lost", |_, c| c.lanes[1][2] += 1, &["counters"]),
            ("a span is held", |_, c| c.lanes[2][3] += 1, &["counters"]),
        ];
        for (name, harm, want) in table {
            let (mut sent, mut counters) = good(&judge, digest);
            harm(&mut sent, &mut counters);
            assert_eq!(wrong(&judge, &sent, &counters, 0), want, "{name}");
        }
        let (sent, counters) = good(&judge, digest);
        assert_eq!(wrong(&judge, &sent, &counters, 1), ["counters"]);
    }

    #[test]
    fn a_swap_of_two_endpoints_is_a_wrong_placement_although_no_trace_is_split() {
        let (judge, _, digest) = judged(|owner| [1, 0, 2, 3][usize::from(owner)]);
        let (sent, counters) = good(&judge, digest);
        assert_eq!(wrong(&judge, &sent, &counters, 0), ["placement"]);
    }

    #[test]
    fn nothing_sent_proves_nothing() {
        let empty = Judge::new(&[], crate::route::Ring::new(crate::route::Generation::V3, &[]));
        let (sent, counters) = good(&empty, 0);
        assert_eq!(wrong(&empty, &sent, &counters, 0), ["spans"]);
    }
}
