//! What a configuration asks for, checked and complete: no reference dangles, no default is open.

use std::time::Duration;

use crate::otlp::Signal;
use crate::otlp::edit::Edits;
pub use crate::telemetry::HealthCheck;
pub use crate::upstream::debug::{Options as DebugOptions, Verbosity};
pub use crate::upstream::file::{Format, Options as FileOptions, Rotation};
use crate::{route, rpc, runtime, sample, telemetry, upstream};

/// A whole configuration. Components that no pipeline uses are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Cores, memory, shutdown.
    pub engine: runtime::Options,
    /// Receivers in use.
    pub receivers: Vec<Receiver>,
    /// Exporters in use.
    pub exporters: Vec<Exporter>,
    /// Pipelines in the order of the file.
    pub pipelines: Vec<Pipeline>,
    /// `service.telemetry`.
    pub telemetry: telemetry::Options,
    /// `health_check` extensions that `service.extensions` names.
    pub health_checks: Vec<HealthCheck>,
}

impl Plan {
    /// How exporters call, where they call somebody.
    fn calls(&self) -> impl Iterator<Item = &upstream::Options> {
        self.exporters.iter().filter_map(|exporter| match &exporter.kind {
            ExporterKind::LoadBalancing(balancing) => Some(&balancing.template),
            ExporterKind::OtlpGrpc { options, .. } | ExporterKind::OtlpHttp { options, .. } => {
                Some(&**options)
            }
            ExporterKind::Debug(_) | ExporterKind::File(_) | ExporterKind::Nop => None,
        })
    }

    /// Tells receivers with `include_metadata` which headers exporters ask for: others are not
    /// kept.
    pub(super) fn keep_metadata(&mut self) {
        let mut wanted: Vec<_> = self.calls().flat_map(upstream::Options::wanted).collect();
        wanted.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        wanted.dedup();
        for receiver in &mut self.receivers {
            if let Some(grpc) = receiver.grpc.as_mut().filter(|grpc| grpc.include_metadata) {
                grpc.metadata.clone_from(&wanted);
            }
            if let Some(http) = receiver.http.as_mut().filter(|http| http.include_metadata) {
                http.metadata.clone_from(&wanted);
            }
        }
    }

    /// Texts that stand in files, which are read again when they change.
    #[must_use]
    pub fn secrets(&self) -> Vec<rpc::secret::Secret> {
        let shown = self.calls().filter_map(|options| options.auth.as_ref());
        let shown = shown.flat_map(rpc::auth::ClientAuth::secrets).cloned();
        let grpc = self.receivers.iter().filter_map(|r| r.grpc.as_ref()?.auth.as_ref());
        let http = self.receivers.iter().filter_map(|r| r.http.as_ref()?.auth.as_ref());
        let wanted = grpc.chain(http).filter_map(rpc::auth::ServerAuth::secret).cloned();
        shown.chain(wanted).filter(|secret| secret.file().is_some()).collect()
    }
}

/// An `otlp` receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// Id as written, e.g. `otlp/edge`.
    pub id: String,
    /// `protocols.grpc`.
    pub grpc: Option<rpc::GrpcServerOptions>,
    /// `protocols.http`.
    pub http: Option<rpc::HttpServerOptions>,
}

/// One way from receivers to exporters.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Id as written, e.g. `traces/2`.
    pub id: String,
    /// What flows here.
    pub signal: Signal,
    /// Indices into [`Plan::receivers`].
    pub receivers: Vec<usize>,
    /// What processors change in what each of those brings, before it is sampled or exported.
    pub edits: Vec<Edits>,
    /// Indices into [`Plan::exporters`], each once.
    pub exporters: Vec<usize>,
    /// Where what a sampler keeps goes; none in a pipeline that does not sample.
    pub legs: Vec<Leg>,
    /// Cap on merging from `batch` processors: items per call, 0 for none.
    pub batch_items_max: u64,
    /// The last `batch` processor, behind the sampler if there is one.
    pub batch: Option<Batch>,
    /// Ids of `memory_limiter` processors, for their metrics.
    pub memory_limiters: Vec<String>,
    /// The `tail_sampling` processor, if there is one. Each pipeline has an instance of its own.
    pub sampling: Option<Sampling>,
}

/// A way behind a sampler.
#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    /// What processors change on it.
    pub edits: Edits,
    /// Some of the exporters of the pipeline.
    pub exporters: Vec<usize>,
}

/// `tail_sampling` processor of one pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Id as written, e.g. `tail_sampling/errors`.
    pub id: String,
    /// What it does.
    pub options: sample::options::Options,
}

/// `batch` processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// `send_batch_size`: items at which a batch leaves; 0 for at once.
    pub items: u64,
    /// `send_batch_max_size`: items that a batch never exceeds; 0 for no limit.
    pub items_max: u64,
    /// `timeout`: age at which a batch leaves.
    pub timeout: Duration,
}

/// An exporter in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Exporter {
    /// Id as written, e.g. `load_balancing` or `otlp/store`.
    pub id: String,
    /// What it does.
    pub kind: ExporterKind,
}

/// The exporters that tracemill has.
#[derive(Clone, Debug, PartialEq)]
pub enum ExporterKind {
    /// `load_balancing`.
    LoadBalancing(Box<LoadBalancing>),
    /// `otlp_grpc`.
    OtlpGrpc {
        /// `host:port`.
        endpoint: String,
        /// How it is called.
        options: Box<upstream::Options>,
    },
    /// `otlp_http`.
    OtlpHttp {
        /// The URL of each signal, in the order of [`Signal::ALL`]; empty for one that is not used
        /// and has none.
        endpoints: [String; 3],
        /// How it is called.
        options: Box<upstream::Options>,
    },
    /// `debug`.
    Debug(DebugOptions),
    /// `file`.
    File(FileOptions),
    /// `nop`.
    Nop,
}

/// `load_balancing` (loadbalancing 1).
#[derive(Clone, Debug, PartialEq)]
pub struct LoadBalancing {
    /// `protocol.otlp`: how each backend is called.
    pub template: upstream::Options,
    /// What is hashed, by signal.
    pub keys: [route::Key; 3],
    /// Where backends are found.
    pub resolver: upstream::resolve::Options,
    /// Which ring.
    pub ring: route::Generation,
    /// `timeout` at the balancer's own level: bound of the reply. The collector's default is 5 s.
    pub timeout: Duration,
    /// `retry_on_failure` at the balancer's own level: a part that failed is routed again.
    pub retry: Option<upstream::options::RetryOptions>,
    /// `sending_queue` at the balancer's own level: a further bound.
    pub queue: Option<upstream::options::QueueOptions>,
}
