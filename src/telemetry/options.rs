//! `service.telemetry`.

/// Metrics page and logs of the process itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Prometheus page; empty when the level is `none` or no reader is declared.
    pub metrics: Vec<MetricsReader>,
    /// Which metrics are shown.
    pub metrics_level: MetricsLevel,
    /// Least severe line that is written.
    pub log_level: LogLevel,
    /// `json` instead of `console`.
    pub log_json: bool,
    /// Lines name the place in the source that wrote them.
    pub log_caller: bool,
    /// Paths of log lines: `stderr`, `stdout` or files.
    pub log_output_paths: Vec<String>,
    /// Added to each line.
    pub log_initial_fields: Vec<(String, String)>,
    /// `target_info` labels and the `resource` field of log lines; includes `service.name`,
    /// `service.version`, `service.instance.id` unless removed.
    pub resource: Vec<(String, String)>,
}

/// `pull: {exporter: {prometheus: …}}`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsReader {
    /// Host to listen on.
    pub host: String,
    /// Port to listen on; 0 asks for a free one.
    pub port: u16,
    /// Counters end in `_total` and units are written out. Either of `without_type_suffix: false`
    /// and `without_units: false` turns on both, as in the collector.
    pub suffixes: bool,
    /// `otel_scope_*` labels (`without_scope_info: false`).
    pub scope_info: bool,
}

impl MetricsReader {
    /// `host:port`, an IPv6 host in brackets.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let Self { host, port, .. } = self;
        let bare = host.contains(':') && !host.starts_with('[');
        if bare { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// `health_check` extension (otlp 4.8).
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// Id as written.
    pub id: String,
    /// `host:port`.
    pub endpoint: String,
    /// Path; `/`, the default, answers on every path.
    pub path: String,
    /// `response_body.healthy` and `.unhealthy`, if given.
    pub response_body: Option<(String, String)>,
}

/// `metrics.level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricsLevel {
    /// No page.
    None,
    /// The collector's smallest set.
    Basic,
    /// The default.
    #[default]
    Normal,
    /// More labels.
    Detailed,
}

/// `logs.level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The default.
    #[default]
    Info,
    /// Trouble that heals.
    Warn,
    /// Lost data and failures.
    Error,
}
