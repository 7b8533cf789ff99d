//! One file per component: its keys, defaults and rules. Blocks that several components have in
//! common (`tls`, `queue`, `retry`, `grpc_client`, `address`) stand beside them.

pub mod address;
pub mod attributes;
pub mod auth;
pub mod batch;
pub mod debug;
pub mod elsewhere;
pub mod file;
pub mod grpc_client;
pub mod health_check;
pub mod load_balancing;
pub mod memory_limiter;
pub mod otlp_grpc;
pub mod otlp_http;
pub mod otlp_receiver;
pub mod queue;
pub mod resolver;
pub mod retry;
pub mod tail_sampling;
pub mod tls;

/// Where a component stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `receivers`.
    Receivers,
    /// `processors`.
    Processors,
    /// `exporters`.
    Exporters,
    /// `connectors`.
    Connectors,
    /// `extensions`.
    Extensions,
}

impl Section {
    /// In the order of the collector's documentation.
    pub const ALL: [Self; 5] =
        [Self::Receivers, Self::Processors, Self::Exporters, Self::Connectors, Self::Extensions];

    /// The key.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Receivers => "receivers",
            Self::Processors => "processors",
            Self::Exporters => "exporters",
            Self::Connectors => "connectors",
            Self::Extensions => "extensions",
        }
    }

    /// Of what a pipeline names, that which may be a component of this section.
    pub fn named<'a, T>(
        self,
        receivers: &'a [T],
        processors: &'a [T],
        exporters: &'a [T],
    ) -> impl Iterator<Item = &'a T> {
        let lists: [&[T]; 2] = match self {
            Self::Receivers => [receivers, &[]],
            Self::Processors => [processors, &[]],
            Self::Exporters => [exporters, &[]],
            Self::Connectors => [receivers, exporters],
            Self::Extensions => [&[], &[]],
        };
        lists.into_iter().flatten()
    }

    /// One of them, in messages.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Receivers => "receiver",
            Self::Processors => "processor",
            Self::Exporters => "exporter",
            Self::Connectors => "connector",
            Self::Extensions => "extension",
        }
    }
}

/// The components that tracemill has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// `otlp` receiver.
    OtlpReceiver,
    /// `memory_limiter` processor.
    MemoryLimiter,
    /// `batch` processor.
    Batch,
    /// `tail_sampling` processor.
    TailSampling,
    /// `resource` processor.
    Resource,
    /// `attributes` processor.
    Attributes,
    /// `load_balancing` exporter.
    LoadBalancing,
    /// `otlp_grpc` exporter.
    OtlpGrpc,
    /// `otlp_http` exporter.
    OtlpHttp,
    /// `debug` exporter.
    Debug,
    /// `file` exporter.
    File,
    /// `nop` exporter.
    Nop,
    /// `forward` connector.
    Forward,
    /// `health_check` extension.
    HealthCheck,
    /// `basicauth` extension.
    BasicAuth,
    /// `bearertokenauth` extension.
    BearerTokenAuth,
    /// `headers_setter` extension.
    HeadersSetter,
    /// An extension that is accepted and replaced by something else.
    Replaced(&'static str),
}

/// A type name and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Section in which it stands.
    pub section: Section,
    /// Type, as in `type/name`.
    pub name: &'static str,
    /// What it is.
    pub component: Component,
    /// The new name, if this one is old (configs 5).
    pub renamed: Option<&'static str>,
    /// For `tracemill components`.
    pub about: &'static str,
}

const BALLAST: &str = "no ballast is taken: it steers Go's garbage collector, which is not here";
const PPROF: &str = "no profile is served; `perf` shows every function of a running tracemill";
const ZPAGES: &str = "no pages are served; the metrics page shows every queue and limit";

/// Every type that is accepted.
pub const KNOWN: [Known; 24] = [
    known(Section::Receivers, "otlp", Component::OtlpReceiver, None, "OTLP over gRPC and HTTP"),
    known(
        Section::Processors,
        "memory_limiter",
        Component::MemoryLimiter,
        None,
        "sets the byte budget of the process",
    ),
    known(
        Section::Processors,
        "batch",
        Component::Batch,
        None,
        "caps merging; gathers behind a sampler",
    ),
    known(
        Section::Processors,
        "tail_sampling",
        Component::TailSampling,
        None,
        "keeps or drops each trace as a whole",
    ),
    known(
        Section::Processors,
        "resource",
        Component::Resource,
        None,
        "insert, update, upsert, delete attributes of resources",
    ),
    known(
        Section::Processors,
        "attributes",
        Component::Attributes,
        None,
        "the same on spans, log records and data points",
    ),
    known(
        Section::Exporters,
        "load_balancing",
        Component::LoadBalancing,
        None,
        "each item to its owner among several backends",
    ),
    known(Section::Exporters, "otlp_grpc", Component::OtlpGrpc, None, "OTLP over gRPC"),
    known(
        Section::Exporters,
        "otlp_http",
        Component::OtlpHttp,
        None,
        "OTLP over HTTP, protobuf or JSON",
    ),
    known(Section::Exporters, "debug", Component::Debug, None, "writes what arrives"),
    known(
        Section::Exporters,
        "file",
        Component::File,
        None,
        "OTLP to a file: JSON lines or protobuf",
    ),
    known(Section::Exporters, "nop", Component::Nop, None, "drops what arrives"),
    known(
        Section::Connectors,
        "forward",
        Component::Forward,
        None,
        "joins pipelines of one signal",
    ),
    known(
        Section::Extensions,
        "health_check",
        Component::HealthCheck,
        None,
        "answers 200 or 503 over HTTP",
    ),
    known(
        Section::Extensions,
        "basicauth",
        Component::BasicAuth,
        None,
        "name and password, on either side",
    ),
    known(
        Section::Extensions,
        "bearertokenauth",
        Component::BearerTokenAuth,
        None,
        "a token, on either side",
    ),
    known(
        Section::Extensions,
        "headers_setter",
        Component::HeadersSetter,
        None,
        "headers of calls, also from the requests",
    ),
    known(
        Section::Exporters,
        "loadbalancing",
        Component::LoadBalancing,
        Some("load_balancing"),
        "old name of load_balancing",
    ),
    known(
        Section::Exporters,
        "otlp",
        Component::OtlpGrpc,
        Some("otlp_grpc"),
        "old name of otlp_grpc",
    ),
    known(
        Section::Exporters,
        "otlphttp",
        Component::OtlpHttp,
        Some("otlp_http"),
        "old name of otlp_http",
    ),
    known(Section::Exporters, "logging", Component::Debug, Some("debug"), "old name of debug"),
    known(
        Section::Extensions,
        "pprof",
        Component::Replaced(PPROF),
        None,
        "accepted; no profile is served",
    ),
    known(
        Section::Extensions,
        "zpages",
        Component::Replaced(ZPAGES),
        None,
        "accepted; no pages are served",
    ),
    known(
        Section::Extensions,
        "memory_ballast",
        Component::Replaced(BALLAST),
        None,
        "accepted; it is for Go's garbage collector",
    ),
];

const fn known(
    section: Section,
    name: &'static str,
    component: Component,
    renamed: Option<&'static str>,
    about: &'static str,
) -> Known {
    Known { section, name, component, renamed, about }
}

/// What `name` is in `section`.
#[must_use]
pub fn find(section: Section, name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|k| k.section == section && k.name == name)
}

/// The list that `tracemill components` prints.
#[must_use]
pub fn list() -> String {
    let mut out = String::new();
    for section in Section::ALL {
        let mut rows = KNOWN.iter().filter(|k| k.section == section).peekable();
        if rows.peek().is_none() {
            continue;
        }
        out.push_str(&format!("{}:\n", section.key()));
        for known in rows {
            out.push_str(&format!("  {:<15} {}\n", known.name, known.about));
        }
        let others = elsewhere::ELSEWHERE.iter().map(|e| (e.section, e.name));
        let others = others.filter(|(s, name)| *s == section && find(section, name).is_none());
        let others: Vec<&str> = others.map(|(_, name)| name).collect();
        if !others.is_empty() {
            out.push_str(&format!("  not here: {}\n", others.join(", ")));
        }
    }
    out.push_str("What is not here `tracemill adopt` leaves to a collector beside tracemill.\n");
    out
}
