//! The summary: what both tiers promise, checked against what was sent and what arrived.

use std::fmt::Write as _;

use super::book::Sums;
use super::generator::Sent;
use super::nodes::Census;
use super::store::Store;
use super::table::{count, quantile};
use hdrhistogram::Histogram;

/// One promise.
#[derive(Debug)]
struct Claim {
    holds: bool,
    name: &'static str,
    text: String,
}

/// What is known when everything has ended.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub sent: &'a Sent,
    /// The account of every round.
    pub sums: &'a Sums,
    pub store: &'a Store,
    pub census: &'a Census,
    /// All hops.
    pub hop: &'a Histogram<u64>,
}

impl Outcome<'_> {
    /// The summary, and whether every promise was kept.
    pub(super) fn prove(&self) -> (String, bool) {
        let claims = [
            self.spans(),
            self.traces(),
            self.placement(),
            self.verdicts(),
            self.kept(),
            self.late(),
            self.router(),
            self.samplers(),
            self.exporters(),
        ];
        let holds = claims.iter().all(|claim| claim.holds);
        let mut out = String::from("\nThe proof\n");
        for claim in &claims {
            let mark = if claim.holds { "ok" } else { "WRONG" };
            _ = writeln!(out, "  {mark:<5} {:<10} {}", claim.name, claim.text);
        }
        self.balance(&mut out);
        self.cost(&mut out);
        if let Some(trouble) = &self.sent.trouble {
            _ = writeln!(out, "  The first trouble that a client had: {trouble}");
        }
        let wrong: Vec<_> = claims.iter().filter(|c| !c.holds).map(|c| c.name).collect();
        match holds {
            true => out.push_str("Every promise was kept.\n"),
            false => _ = writeln!(out, "A promise was BROKEN: {}.", wrong.join(", ")),
        }
        (out, holds)
    }

    /// Every span that was sent came to a sampler.
    fn spans(&self) -> Claim {
        let (sent, refused) = (self.sent.spans, self.sent.refused);
        let taken = self.census.sampling().accepted;
        let holds = sent > 0 && sent == taken && refused == 0;
        let sign = if sent == taken { "=" } else { "against" };
        let text = format!(
            "sent {} {sign} taken by the samplers {}; refused {}",
            whole(sent),
            whole(taken),
            whole(refused)
        );
        Claim { holds, name: "spans", text }
    }

    /// A trace in two samplers would be counted by both.
    fn traces(&self) -> Claim {
        let (sent, seen) = (self.sent.traces, self.census.sampling().new_traces);
        let holds = sent == seen && sent == self.sums.traces;
        let mut text = format!(
            "sent {} {} seen {}, of them split over samplers: {}",
            whole(sent),
            if sent == seen { "=" } else { "against" },
            whole(seen),
            whole(seen.saturating_sub(sent))
        );
        if sent != self.sums.traces {
            _ = write!(text, "; answered {}", whole(self.sums.traces));
        }
        Claim { holds, name: "traces", text }
    }

    /// Each sampler has what the ring gives it, by count; at the store each trace is looked at.
    fn placement(&self) -> Claim {
        let has = self.census.samplers.iter().map(|s| [s.sampling.new_traces, s.sampling.accepted]);
        let holds = has.eq(self.sums.homes.iter().copied()) && self.sums.misplaced == 0;
        let shares = self.sums.homes.iter().map(|home| whole(home[0]));
        let text = format!(
            "{} sampler has the traces of the ring's own answer: {}; strays {}",
            if holds { "each" } else { "NOT each" },
            shares.collect::<Vec<_>>().join(" + "),
            whole(self.sums.misplaced)
        );
        Claim { holds, name: "placement", text }
    }

    fn verdicts(&self) -> Claim {
        let sums = self.sums;
        let all = sums.stalled + sums.skipped == 0;
        let votes = !all || sums.votes == self.census.sampling().votes;
        let holds = sums.judged > 0 && sums.wrong == 0 && votes;
        let mut text = format!(
            "a naive oracle judged {} traces again; other verdicts: {}",
            whole(sums.judged),
            whole(sums.wrong)
        );
        if all {
            text.push_str(if votes { ", other votes: 0" } else { ", OTHER VOTES" });
        }
        if sums.stalled > 0 {
            _ = write!(text, "; {} while the machine hung", whole(sums.stalled));
        }
        if sums.skipped > 0 {
            _ = write!(text, "; {} were too many", whole(sums.skipped));
        }
        Claim { holds, name: "verdicts", text }
    }

    /// Kept traces are at the store, whole and once; nothing else is.
    fn kept(&self) -> Claim {
        let [traces, spans] = self.sums.kept;
        let (store, broken) = (self.store, self.sums.broken);
        let came: u64 = store.spans.iter().sum();
        let odd = store.unreadable + store.forgotten + store.left();
        let holds = broken == 0 && odd == 0 && came == spans;
        let text = format!(
            "received {} {} spans of {} kept traces, whole and once; torn {}, foreign {}",
            whole(came),
            if came == spans { "=" } else { "against" },
            whole(traces),
            whole(broken),
            whole(odd)
        );
        Claim { holds, name: "store", text }
    }

    fn late(&self) -> Claim {
        let [kept, dropped] = self.sums.late;
        let holds = kept + dropped == self.sent.late;
        let text = format!(
            "of {} spans after the decision {} followed a kept trace, {} a dropped one",
            whole(self.sent.late),
            whole(kept),
            whole(dropped)
        );
        Claim { holds, name: "late", text }
    }

    /// The router's own counters add up, and agree with those before and behind it.
    fn router(&self) -> Claim {
        let router = &self.census.router;
        let [offered, sent, failed, in_flight] = router.total();
        let samplers = self.census.samplers.iter().map(|s| s.accepted);
        let holds = router.lanes_hold()
            && router.accepted == self.sent.acknowledged
            && router.refused == self.sent.refused
            && router.accepted == offered
            && router.lanes.iter().map(|lane| lane[1]).eq(samplers)
            && failed + in_flight + self.census.abandoned == 0;
        let text = format!(
            "accepted {} = sent {} + failed {} + in flight {}; refused {}",
            whole(router.accepted),
            whole(sent),
            whole(failed),
            whole(in_flight),
            whole(router.refused)
        );
        Claim { holds, name: "router", text }
    }

    fn samplers(&self) -> Claim {
        let samplers = &self.census.samplers;
        let all = self.census.sampling();
        let holds = all.lost + all.buffered == 0
            && samplers.iter().all(|s| s.sampling.holds() && s.accepted == s.sampling.accepted);
        let text = format!(
            "accepted {} = kept {} + dropped {} + lost {} + buffered {}",
            whole(all.accepted),
            whole(all.kept),
            whole(all.dropped),
            whole(all.lost),
            whole(all.buffered)
        );
        Claim { holds, name: "samplers", text }
    }

    /// What the samplers keep is what they send is what the store gets.
    fn exporters(&self) -> Claim {
        let samplers = &self.census.samplers;
        let mut sums = [0; 4];
        for sampler in samplers {
            sums.iter_mut().zip(sampler.total()).for_each(|(sum, n)| *sum += n);
        }
        let [offered, sent, failed, in_flight] = sums;
        let each = samplers.iter().zip(&self.store.spans).all(|(sampler, came)| {
            let [offered, sent, ..] = sampler.total();
            sampler.lanes_hold() && offered == sampler.sampling.kept && sent == *came
        });
        let holds = each
            && samplers.len() == self.store.spans.len()
            && failed + in_flight + self.census.abandoned == 0;
        let text = format!(
            "kept {} = sent {} + failed {} + in flight {}; given up at the end {}",
            whole(offered),
            whole(sent),
            whole(failed),
            whole(in_flight),
            whole(self.census.abandoned)
        );
        Claim { holds, name: "exporters", text }
    }

    /// How evenly the ring divides the traffic, in what the router sent.
    fn balance(&self, out: &mut String) {
        let sent = self.census.router.lanes.iter().map(|lane| lane[1]);
        let hottest = sent.clone().max().unwrap_or(0);
        let mean = sent.sum::<u64>() as f64 / self.census.router.lanes.len().max(1) as f64;
        _ = writeln!(
            out,
            "        balance    the hottest endpoint got {} spans, {:.2} times the mean of {}",
            whole(hottest),
            hottest as f64 / mean.max(1.0),
            count(mean)
        );
    }

    fn cost(&self, out: &mut String) {
        let spans = self.sent.spans.max(1);
        let [router, samplers] = self.census.cpu.map(|cpu| crate::time::nanos(cpu) / spans);
        _ = writeln!(
            out,
            "        cost       router {} ns of CPU per span, samplers {}; hop p50 {}, p99 {}",
            whole(router),
            whole(samplers),
            quantile(self.hop, 0.5),
            quantile(self.hop, 0.99)
        );
    }
}

fn whole(n: u64) -> String {
    count(n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::counters::{Counters, Sampling};
    use crate::demo::generator::histogram;

    /// Two samplers, ten traces of ten spans each; three are kept.
    struct Facts {
        sent: Sent,
        sums: Sums,
        store: Store,
        census: Census,
    }

    fn good() -> Facts {
        let sent = Sent { traces: 10, spans: 100, late: 4, acknowledged: 100, ..Sent::default() };
        let sums = Sums {
            traces: 10,
            kept: [3, 30],
            judged: 10,
            votes: vec![[3, 0]],
            late: [1, 3],
            homes: vec![[6, 60], [4, 40]],
            ..Sums::default()
        };
        let mut store = Store::new(2);
        store.spans = vec![20, 10];
        let sampler = |traces: u64, kept: u64| Counters {
            accepted: traces * 10,
            refused: 0,
            lanes: vec![[kept * 10, kept * 10, 0, 0]],
            sampling: Sampling {
                accepted: traces * 10,
                kept: kept * 10,
                dropped: (traces - kept) * 10,
                new_traces: traces,
                decided: [kept, traces - kept],
                votes: vec![[kept, 0]],
                ..Sampling::default()
            },
        };
        let lanes = vec![[60, 60, 0, 0], [40, 40, 0, 0]];
        let census = Census {
            router: Counters { accepted: 100, lanes, ..Counters::default() },
            samplers: vec![sampler(6, 2), sampler(4, 1)],
            ..Census::default()
        };
        Facts { sent, sums, store, census }
    }

    /// Names of the claims that are wrong, which must be those that the verdict rests on.
    fn wrong(facts: &Facts) -> Vec<String> {
        let Facts { sent, sums, store, census } = facts;
        let (text, holds) = Outcome { sent, sums, store, census, hop: &histogram() }.prove();
        let claims = text.lines().filter_map(|l| l.trim_start().strip_prefix("WRONG "));
        let names: Vec<_> =
            claims.map(|l| l.split(' ').next().unwrap_or_default().to_owned()).collect();
        assert_eq!(holds, names.is_empty(), "{text}");
        assert_eq!(text.contains("Every promise was kept."), holds, "{text}");
        assert_eq!(text.contains(&format!("BROKEN: {}.", names.join(", "))), !holds, "{text}");
        assert!(text.lines().all(|l| l.len() <= 100), "{text}");
        names
    }

    #[test]
    fn each_kind_of_loss_or_error_breaks_its_promise() {
        type Harm = fn(&mut Facts);
        let table: [(&str, Harm, &[&str]); 22] = [
            ("nothing", |_| (), &[]),
            ("a span is missing", |f| f.sent.spans += 1, &["spans"]),
            ("an answer is missing", |f| f.sent.acknowledged -= 1, &["router"]),
            ("a trace is missing", |f| f.sent.traces += 1, &["traces"]),
            ("a round is not over", |f| f.sums.traces -= 1, &["traces"]),
            (
                "a trace is in both samplers",
                |f| f.census.samplers[1].sampling.new_traces += 1,
                &["traces", "placement"],
            ),
            ("the ring says something else", |f| f.sums.homes.swap(0, 1), &["placement"]),
            ("a kept trace came from elsewhere", |f| f.sums.misplaced += 1, &["placement"]),
            ("a verdict differs", |f| f.sums.wrong += 1, &["verdicts"]),
            ("a vote differs", |f| f.sums.votes[0][0] += 1, &["verdicts"]),
            ("nothing was judged", |f| f.sums.judged = 0, &["verdicts"]),
            ("a trace was torn", |f| f.sums.broken += 1, &["store"]),
            ("a span came twice", |f| f.sums.kept[1] -= 1, &["store"]),
            ("something else came", |f| f.store.unreadable += 1, &["store"]),
            ("late spans took another way", |f| f.sums.late[0] -= 1, &["late"]),
            ("the router refused", |f| f.census.router.refused += 1, &["router"]),
            ("the router lost a span", |f| f.census.router.lanes[0][2] += 1, &["router"]),
            ("a sampler lost a span", |f| f.census.samplers[0].sampling.lost += 1, &["samplers"]),
            (
                "a sampler holds a span",
                |f| f.census.samplers[1].sampling.buffered += 1,
                &["samplers"],
            ),
            ("a kept span was not sent", |f| f.census.samplers[1].lanes[0][3] += 1, &["exporters"]),
            (
                "the store got less than was sent",
                |f| f.store.spans[0] -= 1,
                &["store", "exporters"],
            ),
            ("something was given up", |f| f.census.abandoned += 1, &["router", "exporters"]),
        ];
        for (name, harm, want) in table {
            let mut facts = good();
            harm(&mut facts);
            assert_eq!(wrong(&facts), want, "{name}");
        }
    }

    #[test]
    fn traces_that_nobody_judged_leave_the_votes_open() {
        let mut facts = good();
        facts.sums.stalled = 2;
        facts.sums.judged = 8;
        facts.sums.votes[0][0] = 2;
        assert_eq!(wrong(&facts), [""; 0]);
    }

    #[test]
    fn the_hottest_endpoint_is_held_against_the_mean() {
        let Facts { sent, sums, store, census } = &good();
        let (text, _) = Outcome { sent, sums, store, census, hop: &histogram() }.prove();
        let want = "  balance    the hottest endpoint got 60 spans, 1.20 times the mean of 50\n";
        assert!(text.contains(want), "{text}");
    }

    #[test]
    fn nothing_sent_proves_nothing() {
        let mut facts = Facts {
            sent: Sent::default(),
            sums: Sums::default(),
            store: Store::new(0),
            census: Census::default(),
        };
        assert_eq!(wrong(&facts), ["spans", "verdicts"]);
        facts.sent.spans = 1;
        assert_eq!(wrong(&facts), ["spans", "verdicts"]);
    }
}
