//! Where connections come in: a server per entrance, behind TLS where it is wanted.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::blueprint::{Blueprint, Entrance, entrances};
use super::{Inlet, Router};
use crate::net::Stream;
use crate::net::socket::Accepted;
use crate::net::tls::{self, Protocol as Alpn, ServerTls};
use crate::rpc::grpc_server::{self, Server};
use crate::rpc::http_server::{self, HttpServer};
use crate::rpc::lost::Lost;
use crate::runtime::drain::Drain;
use crate::runtime::executor;
use crate::runtime::lease::Purse;
use crate::runtime::timer::Timeout;
use crate::runtime::turn;

/// One entrance.
pub(super) struct Door {
    server: AnyServer,
    tls: Option<ServerTls>,
}

#[derive(Clone)]
enum AnyServer {
    Grpc(Rc<Server<Inlet>>),
    Http(Rc<HttpServer<Inlet>>),
}

/// Longest time for a handshake; a peer that says nothing is closed then.
const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Serves `socket` at `door`.
pub(super) fn enter(door: &Door, socket: Accepted, load: Arc<AtomicUsize>) {
    let stream = match Stream::adopt(socket) {
        Ok(stream) => stream,
        Err(e) => {
            load.fetch_sub(1, Relaxed);
            return tracing::debug!("A client left before it was served: {e}");
        }
    };
    let server = door.server.clone();
    match door.tls.clone() {
        None => serve(stream, server, load),
        Some(tls) => executor::detach(async move {
            let shaken = Timeout::new(HANDSHAKE_TIMEOUT, tls::accept(stream, &tls)).await;
            let refused = match shaken {
                Some(Ok(stream)) if server.may_speak(&stream) => {
                    return serve(stream, server, load);
                }
                Some(Ok(_)) => "the client names no protocol (ALPN), which gRPC asks for".into(),
                Some(Err(e)) => e.to_string(),
                None => "it took too long".to_owned(),
            };
            load.fetch_sub(1, Relaxed);
            tracing::debug!("A TLS handshake failed: {refused}.");
        }),
    }
}

impl AnyServer {
    /// As grpc-go, gRPC refuses a client that has not agreed on HTTP/2.
    fn may_speak(&self, stream: &Stream) -> bool {
        matches!(self, Self::Http(_)) || stream.protocol() == Some(Alpn::Http2)
    }
}

fn serve(stream: Stream, server: AnyServer, load: Arc<AtomicUsize>) {
    match server {
        AnyServer::Grpc(server) => attend(grpc_server::serve(stream, server), load),
        AnyServer::Http(server) => attend(http_server::serve(stream, server), load),
    }
}

fn attend(connection: impl Future<Output = Result<(), Lost>> + 'static, load: Arc<AtomicUsize>) {
    turn::detach(async move {
        if let Err(e) = connection.await {
            tracing::debug!("A connection ended: {e}");
        }
        load.fetch_sub(1, Relaxed);
    });
}

/// A door per entrance of the plan.
pub(super) fn doors(
    blueprint: &Blueprint,
    router: &Rc<Router>,
    arriving: &Purse,
    drain: &Drain,
    connections: &Rc<Cell<usize>>,
) -> Vec<Door> {
    let plan = &blueprint.plan;
    let server = |entrance| match entrance {
        Entrance::Grpc(at) => AnyServer::Grpc(Rc::new(Server {
            service: Inlet { router: Rc::clone(router), way: at },
            options: plan.receivers[at].grpc.clone().expect("it has an entrance"),
            memory: arriving.clone(),
            windows_bytes: plan.engine.hard_bytes / 4 / blueprint.cores as u64,
            drain: drain.clone(),
            connections: Rc::clone(connections),
        })),
        Entrance::Http(at) => AnyServer::Http(Rc::new(HttpServer {
            service: Inlet { router: Rc::clone(router), way: at },
            options: plan.receivers[at].http.clone().expect("it has an entrance"),
            memory: arriving.clone(),
            drain: drain.clone(),
            connections: Rc::clone(connections),
        })),
    };
    let door =
        |(entrance, tls): (_, &Option<_>)| Door { server: server(entrance), tls: tls.clone() };
    entrances(plan).into_iter().zip(&blueprint.trust.servers).map(door).collect()
}
