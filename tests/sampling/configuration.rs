//! A case's block → a whole configuration, as text or read.

use serde_json::{Value, json};
use tracemill::config::{self, Machine};
use tracemill::sample::Options;

/// The configuration of a process: OTLP/gRPC in, sampler, OTLP/gRPC out.
pub(crate) struct Wiring<'a> {
    /// The processor's block.
    pub(crate) block: &'a Value,
    /// A `batch` processor follows.
    pub(crate) batch: bool,
    /// `host:port` of the receiver.
    pub(crate) receiver: &'a str,
    /// `host:port` of the sink.
    pub(crate) sink: &'a str,
    /// Whether there is a page of metrics, and at which `host` and port.
    pub(crate) metrics: Option<(&'a str, u16)>,
    /// Type of the exporter.
    pub(crate) exporter: &'a str,
}

impl Wiring<'_> {
    /// As JSON, which is YAML. Nothing in the block is expanded.
    pub(crate) fn text(&self, engine: Option<&Value>) -> String {
        let mut processors = json!({"tail_sampling": self.block});
        let mut order = vec!["tail_sampling"];
        if self.batch {
            processors["batch"] = json!({"timeout": "50ms"});
            order.push("batch");
        }
        let readers = self.metrics.map(|(host, port)| {
            let prometheus = json!({"host": host, "port": port});
            json!([{"pull": {"exporter": {"prometheus": prometheus}}}])
        });
        let level = if readers.is_some() { "detailed" } else { "none" };
        let exporter = json!({
            "endpoint": self.sink,
            "compression": "none",
            "tls": {"insecure": true},
            "sending_queue": {"queue_size": 100_000, "num_consumers": 1},
        });
        let grpc = json!({"endpoint": self.receiver});
        let mut all = json!({
            "receivers": {"otlp": {"protocols": {"grpc": grpc}}},
            "processors": processors,
            "exporters": {self.exporter: exporter},
            "service": {
                "pipelines": {"traces": {
                    "receivers": ["otlp"],
                    "processors": order,
                    "exporters": [self.exporter],
                }},
                "telemetry": {"metrics": {"level": level}},
            },
        });
        if let Some(readers) = readers {
            all["service"]["telemetry"]["metrics"]["readers"] = readers;
        }
        if let Some(engine) = engine {
            all["tracemill"] = engine.clone();
        }
        all.to_string().replace('$', "$$")
    }
}

/// What the loader makes of a block, or why it refuses it.
pub(crate) fn options(block: &Value, gates: &[String]) -> Result<Options, String> {
    let (receiver, sink, exporter) = ("127.0.0.1:0", "127.0.0.1:4317", "otlp_grpc");
    let wiring = Wiring { block, batch: false, receiver, sink, metrics: None, exporter };
    let text = wiring.text(None);
    let request = config::Request {
        configs: vec!["env:TEXT".to_owned()],
        feature_gates: gates.to_vec(),
        ..config::Request::default()
    };
    let machine = Machine {
        memory_bytes: 1 << 34,
        cgroup_bytes: None,
        instance_id: "00000000-0000-4000-8000-000000000000".to_owned(),
    };
    let env = |name: &str| (name == "TEXT").then(|| text.clone());
    let loaded = config::load(&request, &env, &machine).map_err(|report| report.to_string())?;
    let sampling = loaded.plan.pipelines.first().and_then(|pipeline| pipeline.sampling.as_ref());
    Ok(sampling.expect("the pipeline samples").options.clone())
}
