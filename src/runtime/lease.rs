//! A limit of the whole process, leased to cores in chunks, so that it holds exactly however many
//! cores there are and costs an atomic operation only once per chunk.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A limit that all cores see.
#[derive(Debug)]
pub struct Limit {
    max: AtomicU64,
    leased: AtomicU64,
}

impl Limit {
    /// At most `max` units.
    #[must_use]
    pub fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max: AtomicU64::new(max), leased: AtomicU64::new(0) })
    }

    /// The limit.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// From now on at most `max`; what is leased beyond that stays until it is given back.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Relaxed);
    }

    /// What the cores hold of it, what they have not used of their chunks included.
    #[must_use]
    pub fn leased(&self) -> u64 {
        self.leased.load(Relaxed)
    }

    fn take(&self, want: u64) -> bool {
        self.leased
            .fetch_update(Relaxed, Relaxed, |l| l.checked_add(want).filter(|&n| n <= self.max()))
            .is_ok()
    }

    fn give(&self, back: u64) {
        let before = self.leased.fetch_sub(back, Relaxed);
        assert!(before >= back, "gave back more than was leased");
    }
}

/// One core's share of a [`Limit`].
#[derive(Debug)]
pub struct Lease {
    limit: Arc<Limit>,
    chunk: u64,
    leased: u64,
    used: u64,
}

impl Lease {
    /// `chunk` units are leased at a time; 1 makes it exact at every moment.
    #[must_use]
    pub fn new(limit: Arc<Limit>, chunk: u64) -> Self {
        Self { limit, chunk: chunk.max(1), leased: 0, used: 0 }
    }

    /// Uses `n` units if the process has room for them.
    pub fn take(&mut self, n: u64) -> bool {
        let idle = self.leased - self.used;
        if n > idle && !self.grow(n - idle) {
            return false;
        }
        self.used += n;
        assert!(self.used <= self.leased);
        true
    }

    fn grow(&mut self, missing: u64) -> bool {
        let chunk = missing.max(self.chunk);
        for want in [chunk, missing] {
            if self.limit.take(want) {
                self.leased += want;
                return true;
            }
        }
        false
    }

    /// Uses `n` units even if that exceeds the limit.
    pub fn take_over(&mut self, n: u64) {
        if !self.take(n) {
            self.limit.leased.fetch_add(n, Relaxed);
            self.leased += n;
            self.used += n;
        }
    }

    /// Gives `n` units back.
    pub fn give(&mut self, n: u64) {
        assert!(self.used >= n, "gave back more than was taken");
        self.used -= n;
        let idle = self.leased - self.used;
        // Up to a chunk is kept back for the next use; units without chunks return at once.
        let keep = if self.chunk == 1 { 0 } else { self.chunk };
        if idle > keep && idle >= 2 * keep {
            let back = idle - keep;
            self.leased -= back;
            self.limit.give(back);
        }
    }

    /// What this core uses.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The limit that this is a share of.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.limit
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.limit.give(self.leased);
    }
}

/// One core's lease, taken in pieces that give themselves back.
#[derive(Clone, Debug)]
pub struct Purse(Rc<RefCell<Lease>>);

impl Purse {
    /// Pieces of `lease`.
    #[must_use]
    pub fn new(lease: Lease) -> Self {
        Self(Rc::new(RefCell::new(lease)))
    }

    /// A piece of `n` units, or nothing if the process has no room.
    #[must_use]
    pub fn take(&self, n: u64) -> Option<Charge> {
        self.0.borrow_mut().take(n).then(|| Charge { purse: self.clone(), units: n })
    }

    /// A piece of `n` units, over the limit if need be: for what was admitted before.
    #[must_use]
    pub fn take_over(&self, n: u64) -> Charge {
        self.0.borrow_mut().take_over(n);
        Charge { purse: self.clone(), units: n }
    }

    /// What this core uses.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.borrow().used()
    }

    /// What all cores hold, and the limit.
    #[must_use]
    pub fn process(&self) -> (u64, u64) {
        let lease = self.0.borrow();
        (lease.limit.leased(), lease.limit.max())
    }
}

/// A piece of a [`Purse`], given back when dropped.
#[derive(Debug)]
pub struct Charge {
    purse: Purse,
    units: u64,
}

impl Charge {
    /// Grows the piece to `n` units; false if there is no room.
    pub fn grow_to(&mut self, n: u64) -> bool {
        let more = n.saturating_sub(self.units);
        let granted = more == 0 || self.purse.0.borrow_mut().take(more);
        if granted {
            self.units += more;
        }
        granted
    }

    /// Makes the piece `n` units, over the limit if need be: for what has happened already.
    pub fn set(&mut self, n: u64) {
        let mut lease = self.purse.0.borrow_mut();
        match n.checked_sub(self.units) {
            Some(more) => lease.take_over(more),
            None => lease.give(self.units - n),
        }
        self.units = n;
    }

    /// Cuts `n` units off, or what there is.
    #[must_use]
    pub fn split(&mut self, n: u64) -> Self {
        let n = n.min(self.units);
        self.units -= n;
        Self { purse: self.purse.clone(), units: n }
    }

    /// Takes over the units of `other`, a piece of the same purse.
    pub fn absorb(&mut self, mut other: Self) {
        self.units += std::mem::take(&mut other.units);
    }

    /// Units of this piece.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.units
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.purse.0.borrow_mut().give(self.units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_over_all_cores_and_is_used_to_the_last_unit() {
        let limit = Limit::new(10);
        let mut a = Lease::new(Arc::clone(&limit), 4);
        let mut b = Lease::new(Arc::clone(&limit), 4);
        assert!(a.take(1) && b.take(5));
        assert!(!b.take(2), "a holds 4, b 5");
        assert!(b.take(1));
        assert!(a.take(3) && !a.take(1) && !b.take(1));
        a.give(4);
        b.give(6);
        drop((a, b));
        assert_eq!(limit.leased(), 0);
    }

    #[test]
    fn a_lease_without_chunks_keeps_nothing_that_it_does_not_use() {
        let limit = Limit::new(10);
        let mut a = Lease::new(Arc::clone(&limit), 1);
        let mut b = Lease::new(Arc::clone(&limit), 1);
        assert!(a.take(10) && !b.take(1));
        for left in (0..10).rev() {
            a.give(1);
            assert_eq!((limit.leased(), a.used()), (left, left));
        }
        assert!(b.take(10));
    }

    #[test]
    fn what_a_core_keeps_back_is_bounded() {
        for chunk in [2, 4, 100] {
            let limit = Limit::new(1_000_000);
            let mut lease = Lease::new(Arc::clone(&limit), chunk);
            for n in [1, 7, 99, 5_000, 3] {
                assert!(lease.take(n));
            }
            for n in [5_000, 1, 99, 3, 7] {
                lease.give(n);
                assert!(limit.leased() - lease.used() <= 2 * chunk, "{chunk}");
            }
        }
    }

    #[test]
    fn pieces_give_back_what_they_took_however_they_are_cut() {
        let limit = Limit::new(100);
        let purse = Purse::new(Lease::new(Arc::clone(&limit), 1));
        let mut piece = purse.take(60).unwrap();
        assert!(purse.take(41).is_none());
        let cut = piece.split(20);
        assert_eq!((piece.units(), cut.units(), purse.used()), (40, 20, 60));
        let rest = piece.split(1_000);
        assert_eq!((piece.units(), rest.units()), (0, 40));
        assert!(piece.grow_to(40) && !piece.grow_to(41), "all 100 are used");
        assert!(piece.grow_to(3), "a piece never shrinks by growing");
        piece.absorb(cut);
        assert_eq!((piece.units(), purse.used()), (60, 100));
        drop((piece, rest));
        assert_eq!((purse.used(), limit.leased()), (0, 0));
    }

    #[test]
    fn more_than_the_limit_is_never_granted() {
        let mut a = Lease::new(Limit::new(10), 4);
        assert!(!a.take(11));
        assert!(a.take(10));
    }
}
