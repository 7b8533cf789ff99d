//! TLS on both sides: a [`Stream`](super::Stream) whose bytes are sealed after a handshake.
//!
//! Options are loaded into a [`ServerTls`] or [`ClientTls`], one per door or exporter, which all
//! cores share and which [`ServerTls::reload`] renews from the files. [`accept`] and [`connect`]
//! are the handshakes. Sessions are resumed: a server gives tickets, a client keeps them, both for
//! the whole process and until the next reload.
//!
//! Invariant: a stream that TLS was wanted for never carries a byte in plaintext. It has its
//! session before the first byte, and refuses to seal before the handshake is over. Only a client
//! that speaks HTTP without TLS is told so, in a line that is always the same.

mod handshake;
mod load;
pub mod options;
pub(super) mod session;
mod verify;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

pub use handshake::{accept, connect};
pub use load::Error;
pub use options::{ClientOptions, Protocol, ServerOptions};

/// TLS of a receiver's door. A clone is the same.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<Shared<ServerOptions, rustls::ServerConfig>>);

/// TLS of an exporter. A clone is the same, but for its [`Self::named`] server.
#[derive(Clone, Debug)]
pub struct ClientTls {
    shared: Arc<Shared<ClientOptions, rustls::ClientConfig>>,
    name: Option<Arc<str>>,
}

/// What a look at the files found.
#[derive(Debug)]
pub enum Reload {
    /// They are what they were.
    Same,
    /// New ones are in use, for connections from now on.
    Done,
    /// They cannot be used; the old ones stay.
    Kept(Error),
}

struct Shared<O, C> {
    options: O,
    protocols: Vec<Protocol>,
    config: ArcSwap<C>,
    /// Fingerprint of the files that were tried last.
    tried: Mutex<u64>,
}

impl<O: fmt::Debug, C> fmt::Debug for Shared<O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<O, C> Shared<O, C> {
    fn new(options: O, protocols: &[Protocol], config: C, tried: u64) -> Arc<Self> {
        let (protocols, config) = (protocols.to_vec(), ArcSwap::from_pointee(config));
        Arc::new(Self { options, protocols, config, tried: Mutex::new(tried) })
    }

    fn reload(&self, files: load::Files, load: impl FnOnce() -> Result<C, Error>) -> Reload {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let found = files.fingerprint();
        if found == *tried {
            return Reload::Same;
        }
        *tried = found;
        match load() {
            Ok(config) => {
                self.config.store(Arc::new(config));
                Reload::Done
            }
            Err(e) => Reload::Kept(e),
        }
    }
}

impl ServerTls {
    /// Loads what `options` name; clients may choose one of `protocols`.
    ///
    /// # Errors
    /// Names the key, the file and what is wrong with it.
    pub fn new(options: &ServerOptions, protocols: &[Protocol]) -> Result<Self, Error> {
        let tried = load::server_files(options).fingerprint();
        let config = load::server(options, protocols, None)?;
        Ok(Self(Shared::new(options.clone(), protocols, config, tried)))
    }

    /// How often [`Self::reload`] is wanted.
    #[must_use]
    pub fn reload_interval(&self) -> Option<Duration> {
        let options = &self.0.options;
        // The collector looks once a second when client authorities may change.
        let authorities = options.client_ca_file.is_some() && options.client_ca_reload;
        let authorities = authorities.then_some(RELOAD_INTERVAL_MIN);
        options.basics.reload_interval.into_iter().chain(authorities).min().map(at_least_a_second)
    }

    /// Looks at the files and takes them, if they changed and are good at `now`.
    #[must_use]
    pub fn reload(&self, now: SystemTime) -> Reload {
        let Shared { options, protocols, .. } = &*self.0;
        let load = || load::server(options, protocols, Some(now));
        self.0.reload(load::server_files(options), load)
    }

    /// Why clients will refuse our certificate at `now`, if time is the reason.
    #[must_use]
    pub fn untimely(&self, now: SystemTime) -> Option<Error> {
        load::untimely(&self.0.options.basics, now).err()
    }
}

impl ClientTls {
    /// Loads what `options` name; a server must choose one of `protocols`.
    ///
    /// # Errors
    /// Names the key, the file and what is wrong with it.
    pub fn new(options: &ClientOptions, protocols: &[Protocol]) -> Result<Self, Error> {
        let tried = load::client_files(options).fingerprint();
        let config = load::client(options, protocols, None)?;
        let name = options.server_name.as_deref().map(Arc::from);
        Ok(Self { shared: Shared::new(options.clone(), protocols, config, tried), name })
    }

    /// The same for a server that must have the name `host`, unless `server_name_override` says
    /// otherwise. Without it, the name is the host that is dialled.
    #[must_use]
    pub fn named(&self, host: &str) -> Self {
        let name = self.name.clone().unwrap_or_else(|| Arc::from(host));
        Self { shared: Arc::clone(&self.shared), name: Some(name) }
    }

    /// The name that the server's certificate must have, if it is not the host that is dialled.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// How often [`Self::reload`] is wanted.
    #[must_use]
    pub fn reload_interval(&self) -> Option<Duration> {
        self.shared.options.basics.reload_interval.map(at_least_a_second)
    }

    /// Looks at the files and takes them, if they changed and are good at `now`.
    #[must_use]
    pub fn reload(&self, now: SystemTime) -> Reload {
        let Shared { options, protocols, .. } = &*self.shared;
        let load = || load::client(options, protocols, Some(now));
        self.shared.reload(load::client_files(options), load)
    }

    /// Why servers will refuse our certificate at `now`, if time is the reason.
    #[must_use]
    pub fn untimely(&self, now: SystemTime) -> Option<Error> {
        load::untimely(&self.shared.options.basics, now).err()
    }
}

/// Files are looked at no more often than this, however small `reload_interval` is (a number
/// without a unit is nanoseconds).
const RELOAD_INTERVAL_MIN: Duration = Duration::from_secs(1);

fn at_least_a_second(interval: Duration) -> Duration {
    interval.max(RELOAD_INTERVAL_MIN)
}
