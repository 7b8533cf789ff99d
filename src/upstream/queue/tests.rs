use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::rpc::Code;
use crate::runtime::lease::{Limit, Purse};
use crate::upstream::options::QueueOptions;

const START: Instant = Instant(1_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A queue with its clock. A part of `n` bytes is `n` times the same letter.
struct Rig {
    queue: Queue,
    replies: Replies,
    limit: Arc<Limit>,
    now: Instant,
}

fn options() -> Options {
    let retry = RetryOptions { randomization_factor: 0.0, ..RetryOptions::default() };
    Options { retry: Some(retry), ..Options::default() }
}

fn rig(options: &Options, hold: Hold, calls_max: usize) -> Rig {
    let limit = Limit::new(options.queue.map_or(1_000, |q| q.size_max));
    let leases = vec![Lease::new(Arc::clone(&limit), 1)];
    let setup = Setup { leases, calls_max, hold, suspect_after: ms(50), seed: 1 };
    Rig { queue: Queue::new(options, setup), replies: Replies::default(), limit, now: START }
}

fn soft() -> Rig {
    rig(&options(), Hold::Soft, 10)
}

impl Rig {
    fn ask(&mut self) -> Ticket {
        self.replies.open(self.now + SECOND, Some(self.now + SECOND * 5))
    }

    fn push(&mut self, letter: u8, bytes: usize) -> Ticket {
        let ticket = self.ask();
        self.push_for(ticket, letter, bytes);
        ticket
    }

    fn push_for(&mut self, ticket: Ticket, letter: u8, bytes: usize) {
        assert!(self.queue.reserve(1, bytes as u64), "room");
        let ticket = Some(ticket);
        let (charge, metadata, place) = (None, None, None);
        let part = NewPart { items: 1, bytes, ticket, charge, metadata, place };
        self.queue.push(self.now, part, &mut self.replies, |out| {
            out.resize(out.len() + bytes, letter);
        });
    }

    fn poll(&mut self) -> Option<Departure> {
        self.queue.poll(self.now, &mut self.replies)
    }

    fn leave(&mut self) -> Departure {
        self.poll().expect("a call leaves")
    }

    fn done(&mut self, call: &Departure, result: Result<u64, Status>) {
        self.queue.done(self.now, call.key, result, &mut self.replies);
    }

    fn fail(&mut self, call: &Departure, code: Code) {
        self.done(call, Err(Status::new(code, "no")));
    }

    fn answer(&mut self, ticket: Ticket) -> Option<Result<(), Code>> {
        match self.replies.poll(ticket, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer.map_err(|status| status.code)),
            Poll::Pending => None,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.replies.tick(self.now);
        self.queue.watch(self.now, &mut self.replies);
    }
}

fn letters(call: &Departure) -> String {
    let mut text = String::from_utf8(call.framed[5..].to_vec()).unwrap();
    text.dedup();
    text
}

trait Dedup {
    fn dedup(&mut self);
}

impl Dedup for String {
    fn dedup(&mut self) {
        let mut last = None;
        self.retain(|c| last.replace(c) != Some(c));
    }
}

#[test]
fn a_call_leaves_at_once_when_none_is_in_flight() {
    let mut rig = soft();
    assert!(rig.poll().is_none());
    rig.push(b'a', 10);
    let call = rig.leave();
    assert_eq!((&call.framed[..5], letters(&call)), (&[0, 0, 0, 0, 10][..], "a".into()));
    assert!(rig.poll().is_none());
}

#[test]
fn behind_a_call_parts_gather_until_they_are_many_or_old() {
    let mut rig = soft();
    rig.push(b'a', 10);
    rig.leave();
    rig.push(b'b', 10);
    rig.now = rig.now + ms(1);
    rig.push(b'c', 10);
    assert!(rig.poll().is_none());
    assert_eq!(rig.queue.deadline(true), Some(START + ms(2)), "2 ms after the oldest");
    rig.now = START + ms(2);
    assert_eq!(letters(&rig.leave()), "bc");
    rig.push(b'd', (256 << 10) - 1);
    assert!(rig.poll().is_none());
    rig.push(b'e', 1);
    assert_eq!(letters(&rig.leave()), "de", "256 KiB have gathered");
    assert!(rig.poll().is_none());
}

#[test]
fn the_answer_of_the_last_call_lets_the_next_leave() {
    let mut rig = soft();
    rig.push(b'a', 10);
    let call = rig.leave();
    rig.push(b'b', 10);
    rig.done(&call, Ok(0));
    assert_eq!(letters(&rig.leave()), "b");
}

#[test]
fn no_more_calls_are_in_flight_than_consumers() {
    let mut rig = rig(&options(), Hold::Soft, 2);
    for letter in *b"abc" {
        rig.push(letter, 300 << 10);
    }
    let (a, _b) = (rig.leave(), rig.leave());
    assert!(rig.poll().is_none());
    rig.done(&a, Ok(0));
    assert_eq!(letters(&rig.leave()), "c");
}

#[test]
fn merging_stops_at_its_limits_but_one_part_always_goes() {
    let merge = |bytes_max, items_max| MergeOptions {
        bytes: usize::MAX,
        bytes_max,
        items_max,
        ..MergeOptions::default()
    };
    for (name, merge, sizes, want) in [
        ("bytes", merge(20, 0), &[10, 10, 1][..], &["ab", "c"][..]),
        ("items", merge(1_000, 2), &[1, 1, 1], &["ab", "c"]),
        ("a larger part alone", merge(20, 0), &[5, 21, 5], &["a", "b", "c"]),
        ("a larger part first", merge(20, 0), &[21, 5, 5], &["a", "bc"]),
    ] {
        let mut rig = rig(&Options { merge, ..options() }, Hold::Soft, 10);
        for (letter, size) in (b'a'..).zip(sizes) {
            rig.push(letter, *size);
        }
        rig.now = rig.now + ms(2);
        let calls: Vec<_> = std::iter::from_fn(|| rig.poll()).map(|c| letters(&c)).collect();
        assert_eq!(calls, want, "{name}");
    }
}

#[test]
fn room_is_taken_in_every_limit_or_in_none() {
    let (wide, narrow) = (Limit::new(10), Limit::new(2));
    let leases = [&wide, &narrow].map(|l| Lease::new(Arc::clone(l), 1)).into();
    let setup = Setup { leases, calls_max: 1, hold: Hold::Soft, suspect_after: SECOND, seed: 1 };
    let mut queue = Queue::new(&options(), setup);
    assert!(queue.reserve(7, 7) && queue.reserve(7, 7) && !queue.reserve(7, 7));
    assert_eq!((wide.leased(), narrow.leased()), (2, 2));
    queue.unreserve(7, 7);
    assert_eq!((wide.leased(), narrow.leased()), (1, 1));
}

#[test]
fn the_queue_is_measured_in_units_of_its_sizer() {
    for (sizer, want) in [(Sizer::Requests, 2), (Sizer::Items, 2), (Sizer::Bytes, 30)] {
        let queue = QueueOptions { sizer, ..QueueOptions::default() };
        let mut rig = rig(&Options { queue: Some(queue), ..options() }, Hold::Soft, 10);
        rig.push(b'a', 10);
        rig.push(b'b', 20);
        assert_eq!((rig.queue.size_used(), rig.limit.leased()), (want, want), "{sizer:?}");
        let call = rig.leave();
        assert_eq!(rig.limit.leased(), want, "in flight is held");
        rig.done(&call, Ok(0));
        assert_eq!(rig.limit.leased(), 0);
    }
}

#[test]
fn a_part_that_may_be_owned_is_owned_at_the_first_retryable_failure() {
    let mut rig = soft();
    let first = rig.push(b'a', 10);
    assert_eq!(rig.answer(first), None);
    let call = rig.leave();
    rig.fail(&call, Code::Unavailable);
    assert_eq!(rig.answer(first), Some(Ok(())));
    let second = rig.push(b'b', 10);
    assert_eq!(rig.answer(second), Some(Ok(())), "while there is trouble, as it comes");
    assert!(rig.poll().is_none(), "and it gathers for longer");
    rig.pass(ms(200));
    let call = rig.leave();
    rig.done(&call, Ok(0));
    assert!(!rig.queue.in_trouble());
    let third = rig.push(b'c', 10);
    assert_eq!(rig.answer(third), None);
}

#[test]
fn a_part_that_must_not_be_owned_waits_for_its_retry() {
    let mut rig = rig(&options(), Hold::Hard, 10);
    let ticket = rig.replies.open(START + SECOND, None);
    rig.push_for(ticket, b'a', 10);
    let call = rig.leave();
    rig.fail(&call, Code::Unavailable);
    rig.pass(SECOND * 2);
    assert_eq!(rig.answer(ticket), None, "also past the acknowledgement deadline");
    rig.push(b'b', 10);
    assert_eq!(letters(&rig.leave()), "b", "a client waits, so nothing gathers for longer");
    rig.pass(SECOND * 3);
    let call = rig.leave();
    rig.done(&call, Ok(0));
    assert_eq!(rig.answer(ticket), Some(Ok(())));
}

#[test]
fn retries_back_off_and_end_after_the_longest_time() {
    let mut rig = soft();
    rig.push(b'a', 10);
    let mut waits = Vec::new();
    while let Some(call) = rig.poll() {
        rig.fail(&call, Code::Unavailable);
        if let Some(due) = rig.queue.deadline(true) {
            waits.push(due.since(rig.now).as_millis());
            rig.now = due;
        }
    }
    assert_eq!(waits[..6], [5_000, 7_500, 11_250, 16_875, 25_312, 30_000]);
    assert!(rig.now.since(START) <= SECOND * 300 && rig.now.since(START) >= SECOND * 270);
    assert_eq!(rig.queue.stats.losses[&Loss::Elapsed], 1);
    assert_eq!(rig.limit.leased(), 0);
}

#[test]
fn the_delay_that_an_endpoint_asks_for_is_a_minimum() {
    for (asked, want) in [(1, 5), (20, 20)] {
        let mut rig = soft();
        rig.push(b'a', 10);
        let call = rig.leave();
        let status = Status {
            retry_after: Some(SECOND * asked),
            ..Status::new(Code::ResourceExhausted, "slow down")
        };
        rig.done(&call, Err(status));
        assert_eq!(rig.queue.deadline(true), Some(START + SECOND * want), "asked for {asked} s");
    }
}

#[test]
fn a_success_does_not_bring_a_retry_before_the_delay_that_was_asked_for() {
    let mut rig = soft();
    let calls = [b'a', b'b', b'c'].map(|letter| {
        rig.push(letter, 300 << 10);
        rig.leave()
    });
    let status = Status { retry_after: Some(SECOND), ..Status::new(Code::Unavailable, "busy") };
    rig.done(&calls[0], Err(status));
    rig.pass(SECOND - ms(1));
    rig.done(&calls[1], Ok(0));
    assert!(rig.poll().is_none());
    rig.pass(ms(1));
    rig.done(&calls[2], Ok(0));
    assert_eq!(letters(&rig.leave()), "a", "after it, a success does");
}

#[test]
fn a_success_brings_one_retry_forward_and_its_success_the_next() {
    let mut rig = soft();
    for letter in *b"ab" {
        rig.push(letter, 300 << 10);
    }
    let (a, b) = (rig.leave(), rig.leave());
    rig.fail(&a, Code::Unavailable);
    rig.fail(&b, Code::Unavailable);
    rig.push(b'c', 300 << 10);
    let c = rig.leave();
    rig.done(&c, Ok(0));
    let retry = rig.leave();
    assert_eq!(letters(&retry), "a");
    assert!(rig.poll().is_none());
    rig.done(&retry, Ok(0));
    assert_eq!(letters(&rig.leave()), "b");
}

#[test]
fn a_due_retry_does_not_starve_behind_new_parts() {
    let mut rig = rig(&options(), Hold::Soft, 1);
    rig.push(b'a', 300 << 10);
    let call = rig.leave();
    rig.fail(&call, Code::Unavailable);
    rig.pass(SECOND * 5);
    rig.push(b'b', 300 << 10);
    assert_eq!(letters(&rig.leave()), "a");
}

#[test]
fn refusals_for_all_parts_cost_all_parts() {
    for code in [Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented] {
        let mut rig = soft();
        let tickets = [rig.push(b'a', 10), rig.push(b'b', 10)];
        let call = rig.leave();
        rig.fail(&call, code);
        assert_eq!(rig.queue.stats.losses[&Loss::Code(code)], 2);
        assert!(tickets.map(|t| rig.answer(t)).iter().all(|a| *a == Some(Err(code))), "{code:?}");
        assert!(rig.queue.is_empty() && rig.limit.leased() == 0);
    }
}

#[test]
fn halving_finds_exactly_the_bad_parts() {
    let isolated = [Code::InvalidArgument, Code::Internal, Code::Unknown, Code::ResourceExhausted];
    for (code, bad) in isolated.into_iter().zip(["a", "h", "ceg", "abcdefgh"]) {
        let mut rig = soft();
        let tickets: Vec<_> = (b'a'..=b'h').map(|l| (char::from(l), rig.push(l, 10))).collect();
        let mut delivered = String::new();
        let mut calls = 0;
        while let Some(call) = rig.poll() {
            calls += 1;
            match letters(&call).contains(|c| bad.contains(c)) {
                true => rig.fail(&call, code),
                false => {
                    delivered += &letters(&call);
                    rig.done(&call, Ok(0));
                }
            }
        }
        for (letter, ticket) in tickets {
            let want = if bad.contains(letter) { Err(code) } else { Ok(()) };
            assert_eq!(rig.answer(ticket), Some(want), "{bad}: {letter}");
            let times = delivered.matches(letter).count();
            assert_eq!(times, usize::from(want.is_ok()), "{bad}: {letter}");
        }
        assert!(calls < 16, "{bad} took {calls} calls");
        assert_eq!((rig.queue.stats.lost(), rig.limit.leased()), (bad.len() as u64, 0));
    }
}

#[test]
fn what_an_endpoint_rejects_in_an_ok_is_counted_and_not_retried() {
    let mut rig = soft();
    let ticket = rig.push(b'a', 10);
    let call = rig.leave();
    rig.done(&call, Ok(7));
    assert_eq!(rig.answer(ticket), Some(Ok(())));
    let stats = &rig.queue.stats;
    assert_eq!((stats.sent, stats.rejected, stats.lost()), (1, 1, 0), "no more than was sent");
    assert!(rig.queue.is_empty());
}

#[test]
fn a_call_without_an_answer_ends_at_its_timeout() {
    let mut rig = soft();
    rig.push(b'a', 10);
    let call = rig.leave();
    rig.now = rig.now + SECOND * 5 - ms(1);
    assert_eq!(rig.queue.expired(rig.now), None);
    rig.now = rig.now + ms(1);
    assert_eq!(rig.queue.expired(rig.now), Some(call.key));
    rig.fail(&call, Code::DeadlineExceeded);
    rig.done(&call, Ok(0));
    assert_eq!(rig.queue.held_items(), 1, "a late answer is for nobody");
    rig.pass(SECOND * 5);
    assert_eq!(letters(&rig.leave()), "a");
}

#[test]
fn without_a_timeout_a_call_never_expires() {
    let mut rig = rig(&Options { timeout: Duration::ZERO, ..options() }, Hold::Hard, 1);
    rig.push(b'a', 10);
    rig.leave();
    assert_eq!(rig.queue.expired(START + SECOND * 1_000), None);
    rig.pass(ms(50));
    assert_eq!(rig.queue.deadline(true), None, "once it is suspect");
}

#[test]
fn what_waits_for_an_endpoint_that_cannot_be_reached_is_owned_or_fails() {
    let refused = Status::new(Code::Unavailable, "connection refused");
    for (name, retry, hold, want, lost) in [
        ("owned", options().retry, Hold::Soft, Some(Ok(())), 0),
        ("waits", options().retry, Hold::Hard, None, 0),
        ("fails", None, Hold::Soft, Some(Err(Code::Unavailable)), 1),
        ("fails too", None, Hold::Hard, Some(Err(Code::Unavailable)), 1),
    ] {
        let mut rig = rig(&Options { retry, ..options() }, hold, 10);
        let ticket = rig.push(b'a', 10);
        rig.queue.unreachable(rig.now, &refused, &mut rig.replies);
        assert_eq!((rig.answer(ticket), rig.queue.stats.lost()), (want, lost), "{name}");
        assert!(rig.queue.in_trouble());
        rig.queue.reachable(rig.now);
        assert_eq!(rig.poll().is_some(), lost == 0, "{name}: it leaves as soon as there is a way");
    }
}

#[test]
fn what_an_unreachable_endpoint_does_not_take_in_time_is_given_up_once() {
    let mut rig = soft();
    rig.push(b'a', 10);
    let refused = Status::new(Code::Unavailable, "connection refused");
    rig.queue.unreachable(rig.now, &refused, &mut rig.replies);
    assert_eq!(rig.queue.deadline(false), Some(START + SECOND * 300));
    rig.pass(SECOND * 300);
    assert_eq!(rig.queue.stats.losses[&Loss::Elapsed], 1);
    assert_eq!((rig.queue.deadline(false), rig.limit.leased()), (None, 0));
}

#[test]
fn an_endpoint_that_lets_a_call_or_a_part_lie_is_suspect() {
    let mut rig = soft();
    let sent = rig.push(b'a', 10);
    let call = rig.leave();
    assert_eq!(rig.queue.deadline(true), Some(START + ms(50)));
    rig.pass(ms(49));
    assert_eq!(rig.answer(sent), None);
    rig.pass(ms(1));
    assert_eq!(rig.answer(sent), Some(Ok(())), "owned, though still in flight");
    let next = rig.push(b'b', 10);
    assert_eq!(rig.answer(next), Some(Ok(())));
    rig.done(&call, Ok(0));
    assert!(!rig.queue.in_trouble(), "an answer clears it");

    let mut rig = soft();
    let unsent = rig.push(b'a', 10);
    assert_eq!(rig.queue.deadline(false), Some(START + ms(50)), "also while it is dialled");
    rig.pass(ms(50));
    assert_eq!(rig.answer(unsent), Some(Ok(())));
}

#[test]
fn an_endpoint_that_is_silent_is_suspect_also_if_its_parts_may_not_be_owned() {
    let mut rig = rig(&options(), Hold::Hard, 1);
    let ticket = rig.push(b'a', 10);
    let call = rig.leave();
    rig.pass(ms(49));
    assert!(!rig.queue.in_trouble());
    rig.pass(ms(1));
    assert!(rig.queue.in_trouble(), "a full queue of it must hold up nobody");
    assert_eq!(rig.answer(ticket), None, "but its client waits");
    rig.done(&call, Ok(0));
    assert!(!rig.queue.in_trouble());
    assert_eq!(rig.answer(ticket), Some(Ok(())));
}

#[test]
fn at_the_acknowledgement_deadline_the_queue_owns_what_it_holds() {
    let mut rig = soft();
    let ticket = rig.push(b'a', 10);
    let call = rig.leave();
    rig.now = rig.now + SECOND;
    rig.replies.tick(rig.now);
    assert_eq!(rig.answer(ticket), Some(Ok(())));
    rig.fail(&call, Code::InvalidArgument);
    assert_eq!(rig.queue.stats.lost(), 1, "counted, for nobody is left to tell");
}

#[test]
fn parts_whose_clients_were_told_of_a_failure_are_cut_out_of_the_retry() {
    let mut rig = rig(&options(), Hold::Hard, 10);
    let told = rig.push(b'a', 10);
    let patient = rig.replies.open(START + SECOND, None);
    rig.push_for(patient, b'b', 20);
    let call = rig.leave();
    rig.pass(SECOND * 5);
    assert_eq!(rig.answer(told), Some(Err(Code::DeadlineExceeded)));
    rig.fail(&call, Code::Unavailable);
    rig.pass(SECOND * 5);
    let retry = rig.leave();
    assert_eq!((letters(&retry), retry.framed.len(), retry.items), ("b".into(), 25, 1));
    assert_eq!(rig.queue.stats.losses[&Loss::Abandoned], 1);
    assert_eq!(rig.limit.leased(), 1, "the other's room is free");
    rig.done(&retry, Ok(0));
    assert_eq!(rig.answer(patient), Some(Ok(())));
}

#[test]
fn a_client_that_no_retry_can_reach_in_time_hears_of_the_failure_at_once() {
    let mut rig = rig(&options(), Hold::Hard, 10);
    let hopeless = rig.push(b'a', 10);
    let patient = rig.replies.open(START + SECOND, None);
    rig.push_for(patient, b'b', 20);
    let call = rig.leave();
    rig.pass(ms(100));
    rig.fail(&call, Code::Unavailable);
    assert_eq!(rig.answer(hopeless), Some(Err(Code::Unavailable)));
    assert_eq!(rig.queue.stats.losses[&Loss::Code(Code::Unavailable)], 1);
    rig.pass(SECOND * 5);
    assert_eq!(letters(&rig.leave()), "b");
}

#[test]
fn a_reset_never_recalls_parts_that_were_merged() {
    let mut rig = rig(&options(), Hold::Hard, 10);
    let (gone, stays) = (rig.push(b'a', 10), rig.push(b'b', 10));
    rig.replies.close(gone);
    assert_eq!(rig.replies.waiting(), 1);
    let call = rig.leave();
    assert_eq!(letters(&call), "ab");
    rig.fail(&call, Code::Unavailable);
    rig.pass(SECOND * 5);
    assert_eq!(rig.answer(stays), Some(Err(Code::DeadlineExceeded)));
    assert_eq!(letters(&rig.leave()), "a", "only the one that was told is cut out");
}

#[test]
fn what_is_charged_is_given_back_with_the_parts() {
    let budget = Limit::new(1_000);
    let purse = Purse::new(Lease::new(Arc::clone(&budget), 1));
    let mut rig = rig(&options(), Hold::Hard, 10);
    let tickets = [1, 9, 9, 9].map(|n| rig.replies.open(START, Some(START + SECOND * n)));
    for ticket in tickets {
        assert!(rig.queue.reserve(1, 100));
        let part = NewPart {
            items: 1,
            bytes: 100,
            ticket: Some(ticket),
            charge: purse.take(100),
            metadata: None,
            place: None,
        };
        rig.queue.push(START, part, &mut rig.replies, |out| out.resize(out.len() + 100, b'x'));
    }
    let call = rig.leave();
    rig.fail(&call, Code::Unavailable);
    rig.pass(SECOND * 5);
    assert!(rig.answer(tickets[0]).is_some());
    let call = rig.leave();
    assert_eq!(purse.used(), 300, "one was cut out");
    rig.fail(&call, Code::Internal);
    assert_eq!(purse.used(), 300, "halves share what the whole had");
    let half = rig.leave();
    rig.done(&half, Ok(0));
    assert_eq!(purse.used(), 200);
    rig.queue.abandon(&mut rig.replies);
    assert_eq!(budget.leased(), 0);
}

#[test]
fn a_call_that_never_left_is_not_counted_and_goes_first() {
    let mut rig = soft();
    rig.push(b'a', 10);
    let call = rig.leave();
    rig.push(b'b', 300 << 10);
    rig.queue.unsent(call.key);
    assert_eq!((rig.queue.stats.calls, rig.queue.stats.parts), (0, 0));
    assert_eq!(letters(&rig.leave()), "a");
    assert_eq!(rig.queue.stats.calls, 1);
}

#[test]
fn a_call_that_was_not_processed_goes_again_at_once_and_the_second_time_it_failed() {
    let refused = || Status::new(Code::Unavailable, "REFUSED_STREAM");
    let mut rig = soft();
    let ticket = rig.push(b'a', 10);
    let call = rig.leave();
    assert!(rig.queue.unprocessed(rig.now, call.key, refused(), &mut rig.replies));
    let stats = &rig.queue.stats;
    assert_eq!((stats.calls, stats.parts, stats.calls_failed), (0, 0, 0), "as if never made");
    assert!(!rig.queue.in_trouble() && rig.answer(ticket).is_none());
    let again = rig.leave();
    assert_eq!((letters(&again), again.items), ("a".into(), 1));
    assert!(!rig.queue.unprocessed(rig.now, again.key, refused(), &mut rig.replies));
    assert_eq!((rig.queue.stats.calls, rig.queue.stats.calls_failed), (1, 1));
    assert!(rig.queue.in_trouble() && rig.poll().is_none());
    assert_eq!(rig.answer(ticket), Some(Ok(())), "the queue owns it");
    assert_eq!(rig.queue.deadline(true), Some(START + SECOND * 5), "the first interval");
    rig.pass(SECOND * 5);
    let third = rig.leave();
    assert!(!rig.queue.unprocessed(rig.now, third.key, refused(), &mut rig.replies));
    assert_eq!(rig.queue.deadline(true), Some(rig.now + ms(7_500)), "and the second one");
    assert!(!rig.queue.unprocessed(rig.now, third.key, refused(), &mut rig.replies), "over");
}

#[test]
fn what_was_not_processed_goes_again_also_without_retries_and_if_nothing_may_be_owned() {
    let refused = || Status::new(Code::Unavailable, "REFUSED_STREAM");
    for hold in [Hold::Soft, Hold::Hard] {
        let mut rig = rig(&Options { retry: None, ..options() }, hold, 10);
        let (ticket, other) = (rig.push(b'a', 10), rig.push(b'b', 10));
        let call = rig.leave();
        assert!(rig.queue.unprocessed(rig.now, call.key, refused(), &mut rig.replies));
        let call = rig.leave();
        rig.fail(&call, Code::InvalidArgument);
        // Halves have the history of the whole.
        let half = rig.leave();
        assert!(!rig.queue.unprocessed(rig.now, half.key, refused(), &mut rig.replies));
        assert_eq!(rig.answer(ticket), Some(Err(Code::Unavailable)));
        let half = rig.leave();
        rig.done(&half, Ok(0));
        assert_eq!(rig.answer(other), Some(Ok(())));
        assert_eq!((rig.queue.stats.sent, rig.limit.leased()), (1, 0));
    }
}

#[test]
fn what_is_in_flight_asks_for_no_connection() {
    let mut rig = soft();
    assert!(!rig.queue.has_to_send());
    rig.push(b'a', 10);
    assert!(rig.queue.has_to_send());
    let call = rig.leave();
    assert!(!rig.queue.has_to_send() && !rig.queue.is_empty());
    rig.fail(&call, Code::Unavailable);
    assert!(rig.queue.has_to_send(), "also what waits for its retry");
}

#[test]
fn what_is_taken_to_be_routed_anew_answers_once_it_has_arrived() {
    let (mut from, mut to) = (soft(), soft());
    let ticket = from.push(b'a', 10);
    let mut held = from.queue.take_held();
    assert_eq!((held.len(), from.limit.leased(), from.queue.stats.offered), (1, 0, 0));
    let batch = &mut held[0];
    assert!(to.queue.reserve(1, 10));
    let part = NewPart {
        items: 1,
        bytes: 10,
        ticket: batch.parts[0].ticket,
        charge: None,
        metadata: None,
        place: None,
    };
    let message = batch.message();
    to.queue.push(START, part, &mut from.replies, |out| out.extend_from_slice(&message));
    batch.own(Hold::Soft, &mut from.replies);
    assert_eq!(from.answer(ticket), None);
    let call = to.queue.poll(START, &mut from.replies).expect("it leaves from there");
    to.queue.done(START, call.key, Ok(0), &mut from.replies);
    assert_eq!(from.answer(ticket), Some(Ok(())));
}

#[test]
fn draining_waits_for_nothing() {
    let mut rig = soft();
    rig.push(b'a', 10);
    let call = rig.leave();
    rig.fail(&call, Code::Unavailable);
    rig.push(b'b', 10);
    assert!(rig.poll().is_none());
    rig.queue.drain(rig.now);
    let (a, b) = (rig.leave(), rig.leave());
    assert_eq!((letters(&a), letters(&b)), ("a".into(), "b".into()));
    rig.fail(&a, Code::Unavailable);
    assert_eq!(rig.queue.deadline(true).map(|d| d.since(rig.now)), Some(ms(500)));
}

#[test]
fn abandoning_counts_and_tells_everything() {
    let mut rig = soft();
    let flying = rig.push(b'a', 10);
    let call = rig.leave();
    let open = rig.push(b'b', 10);
    assert_eq!(rig.queue.abandon(&mut rig.replies), 2);
    assert_eq!(rig.queue.stats.losses[&Loss::Shutdown], 2);
    for ticket in [flying, open] {
        assert_eq!(rig.answer(ticket), Some(Err(Code::Unavailable)));
    }
    rig.done(&call, Ok(0));
    assert_eq!((rig.queue.stats.sent, rig.limit.leased()), (0, 0));
}
