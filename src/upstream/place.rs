//! A request's place in the queue at the balancer's own level. That queue counts requests, however
//! many parts they are cut into: the parts share the place, and the last one gives it back. Pure.

use std::cell::OnceCell;

use super::options::{QueueOptions, Sizer};
use crate::runtime::lease::{Charge, Purse};

/// One core's share of a queue over all endpoints.
#[derive(Debug)]
pub struct Places {
    options: QueueOptions,
    purse: Purse,
}

impl Places {
    /// Places of a queue with these options; `purse` is the core's share of it.
    #[must_use]
    pub fn new(options: QueueOptions, purse: Purse) -> Self {
        Self { options, purse }
    }

    /// The place that a request will need; it is not taken yet.
    #[must_use]
    pub fn place(&self, items: u64, bytes: u64) -> Place {
        let size = self.options.sizer.size(items, bytes);
        let blocks = self.options.block_on_overflow && size <= self.options.size_max;
        Place { purse: self.purse.clone(), size, blocks, taken: OnceCell::new() }
    }

    /// How much is taken on this core.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.purse.used()
    }
}

impl Sizer {
    /// What counts of a request, or of a part of it.
    #[must_use]
    pub const fn size(self, items: u64, bytes: u64) -> u64 {
        match self {
            Self::Requests => 1,
            Self::Items => items,
            Self::Bytes => bytes,
        }
    }
}

/// A place for all of a request.
#[derive(Debug)]
pub struct Place {
    purse: Purse,
    size: u64,
    blocks: bool,
    taken: OnceCell<Charge>,
}

impl Place {
    /// Takes it, if it is not taken and there is room.
    pub fn take(&self) -> bool {
        if self.taken.get().is_none()
            && let Some(charge) = self.purse.take(self.size)
        {
            self.taken.get_or_init(|| charge);
        }
        self.is_taken()
    }

    /// Whether it is taken.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.taken.get().is_some()
    }

    /// Whether a request that finds no room waits for it as long as its client does.
    #[must_use]
    pub fn blocks(&self) -> bool {
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::runtime::lease::{Lease, Limit};

    #[test]
    fn the_parts_of_a_request_share_a_place_and_the_last_gives_it_back() {
        for (sizer, size) in [(Sizer::Requests, 1), (Sizer::Items, 3), (Sizer::Bytes, 40)] {
            let limit = Limit::new(size);
            let purse = Purse::new(Lease::new(Arc::clone(&limit), 1));
            let options = QueueOptions { sizer, size_max: size, ..QueueOptions::default() };
            let places = Places::new(options, purse);
            let [first, second] = [(); 2].map(|()| Rc::new(places.place(3, 40)));
            let part = Rc::clone(&first);
            assert!(first.take() && part.take() && !second.take(), "{sizer:?}");
            assert_eq!((places.used(), limit.leased()), (size, size));
            drop(first);
            assert!(!second.take());
            drop(part);
            assert!(second.take());
        }
    }
}
