//! Where a balancer finds its backends (loadbalancing 1.6). A [`Resolver`] says their names as the
//! ring hashes them: sorted bytewise, duplicates kept. It lives on the control thread; an answer
//! becomes a ring there, and the cores only ever see rings.
//!
//! A failed answer is told and changes nothing: whoever asked keeps the last good one. What this
//! does not do: look whether a backend is well. That is what the lanes are for.

use std::fmt;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

pub mod cloud_map;
pub mod dns;
mod hosts;
mod https;
pub mod k8s;

/// `resolver`: exactly one of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Options {
    /// `static.hostnames`, sorted bytewise, duplicates kept (loadbalancing 1.6, 2.2).
    Static(Vec<String>),
    /// `dns`.
    Dns(dns::Options),
    /// `k8s`.
    K8s(k8s::Options),
    /// `aws_cloud_map`.
    CloudMap(cloud_map::Options),
}

impl Options {
    /// The names that are known without asking anybody.
    #[must_use]
    pub fn names(&self) -> Option<&[String]> {
        if let Self::Static(names) = self { Some(names) } else { None }
    }

    /// Value of the label `resolver` of the balancer's metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Static(_) => "static",
            Self::Dns(_) => "dns",
            Self::K8s(_) => "k8s",
            Self::CloudMap(_) => "aws",
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The name servers gave no address.
    LookUp {
        /// `hostname`.
        hostname: String,
        /// What they said.
        cause: String,
    },
    /// The API server did not tell.
    Kubernetes(k8s::Error),
    /// Cloud Map did not tell.
    CloudMap(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LookUp { hostname, cause } => write!(f, "lookup {hostname}: {cause}"),
            Self::Kubernetes(e) => e.fmt(f),
            Self::CloudMap(cause) => write!(f, "Cloud Map: {cause}"),
        }
    }
}

impl std::error::Error for Error {}

/// Something that finds backends.
#[derive(Debug)]
pub enum Resolver {
    /// Says its names once.
    Static(Option<Vec<String>>),
    /// Asks name servers.
    Dns(dns::Dns),
    /// Watches EndpointSlices.
    K8s(Box<k8s::K8s>),
    /// Asks Cloud Map.
    CloudMap(Box<cloud_map::CloudMap>),
}

impl Resolver {
    /// Ready to be asked.
    ///
    /// # Errors
    /// If what it needs is not there: no cluster for `k8s`.
    pub async fn new(options: &Options) -> Result<Self, Error> {
        Ok(match options {
            Options::Static(names) => Self::Static(Some(names.clone())),
            Options::Dns(options) => Self::Dns(dns::Dns::new(options.clone())),
            Options::CloudMap(options) => {
                let cloud_map = cloud_map::CloudMap::new(options.clone());
                Self::CloudMap(Box::new(cloud_map.map_err(Error::CloudMap)?))
            }
            Options::K8s(options) => Self::K8s(Box::new(k8s::K8s::new(options.clone()).await?)),
        })
    }

    /// The next answer, which may be the same as the last one. Can be dropped and asked again.
    ///
    /// # Errors
    /// Why there is none this time. Asked again it waits before it tries again.
    pub async fn next(&mut self) -> Result<Vec<String>, Error> {
        match self {
            Self::Static(names) => match names.take() {
                Some(names) => Ok(names),
                None => std::future::pending().await,
            },
            Self::Dns(dns) => dns.next().await,
            Self::CloudMap(cloud_map) => cloud_map.next().await.map_err(Error::CloudMap),
            Self::K8s(k8s) => k8s.next().await.map_err(Error::Kubernetes),
        }
    }
}

/// At once and then every `interval`. A question that took long is followed by a whole interval,
/// not by those it missed.
fn every(interval: Duration) -> Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
