//! The samplers of a core as the other cores know them, and what they send.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use super::{Parcel, Sampler};
use crate::runtime::mesh::Mesh;

/// The samplers of this core, by the position that parcels name: the same on every core, because
/// all of them hear of the same configurations in the same order.
#[derive(Clone, Debug, Default)]
pub struct Homes(Rc<RefCell<Vec<Option<Rc<Sampler>>>>>);

impl Homes {
    /// Gives the sampler that `make` makes the next position.
    pub fn enter(&self, make: impl FnOnce(usize) -> Sampler) -> Rc<Sampler> {
        let mut all = self.0.borrow_mut();
        let sampler = Rc::new(make(all.len()));
        all.push(Some(Rc::clone(&sampler)));
        sampler
    }

    /// Nobody will send to it any more.
    pub fn leave(&self, sampler: &Sampler) {
        self.0.borrow_mut()[sampler.at] = None;
    }

    fn of(&self, parcel: &Parcel) -> Rc<Sampler> {
        let all = self.0.borrow();
        Rc::clone(all[parcel.sampler].as_ref().expect("it left when nobody could send to it"))
    }
}

/// Sends what other cores are to have, takes what they send and hears their answers, for as long as
/// the core lives.
pub async fn carry(mesh: Mesh<Parcel>, homes: Homes) {
    poll_fn(|cx| {
        homes.0.borrow().iter().flatten().for_each(|sampler| sampler.send());
        while mesh.poll(cx, |parcel| homes.of(parcel).accept(parcel)).is_ready() {}
        std::task::Poll::<()>::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData};
    use prost::Message as _;

    use super::super::{Parts, Refusal};
    use super::*;
    use crate::rpc::message::Message;
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
                let (mesh, homes) = (Mesh::new(port), Homes::default());
                samplers.push(homes.enter(|at| {
                    Sampler::new(Parts {
                        at,
                        seed: seed(core),
                        shards,
                        shard: Shard::new(Instant(0), &options, setup.clone()),
                        mesh: mesh.clone(),
                        memory: Purse::new(Lease::new(Arc::clone(&limit), 1)),
                        soft_bytes: u64::MAX,
                        queues: Gate::default(),
                    })
                }));
                carried.push(Box::pin(carry(mesh, homes)) as Pin<Box<dyn Future<Output = ()>>>);
            }
            Self { samplers, carried, in_flight: Vec::new(), admitted: 0 }
        }

        fn send(&mut self, core: usize, mut body: Message) {
            let sampler = Rc::clone(&self.samplers[core]);
            let admit = async move {
                let (spans, errand) = sampler.admit(&mut body, None).await?;
                if let Some(errand) = errand {
                    errand.answers().await;
                }
                Ok(spans)
            };
            self.in_flight.push(Box::pin(admit));
        }

        /// Requests go on, and one core looks what has come.
        fn turn(&mut self, core: usize) {
            let mut cx = Context::from_waker(Waker::noop());
            let Self { in_flight, admitted, .. } = self;
            in_flight.retain_mut(|request| match request.as_mut().poll(&mut cx) {
                std::task::Poll::Ready(spans) => {
                    *admitted += spans.unwrap();
                    false
                }
                std::task::Poll::Pending => true,
            });
            assert!(self.carried[core].as_mut().poll(&mut cx).is_pending());
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
        (cores, sent, spans)
    }

    #[test]
    fn a_request_is_admitted_before_the_other_cores_have_answered() {
        let mut random = Random::new(2);
        let cores = Cores::new(CORES, |_| 9);
        let ids: Vec<_> = (0..50).map(|n| trace_id(4, n)).collect();
        let mut body = Message::from(request(&ids, &mut random));
        let mut cx = Context::from_waker(Waker::noop());
        let admit = std::pin::pin!(cores.samplers[0].admit(&mut body, None)).poll(&mut cx);
        let std::task::Poll::Ready(Ok((50, Some(errand)))) = admit else {
            panic!("it is counted when it is handed over: {admit:?}");
        };
        let answers = std::pin::pin!(errand.answers()).poll(&mut cx);
        assert!(answers.is_pending(), "nobody has looked");
    }

    #[test]
    fn small_requests_go_to_other_cores_together_and_a_large_one_at_once() {
        let mut random = Random::new(3);
        let mut cores = Cores::new(CORES, |_| 9);
        let mut first = 0;
        let mut send = |cores: &mut Cores, traces| {
            let ids: Vec<_> = (first..first + traces).map(|n| trace_id(5, n)).collect();
            first += traces;
            cores.send(0, Message::from(request(&ids, &mut random)));
            let request = cores.in_flight.last_mut().expect("sent just now");
            let mut cx = Context::from_waker(Waker::noop());
            assert!(request.as_mut().poll(&mut cx).is_pending(), "it waits for other cores");
            let sampler = &cores.samplers[0];
            (sampler.mesh.in_flight(), sampler.state.borrow().outgoing.is_empty())
        };
        let to_all = CORES - 1;
        assert_eq!(send(&mut cores, 50), (to_all, false));
        assert_eq!(send(&mut cores, 50), (to_all, false), "in the same parcels");
        cores.turn(0);
        assert!(cores.samplers[0].state.borrow().outgoing.is_empty());
        assert_eq!(send(&mut cores, 1_000), (2 * to_all, true));
        (1..CORES).chain([0, 0]).for_each(|core| cores.turn(core));
        assert_eq!((cores.admitted, cores.samplers[0].mesh.in_flight()), (1_100, 0));
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
