//! Recorded cases (`tests/vectors/tail_sampling/README.md` tells their format).

use std::collections::BTreeMap;
use std::path::Path;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde_json::Value;

use crate::otlp_json;

/// A request, and when it is sent after the first one.
pub(crate) struct Request {
    pub(crate) at_ms: u64,
    pub(crate) body: ExportTraceServiceRequest,
}

/// What was recorded of one configuration and its traffic.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) about: String,
    /// The processor's block.
    pub(crate) block: Value,
    pub(crate) requests: Vec<Request>,
    pub(crate) batch: bool,
    pub(crate) wait_ms: u64,
    pub(crate) sigterm: bool,
    pub(crate) gates: Vec<String>,
    pub(crate) scrape: bool,
    pub(crate) window_ms: Option<(u64, u64)>,
    /// The configuration must be refused.
    pub(crate) refused: bool,
    pub(crate) expect: Expect,
    /// Trace id → readable name.
    pub(crate) names: BTreeMap<String, String>,
}

/// `expect`, ids in hex.
#[derive(Default)]
pub(crate) struct Expect {
    pub(crate) kept: Option<Vec<String>>,
    pub(crate) spans: BTreeMap<String, Vec<String>>,
    pub(crate) bounds: Vec<Bounds>,
    pub(crate) shape: BTreeMap<String, Value>,
    pub(crate) scope_attributes: BTreeMap<String, Value>,
    pub(crate) trace_state: BTreeMap<String, String>,
    pub(crate) metrics: BTreeMap<String, f64>,
}

/// How many traces or spans may come out.
pub(crate) struct Bounds {
    pub(crate) of_spans: bool,
    pub(crate) min: u64,
    pub(crate) max: u64,
    /// Of these traces only.
    pub(crate) ids: Option<Vec<String>>,
}

/// All cases below `tests/vectors/tail_sampling`, in the order of their files.
pub(crate) fn all() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/tail_sampling");
    let read =
        |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let mut files: Vec<_> =
        root.join("cases").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        for json in read(&file)["cases"].as_array().unwrap() {
            let traffic = json["traffic"].as_str();
            let traffic = traffic.map(|name| {
                let name = format!("traffic/{}.json", name.trim_end_matches(".json"));
                read(&root.join(name))["input"].clone()
            });
            cases.push(case(json, traffic.as_ref().unwrap_or_else(|| &json["input"])));
        }
    }
    cases
}

fn case(json: &Value, input: &Value) -> Case {
    let requests = input.as_array().into_iter().flatten().map(|request| Request {
        at_ms: request["at_ms"].as_u64().unwrap_or(0),
        body: otlp_json::request(&request["body"]),
    });
    let flag = |key: &str| json[key].as_bool().unwrap_or(false);
    let window = json["window_ms"].as_array();
    Case {
        name: json["name"].as_str().unwrap().to_owned(),
        about: json["about"].as_str().unwrap_or_default().to_owned(),
        block: json["tail_sampling"].clone(),
        requests: requests.collect(),
        batch: flag("batch"),
        wait_ms: json["wait_ms"].as_u64().unwrap(),
        sigterm: flag("sigterm"),
        gates: strings(&json["feature_gates"]).unwrap_or_default(),
        scrape: flag("scrape"),
        window_ms: window.map(|w| (w[0].as_u64().unwrap(), w[1].as_u64().unwrap())),
        refused: json.get("config_error").is_some(),
        expect: json.get("expect").map(expect).unwrap_or_default(),
        names: entries(&json["traces"])
            .map(|(name, id)| (id.as_str().unwrap().to_owned(), name.clone()))
            .collect(),
    }
}

fn expect(json: &Value) -> Expect {
    let bounds = json["bounds"].as_array().into_iter().flatten().map(|bounds| Bounds {
        of_spans: bounds["unit"] == "spans",
        min: bounds["min"].as_u64().unwrap(),
        max: bounds["max"].as_u64().unwrap(),
        ids: strings(&bounds["ids"]),
    });
    let map = |key: &str| entries(&json[key]).map(|(k, v)| (k.clone(), v.clone())).collect();
    Expect {
        kept: strings(&json["kept"]),
        spans: entries(&json["spans"]).map(|(k, v)| (k.clone(), strings(v).unwrap())).collect(),
        bounds: bounds.collect(),
        shape: map("shape"),
        scope_attributes: map("scope_attributes"),
        trace_state: entries(&json["trace_state"])
            .map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned()))
            .collect(),
        metrics: entries(&json["metrics"]).map(|(k, v)| (k.clone(), v.as_f64().unwrap())).collect(),
    }
}

fn entries(json: &Value) -> impl Iterator<Item = (&String, &Value)> {
    json.as_object().into_iter().flatten()
}

fn strings(json: &Value) -> Option<Vec<String>> {
    let list = json.as_array()?;
    Some(list.iter().map(|item| item.as_str().unwrap().to_owned()).collect())
}
