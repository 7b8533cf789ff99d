//! TLS of a plan: what its receivers and exporters show and trust, loaded once and shared by all
//! cores.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::blueprint::{Entrance, entrances};
use crate::config::Plan;
use crate::config::plan::ExporterKind;
use crate::net::tls::{self, ClientTls, Protocol, Reload, ServerTls};
use crate::rpc::http_server;

/// TLS of every entrance and exporter.
#[derive(Debug, Default)]
pub struct Trust {
    /// Of each entrance; `None` for plaintext.
    pub servers: Vec<Option<ServerTls>>,
    /// Of each exporter; `None` for plaintext, or what needs none.
    pub clients: Vec<Option<ClientTls>>,
}

/// TLS that cannot be had.
#[derive(Debug)]
pub struct Fault {
    /// `receiver` or `exporter`.
    pub kind: &'static str,
    /// Component id.
    pub component: String,
    /// Why.
    pub cause: tls::Error,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, component, cause } = self;
        write!(f, "failed to start \"{component}\" {kind}: failed to load TLS config: {cause}")
    }
}

impl std::error::Error for Fault {}

/// Something that is loaded from files.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// Of a receiver.
    Server(ServerTls),
    /// Of an exporter.
    Client(ClientTls),
}

/// Files that are looked at again and again.
#[derive(Clone, Debug)]
pub struct Watched {
    /// `receiver` or `exporter`.
    pub kind: &'static str,
    /// Component id.
    pub component: String,
    /// How often.
    pub interval: Duration,
    what: Loaded,
}

impl Watched {
    /// Looks once.
    #[must_use]
    pub fn look(&self, now: SystemTime) -> Reload {
        match &self.what {
            Loaded::Server(tls) => tls.reload(now),
            Loaded::Client(tls) => tls.reload(now),
        }
    }
}

impl Trust {
    /// Loads everything.
    ///
    /// # Errors
    /// The first that cannot be had; configuration has told them all before.
    pub fn load(plan: &Plan) -> Result<Self, Fault> {
        let server = |entrance| {
            let receiver = &plan.receivers[Entrance::receiver(entrance)];
            let (options, protocols): (_, &[Protocol]) = match entrance {
                Entrance::Grpc(_) => {
                    (receiver.grpc.as_ref().and_then(|g| g.tls.as_deref()), &[Protocol::Http2])
                }
                Entrance::Http(_) => {
                    (receiver.http.as_ref().and_then(|h| h.tls.as_deref()), http_server::PROTOCOLS)
                }
            };
            let loaded = options.map(|options| ServerTls::new(options, protocols)).transpose();
            let component = || receiver.id.clone();
            loaded.map_err(|cause| Fault { kind: "receiver", component: component(), cause })
        };
        let servers = entrances(plan).into_iter().map(server).collect::<Result<_, _>>()?;
        let clients = plan.exporters.iter().map(|exporter| {
            let options = match &exporter.kind {
                ExporterKind::LoadBalancing(balancing) => balancing.template.tls.as_deref(),
                ExporterKind::OtlpGrpc { options, .. } | ExporterKind::OtlpHttp { options, .. } => {
                    options.tls.as_deref()
                }
                ExporterKind::Debug(_) | ExporterKind::File(_) | ExporterKind::Nop => None,
            };
            let protocols = match &exporter.kind {
                ExporterKind::OtlpHttp { .. } => &[Protocol::Http1],
                _ => &[Protocol::Http2],
            };
            let loaded = options.map(|o| ClientTls::new(o, protocols)).transpose();
            let component = || exporter.id.clone();
            loaded.map_err(|cause| Fault { kind: "exporter", component: component(), cause })
        });
        Ok(Self { servers, clients: clients.collect::<Result<_, _>>()? })
    }

    /// What has files to be looked at again.
    #[must_use]
    pub fn watched(&self, plan: &Plan) -> Vec<Watched> {
        let servers = entrances(plan).into_iter().zip(&self.servers).filter_map(|(at, tls)| {
            let tls = tls.clone()?;
            let (kind, component) = ("receiver", plan.receivers[at.receiver()].id.clone());
            let interval = tls.reload_interval()?;
            Some(Watched { kind, component, interval, what: Loaded::Server(tls) })
        });
        let clients = plan.exporters.iter().zip(&self.clients).filter_map(|(exporter, tls)| {
            let tls = tls.clone()?;
            let (kind, component) = ("exporter", exporter.id.clone());
            let interval = tls.reload_interval()?;
            Some(Watched { kind, component, interval, what: Loaded::Client(tls) })
        });
        servers.chain(clients).collect()
    }
}
