//! The samplers of a core as the other cores know them, and what they send.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Parcel, Sampler};
use crate::runtime::mesh::{Mesh, Port};

/// The samplers of this core, by the position that parcels name: the same on every core, because
/// all of them hear of the same configurations in the same order. A clone is the same.
#[derive(Clone, Debug)]
pub struct Homes {
    mesh: Mesh<Parcel>,
    all: Rc<RefCell<Vec<Option<Rc<Sampler>>>>>,
}

impl Homes {
    /// None yet, at this place in the mesh.
    #[must_use]
    pub fn new(port: Port<Parcel>) -> Self {
        Self { mesh: Mesh::new(port), all: Rc::default() }
    }

    /// The way to the other cores.
    pub(super) fn mesh(&self) -> &Mesh<Parcel> {
        &self.mesh
    }

    /// Gives the sampler that `make` makes the next position.
    pub fn enter(&self, make: impl FnOnce(usize) -> Sampler) -> Rc<Sampler> {
        let at = self.all.borrow().len();
        let sampler = Rc::new(make(at));
        self.all.borrow_mut().push(Some(Rc::clone(&sampler)));
        sampler
    }

    /// Nobody will send to it any more, and all that it has sent came back.
    pub fn leave(&self, sampler: &Sampler) {
        self.all.borrow_mut()[sampler.at] = None;
    }

    /// The core ends: samplers keep this, and are kept by it, until they leave.
    pub fn clear(&self) {
        drop(self.all.take());
    }

    fn of(&self, parcel: &Parcel) -> Rc<Sampler> {
        let all = self.all.borrow();
        Rc::clone(all[parcel.sampler].as_ref().expect("it left when nobody could send to it"))
    }

    /// Takes what other cores have sent, and hears which of ours they have taken.
    pub fn take_in(&self) {
        let back = |parcel: &Parcel| self.of(parcel).came_back(parcel);
        self.mesh.take_in(|parcel| self.of(parcel).accept(parcel), back);
    }

    /// [`Self::take_in`], if there is something.
    pub(super) fn take_news(&self) {
        if self.mesh.has_news() {
            self.take_in();
        }
    }
}

/// Takes what other cores send and has them take what they are sent, for as long as the core lives.
pub async fn carry(homes: Homes) {
    homes.mesh.clone().carry(|| homes.take_in()).await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData};
    use prost::Message as _;

    use super::super::{Parts, Refusal};
    use super::*;
    use crate::rpc::message::Message;
    use crate::runtime::executor;
    use crate::runtime::gate::Gate;
    use crate::runtime::lease::{Lease, Limit, Purse};
    use crate::runtime::mesh;
    use crate::sample::options::{Policy, Rule};
    use crate::sample::{Census, Options, Program, Setup, Shard};
    use crate::testing::random::{Random, trace_id};
    use crate::testing::scatter::scatter;
    use crate::time::Instant;

    const CORES: usize = 5;
    /// An attribute that is asked for.
    const KEY: &str = "k";

    type Admitted = Pin<Box<dyn Future<Output = Result<u64, Refusal>>>>;

    /// The cores of a process, all on this thread.
    struct Cores {
        samplers: Vec<Rc<Sampler>>,
        carried: Vec<Pin<Box<dyn Future<Output = ()>>>>,
        in_flight: Vec<Admitted>,
        admitted: u64,
    }

    impl Cores {
        /// With so many shards, each hashing with the seed that `seed` says.
        fn new(shards: usize, seed: impl Fn(u64) -> u64) -> Self {
            let (key, values) = (KEY.to_owned(), vec!["v".to_owned()]);
            let rule = Rule::StringAttribute { key, values, regex: false, invert: false };
            let policy = Policy { name: "p".to_owned(), rule };
            let options = Options { policies: vec![policy], ..Options::default() };
            let (program, limiters) = Program::compile(&options).unwrap();
            let setup = Setup {
                program: Arc::new(program),
                limiters: Arc::new(limiters),
                census: Census::new(options.num_traces, CORES),
                shards,
                seed: 7,
            };
            let limit = Limit::new(1 << 40);
            let (mut samplers, mut carried) = (Vec::new(), Vec::new());
            for (core, port) in (0..).zip(mesh::mesh(CORES)) {
                let homes = Homes::new(port);
                samplers.push(homes.enter(|at| {
                    Sampler::new(Parts {
                        at,
                        seed: seed(core),
                        shards,
                        shard: Shard::new(Instant(0), &options, setup.clone()),
                        homes: homes.clone(),
                        memory: Purse::new(Lease::new(Arc::clone(&limit), 1)),
                        soft_bytes: u64::MAX,
                        queues: Gate::default(),
                    })
                }));
                carried.push(Box::pin(carry(homes)) as Pin<Box<dyn Future<Output = ()>>>);
            }
            Self { samplers, carried, in_flight: Vec::new(), admitted: 0 }
        }

        fn send(&mut self, core: usize, mut body: Message) {
            let sampler = Rc::clone(&self.samplers[core]);
            self.in_flight.push(Box::pin(async move { sampler.admit(&mut body, None).await }));
        }

        /// Requests go on, what they have for others is sent, and one core looks what has come.
        fn turn(&mut self, core: usize) {
            let mut cx = Context::from_waker(Waker::noop());
            let Self { in_flight, admitted, .. } = self;
            in_flight.retain_mut(|request| match request.as_mut().poll(&mut cx) {
                Poll::Ready(spans) => {
                    *admitted += spans.unwrap();
                    false
                }
                Poll::Pending => true,
            });
            executor::run_first();
            assert!(self.carried[core].as_mut().poll(&mut cx).is_pending());
        }

        /// What is under way arrives.
        fn settle(&mut self) {
            (0..CORES).chain(0..CORES).for_each(|core| self.turn(core));
        }

        fn who_know(&self, id: &[u8; 16]) -> Vec<usize> {
            (0..CORES).filter(|core| self.samplers[*core].knows(id)).collect()
        }
    }

    /// One of a few hundred: random ones, those of which a half is zero, and none at all.
    fn any_id(random: &mut Random) -> [u8; 16] {
        let id = u128::from_be_bytes(trace_id(3, random.below(100)));
        let id = match random.below(4) {
            0 => id >> 64,
            1 => id << 64,
            2 if random.chance(0.1) => 0,
            _ => id,
        };
        id.to_be_bytes()
    }

    fn span(id: &[u8; 16], random: &mut Random) -> Span {
        let value = AnyValue {
            value: Some(Value::StringValue((*random.pick(&["", "v", "vw"])).to_owned())),
        };
        let attribute = KeyValue { key: KEY.to_owned(), value: Some(value), ..Default::default() };
        Span {
            // None is the same as zeros.
            trace_id: if *id == [0; 16] { Vec::new() } else { id.to_vec() },
            span_id: random.next_u64().to_be_bytes().to_vec(),
            trace_state: random.pick(&["", "a=b", "a=b,c=d"]).to_string(),
            attributes: vec![attribute; *random.pick(&[0, 1, 2])],
            ..Span::default()
        }
    }

    /// A scope for every few spans, some of them in a resource of their own.
    fn request(ids: &[[u8; 16]], random: &mut Random) -> Vec<u8> {
        let mut resource_spans = vec![ResourceSpans::default()];
        for ids in ids.chunks(3) {
            if random.chance(0.3) {
                resource_spans.push(ResourceSpans::default());
            }
            let spans = ids.iter().map(|id| span(id, random)).collect();
            let scopes = &mut resource_spans.last_mut().expect("one is there").scope_spans;
            scopes.push(ScopeSpans { spans, ..Default::default() });
        }
        TracesData { resource_spans }.encode_to_vec()
    }

    /// Random requests to all cores: the cores, the ids that they were sent, and how many spans.
    fn live(shards: usize, seed: impl Fn(u64) -> u64) -> (Cores, BTreeSet<[u8; 16]>, u64) {
        let mut random = Random::new(1);
        let mut cores = Cores::new(shards, seed);
        let (mut sent, mut spans) = (BTreeSet::new(), 0);
        let core = |random: &mut Random| usize::try_from(random.below(CORES as u64)).unwrap();
        for _ in 0..1_000 {
            let count = 1 + random.below(12);
            let ids: Vec<_> = (0..count).map(|_| any_id(&mut random)).collect();
            let body = request(&ids, &mut random);
            let cuts: Vec<_> =
                (0..random.below(4)).map(|_| *random.pick(&[0, 7, 90, 200])).collect();
            let (region, pieces) = scatter(&body, &cuts);
            cores.send(core(&mut random), Message::scattered(region.into(), pieces));
            sent.extend(ids);
            spans += count;
            for _ in 0..random.below(4) {
                cores.turn(core(&mut random));
            }
        }
        for turn in 0.. {
            if cores.in_flight.is_empty() {
                break;
            }
            assert!(turn < 1_000 * CORES, "requests hang");
            cores.turn(turn % CORES);
        }
        cores.settle();
        assert!(cores.samplers.iter().all(|sampler| sampler.state.borrow().outgoing.is_empty()));
        (cores, sent, spans)
    }

    /// Requests with traces that nobody had before.
    struct Fresh(Random, u64);

    impl Fresh {
        fn request(&mut self, traces: u64) -> Message {
            let ids: Vec<_> = (self.1..self.1 + traces).map(|n| trace_id(5, n)).collect();
            self.1 += traces;
            Message::from(request(&ids, &mut self.0))
        }
    }

    fn admit(sampler: &Rc<Sampler>, mut body: Message) -> u64 {
        let mut cx = Context::from_waker(Waker::noop());
        let admitted = std::pin::pin!(sampler.admit(&mut body, None)).poll(&mut cx);
        let Poll::Ready(spans) = admitted else { panic!("there is room") };
        spans.unwrap()
    }

    #[test]
    fn small_requests_go_to_other_cores_together_and_a_large_one_at_once() {
        let (mut fresh, mut cores) = (Fresh(Random::new(3), 0), Cores::new(CORES, |_| 9));
        let here = Rc::clone(&cores.samplers[0]);
        let sent = || here.state.borrow().outgoing.sent();
        for _ in 0..2 {
            assert_eq!((admit(&here, fresh.request(50)), sent()), (50, 0));
        }
        executor::run_first();
        assert_eq!(sent(), CORES - 1, "both in the same parcels");
        assert_eq!((admit(&here, fresh.request(1_000)), sent()), (1_000, 2 * (CORES - 1)));
        cores.settle();
        assert_eq!(sent(), 0);
    }

    #[test]
    fn what_is_under_way_is_held_and_charged() {
        let (mut fresh, mut cores) = (Fresh(Random::new(4), 0), Cores::new(CORES, |_| 9));
        let here = Rc::clone(&cores.samplers[0]);
        assert!(here.is_idle());
        assert_eq!(admit(&here, fresh.request(50)), 50);
        assert_eq!(here.held(), 50, "not sent yet");
        let before = here.memory.used();
        executor::run_first();
        assert_eq!(here.held(), 50);
        let under_way = here.memory.used() - before;
        assert!(under_way > 1_000 && !here.is_idle());
        cores.settle();
        let held: Vec<_> = cores.samplers.iter().map(|sampler| sampler.held()).collect();
        assert_eq!((held.iter().sum(), held[0] < 50), (50, true));
        let outgoing = &here.state.borrow().outgoing;
        assert!(outgoing.is_empty() && outgoing.spans() == 0);
    }

    #[test]
    fn what_a_client_was_told_is_taken_comes_before_what_is_sent_later() {
        let (mut fresh, cores) = (Fresh(Random::new(5), 0), Cores::new(2, |_| 9));
        let [a, b] = [0, 1].map(|core| Rc::clone(&cores.samplers[core]));
        assert_eq!(admit(&a, fresh.request(50)), 50);
        let own = a.held() - a.state.borrow().outgoing.spans();
        assert!(own > 0 && own < 50);
        // As before a reply is written; nobody carries.
        executor::run_first();
        assert_eq!(b.held(), 0);
        let none = Message::from(TracesData::default().encode_to_vec());
        assert_eq!(admit(&b, none), 0);
        assert_eq!(b.held(), 50 - own);
    }

    #[test]
    fn a_tick_decides_what_a_client_was_told_is_taken() {
        let (mut fresh, cores) = (Fresh(Random::new(6), 0), Cores::new(2, |_| 9));
        let [a, b] = [0, 1].map(|core| Rc::clone(&cores.samplers[core]));
        assert_eq!(admit(&a, fresh.request(50)), 50);
        executor::run_first();
        assert_eq!(b.held(), 0);
        let _slice = b.begin_slice();
        assert!(b.held() > 0);
    }

    #[test]
    fn every_trace_is_in_one_shard_wherever_its_spans_arrive() {
        for shards in [CORES, 1] {
            let (cores, sent, spans) = live(shards, |_| 9);
            assert_eq!(cores.admitted, spans);
            assert_eq!(cores.samplers.iter().map(|sampler| sampler.held()).sum::<u64>(), spans);
            let traces: u64 = cores.samplers.iter().map(|sampler| sampler.snapshot().traces).sum();
            assert_eq!(traces, sent.len() as u64);
            let mut used = BTreeSet::new();
            for id in sent {
                let homes = cores.who_know(&id);
                assert_eq!(homes.len(), 1, "{id:02x?} is in {homes:?}");
                used.extend(homes);
            }
            assert_eq!(used.len(), shards, "no shard is left out");
        }
    }

    #[test]
    fn cores_that_hash_differently_would_be_seen() {
        let (cores, sent, _) = live(CORES, |core| core / 4);
        assert!(sent.iter().any(|id| cores.who_know(id).len() > 1));
    }
}
