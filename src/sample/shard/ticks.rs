//! Time: a tick a second takes one set, whose traces are decided in their order of arrival, a few
//! at a time, all with the tick's time. Where there are drop policies, all traces are shown to
//! these first: what is dropped goes before anything else is decided, as in the collector
//! (tailsampling 2.15). A span that comes between the two is late for the drop policies.

use super::decide::Verdict;
use super::leave::Timing;
use super::{Moment, Shard, Tick};
use crate::sample::fate::End;
use crate::sample::survivors;
use crate::sample::wheel::Due;
use crate::time::Instant;

/// Traces decided between two looks at the clock.
pub(super) const SLICE: usize = 32;

/// Records looked at when memory is short.
const FORGET: usize = 1024;

/// What a call of [`Shard::poll`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A trace leaves, or late spans of one: so many spans, whose bytes are [`Shard::kept`].
    Kept(u64),
    /// There is more to do at once.
    Busy,
    /// There is nothing to do before [`Shard::deadline`], or before something is pushed.
    Idle,
}

impl Tick {
    fn new(number: u64, moment: Moment, due: Vec<Due>) -> Self {
        Self {
            number,
            moment,
            early: false,
            due,
            strays: Vec::new(),
            has_dropped: false,
            next: 0,
            asked: 0,
            limits: Vec::new(),
        }
    }
}

impl Shard {
    /// When the next tick is due.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.wheel.next_at()
    }

    /// Whether something waits to leave.
    #[must_use]
    pub fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Whether nothing waits: neither for a decision nor to leave.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.buffered() == 0
    }

    /// Lets the next trace leave, or does a little of what is due. What the call before it let
    /// leave has been taken.
    pub fn poll(&mut self, moment: Moment) -> Step {
        self.stats.kept += std::mem::take(&mut self.in_hand);
        match self.gather_next() {
            Some(spans) => Step::Kept(spans),
            None => self.decide_due(moment),
        }
    }

    /// Does a little of what is due, while what leaves has nowhere to go. Never [`Step::Kept`].
    pub fn decide_due(&mut self, moment: Moment) -> Step {
        let Some(mut tick) = self.tick.take() else {
            if moment.now < self.wheel.next_at() {
                return Step::Idle;
            }
            self.begin_tick(moment);
            return Step::Busy;
        };
        if self.advance(&mut tick) {
            self.tick = Some(tick);
        } else {
            self.end_tick(&tick);
        }
        Step::Busy
    }

    fn begin_tick(&mut self, moment: Moment) {
        let (number, due, strays) = self.wheel.take();
        self.stats.ticks += 1;
        self.tick = Some(self.begin(Tick { strays, ..Tick::new(number, moment, due) }));
    }

    fn begin(&mut self, mut tick: Tick) -> Tick {
        // Span-ingest has asked them about every batch.
        if self.program.drops == 0 || self.rules.span_ingest {
            self.end_drops(&mut tick);
        }
        tick
    }

    /// Does a little of a tick. Whether there is more.
    fn advance(&mut self, tick: &mut Tick) -> bool {
        if tick.has_dropped {
            self.each_of_some(tick, Self::decide);
            return tick.next < tick.due.len();
        }
        self.each_of_some(tick, Self::ask_drops);
        if tick.next == tick.due.len() {
            self.end_drops(tick);
        }
        true
    }

    /// The drop policies were asked about all traces that are due: the others come next.
    fn end_drops(&mut self, tick: &mut Tick) {
        (tick.has_dropped, tick.next) = (true, 0);
        let strays = self.strays(tick);
        self.set_limits(tick, &strays);
        for chain in strays {
            self.decide(tick, chain, Timing::InSet);
        }
    }

    /// Ids whose traces went before their time: some have come back, and those that no drop policy
    /// drops are decided in this set (tailsampling 3.4).
    fn strays(&mut self, tick: &mut Tick) -> Vec<u32> {
        let mut left = Vec::new();
        for id in std::mem::take(&mut tick.strays) {
            match self.traces.find(&id) {
                None => self.stats.dropped_too_early += 1,
                Some(slot) => left.extend(
                    self.waiting(slot).filter(|chain| !self.ask_drops(tick, *chain, Timing::InSet)),
                ),
            }
        }
        left
    }

    /// What `act` does, for the next traces that are still due.
    fn each_of_some<T>(
        &mut self,
        tick: &mut Tick,
        act: fn(&mut Self, &mut Tick, u32, Timing) -> T,
    ) {
        let end = tick.due.len().min(tick.next + SLICE);
        self.look_ahead(&tick.due[tick.next..end]);
        while tick.next < end {
            let due = tick.due[tick.next];
            tick.next += 1;
            if self.is_due(tick, due) {
                let timing = if tick.early { Timing::Hastened } else { Timing::Due };
                act(self, tick, due.chain, timing);
            }
        }
    }

    /// Whether the trace is still to be decided in this set: it may be gone, decided, or moved to
    /// an earlier one.
    pub(super) fn is_due(&self, tick: &Tick, due: Due) -> bool {
        self.chains.waits(due, tick.number)
    }

    /// Asks the drop policies. Whether the trace is gone.
    fn ask_drops(&mut self, tick: &mut Tick, chain: u32, timing: Timing) -> bool {
        if self.rules.span_ingest {
            return false;
        }
        let verdict = self.judge_drops(tick, chain);
        let is_dropped = verdict.is_some();
        if let Some(verdict) = verdict {
            self.carry_out(tick.moment.now, chain, verdict, timing);
        }
        is_dropped
    }

    /// Asks the other policies.
    fn decide(&mut self, tick: &mut Tick, chain: u32, timing: Timing) {
        let now = tick.moment.now;
        if !self.rules.span_ingest {
            let verdict = self.judge(tick, chain);
            self.carry_out(now, chain, verdict, timing);
            return;
        }
        // Whatever still waits was judged as it came (tailsampling 3.5).
        let slot = self.chains.get(chain).trace();
        if self.carry_out(now, chain, Verdict::not_sampled(), timing) {
            self.remove(now, slot, timing == Timing::InSet);
        }
    }

    fn end_tick(&mut self, tick: &Tick) {
        if tick.early {
            self.stats.decided_early += tick.due.len() as u64;
        } else {
            self.stats.traces_at_tick = self.traces.len() as u64;
            self.thin();
        }
        self.tidy();
    }

    /// Roots hasten most traces out of the set that they came into.
    fn thin(&mut self) {
        if self.rules.after_root.is_some() {
            let Self { wheel, chains, .. } = self;
            wheel.thin(|number, due| chains.waits(due, number));
        }
    }

    /// Frees what nobody needs, and makes that possible where little is left.
    fn tidy(&mut self) {
        let taken = self.wheel.taken();
        let Some(done) = taken.checked_sub(1) else { return };
        self.free_segments(done);
        // Who waits for longer than after a root waits for one, and that may be long.
        let soon = taken + self.rules.after_root.map_or(0, |wait| wait.as_secs());
        loop {
            let sparse = self.buffer.sparse();
            if sparse.is_empty() {
                return;
            }
            let Self { chains, buffer, resources, scopes, .. } = self;
            for segment in sparse {
                survivors::move_all(segment, soon, chains, buffer, |origin| {
                    resources.count(origin.resource);
                    scopes.count(origin.scope);
                });
            }
            self.free_segments(done);
        }
    }

    /// Memory is short: what no span uses is given back, else the oldest decisions are forgotten,
    /// and the traces that are due soonest are decided now, from what is known. False if there is
    /// nothing to decide.
    pub fn hasten(&mut self, moment: Moment) -> bool {
        if self.buffer.trim() {
            return true;
        }
        self.forget_decided(moment.now);
        if self.tick.is_some() {
            return true;
        }
        let Some((number, due)) = self.wheel.take_some_early() else { return false };
        self.tick = Some(self.begin(Tick { early: true, ..Tick::new(number, moment, due) }));
        true
    }

    /// Records of traces that only late spans would need.
    fn forget_decided(&mut self, now: Instant) {
        let mut next = self.traces.oldest();
        for _ in 0..FORGET {
            let Some(slot) = next else { break };
            next = self.traces.after(slot);
            if self.waiting(slot).is_none() {
                self.remove(now, slot, true);
            }
        }
    }

    /// The end: everything that waits is decided now, or given up, as the options say. The caller
    /// polls until it is idle.
    pub fn finish(&mut self, moment: Moment) {
        // To limiters time goes on from set to set.
        let mut asked = 0;
        while let Some((number, due, strays)) = self.wheel.take_last() {
            let tick = Tick { strays, asked, ..Tick::new(number, moment, due) };
            if self.rules.drop_pending {
                self.give_up(&tick);
                continue;
            }
            let mut tick = self.begin(tick);
            while self.advance(&mut tick) {}
            asked = tick.asked;
        }
        self.stats.traces_at_tick = self.traces.len() as u64;
        self.tidy();
    }

    fn give_up(&mut self, tick: &Tick) {
        for due in &tick.due {
            if self.is_due(tick, *due) {
                self.tell(due.chain, End::Shutdown, None);
                let chain = self.chains.get(due.chain);
                let (trace, spans) = (chain.trace(), chain.spans);
                self.stats.lost.shutdown += u64::from(spans);
                self.stats.given_up += 1;
                self.census.decide();
                self.remove(tick.moment.now, trace, false);
            }
        }
    }
}
