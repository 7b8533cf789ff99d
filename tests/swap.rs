//! A new endpoint set in a running router: what waits for an endpoint that left goes to the new
//! owners, and nothing that was acknowledged is lost.

use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracemill::net::{self, Stream, listener};
use tracemill::otlp::{Signal, items};
use tracemill::route::{Generation, Key, Ring};
use tracemill::router::{Exits, Inlet, Router, Rules, Way};
use tracemill::rpc::grpc_server::{self, Server};
use tracemill::rpc::service::{Call, Service, Transport};
use tracemill::rpc::{Codec, GrpcServerOptions, Status};
use tracemill::runtime::drain::Drain;
use tracemill::runtime::executor::{self, Seat};
use tracemill::runtime::gate::Gate;
use tracemill::runtime::lease::{Lease, Limit, Purse};
use tracemill::runtime::{preflight, timer};
use tracemill::testing::workload::{self, Set};
use tracemill::upstream::Options;
use tracemill::upstream::outlet::{Limits, Outlet, Recipe, Site};
use tracemill::upstream::replies::Replies;

const ROOMY: u64 = 1 << 30;

fn purse() -> Purse {
    Purse::new(Lease::new(Limit::new(ROOMY), 1))
}

/// Counts the spans that it gets.
struct Backend(Rc<Cell<u64>>);

impl Service for Backend {
    fn method(&self, _: &str) -> Option<usize> {
        Some(0)
    }

    fn has_service(&self, _: &str) -> bool {
        true
    }

    async fn call(&self, mut call: Call) -> Result<Bytes, Status> {
        let spans = items(Signal::Traces, call.message.whole()).expect("well-formed");
        self.0.set(self.0.get() + spans);
        Ok(Bytes::new())
    }
}

/// Serves `socket` on this core; the spans that it has got.
fn serve(socket: TcpListener) -> Rc<Cell<u64>> {
    let spans = Rc::new(Cell::new(0));
    let server = Rc::new(Server {
        service: Backend(Rc::clone(&spans)),
        options: GrpcServerOptions::default(),
        memory: purse(),
        windows_bytes: 64 << 20,
        drain: Drain::default(),
        connections: Rc::default(),
    });
    executor::detach(async move {
        loop {
            match socket.accept() {
                Ok((client, _)) => {
                    let stream = Stream::adopt(client).expect("a socket");
                    let server = Rc::clone(&server);
                    executor::detach(async move { drop(grpc_server::serve(stream, server).await) });
                }
                Err(_) => timer::sleep(Duration::from_millis(2)).await,
            }
        }
    });
    spans
}

fn router(names: &[String]) -> Rc<Router> {
    let site = Site {
        core: 0,
        cores: 1,
        replies: Rc::new(RefCell::new(Replies::default())),
        gate: Gate::default(),
        limits: Arc::new(Limits::default()),
        ack_wait: Duration::from_millis(50),
    };
    let options = Options { compression: Codec::None, ..Options::default() };
    let recipe = Recipe {
        exporter: "load_balancing".into(),
        options,
        tls: None,
        outer_queue: None,
        is_fed: false,
    };
    let ring = Arc::new(Ring::new(Generation::V3, names));
    let outlets = vec![Outlet::balancer(recipe, ring, [Some(Key::TraceId), None, None], &site)];
    let exits = Exits { outlets: vec![0], ..Exits::default() };
    let way = Way { exits: [vec![exits], Vec::new(), Vec::new()], ..Way::default() };
    let rules = Rules {
        ack_wait: Duration::from_millis(50),
        refuse_partial: false,
        soft_bytes: ROOMY,
        edits_bytes_max: ROOMY,
    };
    Rc::new(Router::new(outlets, Vec::new(), vec![way], site, purse(), rules))
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if done() {
            return;
        }
        timer::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within 10 s: {what}");
}

async fn what_waits_goes_to_the_new_owners() {
    // Nobody listens on the first two once their sockets are gone.
    let free =
        |_| listener::listen_tcp("127.0.0.1:0", net::options::Transport::Tcp).expect("a free port");
    let dead: Vec<String> =
        [0, 1].map(free).iter().map(|s| s.local_addr().expect("bound").to_string()).collect();
    let live = [2, 3].map(free);
    let live_names: Vec<String> =
        live.iter().map(|s| s.local_addr().expect("bound").to_string()).collect();
    let counts = live.map(serve);

    let router = router(&dead);
    let inlet = Inlet { router: Rc::clone(&router), way: 0 };
    let mut sent = 0;
    for template in &Set::new(&workload::Options::default()).templates {
        let message = Bytes::copy_from_slice(&template.body);
        sent += items(Signal::Traces, &message).expect("well-formed");
        let call = Call {
            method: 0,
            message: message.into(),
            charge: None,
            timeout: None,
            metadata: None,
            transport: Transport::Grpc,
        };
        inlet.call(call).await.expect("the queue owns it");
    }
    assert!(!router.is_idle(), "it waits for the dead");

    router.swap(0, &Arc::new(Ring::new(Generation::V3, &live_names)));
    router.reclaim(0).await;
    until("everything is delivered", || router.is_idle()).await;
    assert_eq!(counts.iter().map(|c| c.get()).sum::<u64>(), sent, "each span once");
    assert!(counts.iter().all(|c| c.get() > 0), "by the new ring, to both");
}

#[test]
fn the_queue_of_an_endpoint_that_left_is_routed_anew() {
    if let Err(refusal) = preflight::check() {
        eprintln!("SKIPPED: {refusal}");
        return;
    }
    let seat = Seat { name: "swap".into(), cpu: None, spin: Duration::ZERO };
    let core = executor::spawn(seat, what_waits_goes_to_the_new_owners).expect("a thread");
    core.join().expect("no panic").expect("an executor");
}
