//! From the merged, expanded tree to a [`Plan`]: sections, references, components, budgets.
//! Components that no pipeline uses are read for their mistakes, as in the collector, and left out.

use std::collections::BTreeMap;

use super::components::{
    self, Component, Known, Section, address, attributes, auth, tail_sampling,
};
use super::engine::{self, Engine};
use super::ids::Id;
use super::machine::{Budget, Machine};
use super::plan::{Batch, Exporter, ExporterKind, HealthCheck, Plan, Receiver};
use super::print::Out;
use super::read::Block;
use super::report::{At, Log, Severity, quote};
use super::scope::{self, Outside};
use super::service::{self, Draft, Reference, Service};
use super::splice::Graph;
use super::telemetry;
use super::tree::{Map, Node, Value};
use crate::otlp::Signal;
use crate::otlp::edit::Edits;
use crate::sample::options::{Gates, Options as SampleOptions};

mod pipelines;

/// Reads everything; errors are in `log`, and then the plan means nothing.
pub fn plan(root: &Map, machine: &Machine, gates: Gates, log: &Log) -> (Plan, Out) {
    let node = Node::new(At::default(), Value::Map(root.clone()));
    let mut b = Block::new(log, String::new(), &node, true);
    let engine = b.block("tracemill", engine::read);
    let (service, telemetry) = b.block("service", |b| {
        let service = service::read(b);
        (service, b.block("telemetry", |b| telemetry::read(b, machine)))
    });
    let mut declared = Vec::new();
    for section in Section::ALL {
        declared.extend(declarations(&mut b, section, log));
    }
    check_presence(root, log);
    check_references(&service, &declared, log);
    check_samplers(&service, log);
    let graph = Graph::new(&service.pipelines, forwards(&declared).map(|d| &d.id));
    graph.check(&forwards(&declared).map(|d| (&d.id, d.at)).collect::<Vec<_>>(), log);
    let mut parts = Parts::new(machine, gates, log, &service, &engine);
    // Receivers and exporters name authenticators, so extensions come first.
    let (extensions, others): (Vec<_>, Vec<_>) =
        declared.iter().partition(|d| d.section == Section::Extensions);
    for declaration in extensions.into_iter().chain(others) {
        parts.read(declaration);
    }
    parts.outside.sort_by_key(|o| (o.at.source, o.at.line, o.at.column));
    scope::report(&parts.outside, &service.pipelines, log);
    let out = parts.effective(b.finish());
    let plan = parts.plan(telemetry, &graph);
    check_listeners(&plan, root, log);
    (plan, out)
}

/// A component as declared in its section.
struct Declaration<'a> {
    section: Section,
    id: Id,
    at: At,
    node: &'a Node,
}

fn declarations<'a>(b: &mut Block<'a>, section: Section, log: &Log) -> Vec<Declaration<'a>> {
    let mut out: Vec<Declaration<'a>> = Vec::new();
    let Some(node) = b.node(section.key()) else { return out };
    let map = match &node.value {
        Value::Map(map) => map,
        Value::Null => return out,
        _ => {
            let what = format!("wants a map of components, this is {}", node.kind());
            log.error(node.at, section.key(), what, None);
            return out;
        }
    };
    for entry in map.iter() {
        match Id::parse(&entry.key) {
            Ok(id) if out.iter().any(|d| d.id == id) => {
                log.error(entry.at, section.key(), format!("{id} stands twice"), None);
            }
            Ok(id) => {
                out.push(Declaration { section, id, at: entry.at, node: &entry.node });
            }
            Err(what) => {
                let what = format!("{} is no id: {what}", quote(&entry.key));
                log.error(entry.at, section.key(), what, Some("type, or type/name".into()));
            }
        }
    }
    out
}

/// The `forward` connectors.
fn forwards<'a, 'd>(
    declared: &'d [Declaration<'a>],
) -> impl Iterator<Item = &'d Declaration<'a>> + use<'a, 'd> {
    let is_forward = |d: &&Declaration<'_>| {
        let known = components::find(d.section, &d.id.kind);
        known.is_some_and(|known| known.component == Component::Forward)
    };
    declared.iter().filter(is_forward)
}

/// As in the collector: something must be received and something exported.
fn check_presence(root: &Map, log: &Log) {
    for section in [Section::Receivers, Section::Exporters] {
        let empty = match root.get(section.key()).map(|n| &n.value) {
            None | Some(Value::Null) => true,
            Some(Value::Map(map)) => map.is_empty(),
            Some(_) => false,
        };
        if empty {
            let what = format!("no {} is declared", section.noun());
            log.error(At::default(), section.key(), what, None);
        }
    }
}

fn check_references(service: &Service, declared: &[Declaration<'_>], log: &Log) {
    let has =
        |section: Section, id: &Id| declared.iter().any(|d| d.id == *id && (d.section == section));
    let check = |path: String, section: Section, references: &[Reference]| {
        for Reference { id, at } in references {
            let connected = matches!(section, Section::Receivers | Section::Exporters)
                && has(Section::Connectors, id);
            if has(section, id) || connected {
                continue;
            }
            let names = declared.iter().filter(|d| d.section == section).map(|d| d.id.to_string());
            let names: Vec<String> = names.collect();
            let right = match names.is_empty() {
                true => format!("declare it under {}", section.key()),
                false => format!("declared are: {}", names.join(", ")),
            };
            let what = format!("{} {} is not declared", section.noun(), quote(&id.to_string()));
            log.error(*at, &path, what, Some(right));
        }
    };
    check("service::extensions".into(), Section::Extensions, &service.extensions);
    for draft in &service.pipelines {
        let path = format!("service::pipelines::{}", draft.id);
        check(path.clone(), Section::Receivers, &draft.receivers);
        check(path.clone(), Section::Processors, &draft.processors);
        check(path, Section::Exporters, &draft.exporters);
    }
    for connector in declared.iter().filter(|d| d.section == Section::Connectors) {
        for section in [Section::Receivers, Section::Exporters] {
            if has(section, &connector.id) {
                let what = format!("{} is also the id of a {}", connector.id, section.noun());
                log.error(
                    connector.at,
                    "connectors",
                    what,
                    Some(format!("{}/connector", connector.id)),
                );
            }
        }
    }
}

/// `tail_sampling` stands in traces pipelines only, and once in each.
fn check_samplers(service: &Service, log: &Log) {
    for draft in &service.pipelines {
        let path = format!("service::pipelines::{}", draft.id);
        let samplers = draft.processors.iter().filter(|r| r.id.kind == tail_sampling::TYPE);
        for (i, reference) in samplers.enumerate() {
            let signal = draft.signal.name();
            if draft.signal != Signal::Traces {
                let what = format!(
                    "failed to create \"{}\" processor for data type \"{signal}\": telemetry type \
                     is not supported",
                    reference.id
                );
                log.error(reference.at, &path, what, Some("it samples traces only".into()));
            } else if i > 0 {
                let what = "a second tail_sampling in one pipeline is not supported";
                let right = "put its policies into the first: \
                             policies of type and, not and drop combine conditions";
                log.error(reference.at, &path, what, Some(right.into()));
            }
        }
    }
}

/// Components as they are read.
struct Parts<'a> {
    machine: &'a Machine,
    gates: Gates,
    log: &'a Log,
    service: &'a Service,
    engine: &'a Engine,
    receivers: Vec<(Id, Receiver)>,
    exporters: Vec<(Id, Exporter)>,
    batches: BTreeMap<Id, Batch>,
    samplers: BTreeMap<Id, SampleOptions>,
    edits: BTreeMap<Id, Edits>,
    limiters: BTreeMap<Id, Budget>,
    health_checks: Vec<HealthCheck>,
    authenticators: auth::Authenticators,
    outside: Vec<Outside>,
    outs: Vec<(Section, String, Out)>,
}

impl<'a> Parts<'a> {
    fn new(
        machine: &'a Machine,
        gates: Gates,
        log: &'a Log,
        service: &'a Service,
        engine: &'a Engine,
    ) -> Self {
        Self {
            machine,
            gates,
            log,
            service,
            engine,
            receivers: Vec::new(),
            exporters: Vec::new(),
            batches: BTreeMap::new(),
            samplers: BTreeMap::new(),
            edits: BTreeMap::new(),
            limiters: BTreeMap::new(),
            health_checks: Vec::new(),
            authenticators: auth::Authenticators::new(),
            outside: Vec::new(),
            outs: Vec::new(),
        }
    }

    fn read(&mut self, d: &Declaration<'_>) {
        let users = self.users(d);
        let in_use = !users.is_empty()
            || (d.section == Section::Extensions
                && self.service.extensions.iter().any(|r| r.id == d.id));
        let Some(known) = components::find(d.section, &d.id.kind) else {
            let (section, id, at) = (d.section, d.id.clone(), d.at);
            self.outside.push(Outside { section, id, at, in_use });
            return;
        };
        let path = format!("{}::{}", d.section.key(), d.id);
        if let Some(new) = known.renamed {
            let renamed = Id { kind: new.to_owned(), name: d.id.name.clone() };
            let right = format!("{renamed}:   # here and in the pipelines");
            self.log.warn(d.at, &path, format!("old name of {new}"), Some(right));
        }
        let mut b = Block::new(self.log, path.clone(), d.node, in_use);
        b.set_place_if_null(d.at);
        let signals: Vec<Signal> = users.iter().map(|d| d.signal).collect();
        self.component(&mut b, d, known, &signals);
        if let Component::Replaced(instead) = known.component {
            self.log.warn(d.at, &path, format!("accepted: {instead}"), None);
        } else {
            self.outs.push((d.section, d.id.to_string(), b.finish()));
        }
    }

    fn component(
        &mut self,
        b: &mut Block<'_>,
        d: &Declaration<'_>,
        known: &Known,
        signals: &[Signal],
    ) {
        let (in_use, id, merge) = (b.in_use(), d.id.to_string(), &self.engine.merge);
        let kind = match known.component {
            Component::OtlpReceiver => {
                let mut receiver = components::otlp_receiver::read(b, &id);
                self.admit(b, &mut receiver);
                if in_use {
                    self.receivers.push((d.id.clone(), receiver));
                }
                return;
            }
            Component::MemoryLimiter
            | Component::Batch
            | Component::TailSampling
            | Component::Resource
            | Component::Attributes => return self.processor(b, d, known.component),
            Component::HealthCheck => {
                let check = components::health_check::read(b, &id);
                if in_use {
                    self.health_checks.push(check);
                }
                return;
            }
            Component::BasicAuth | Component::BearerTokenAuth | Component::HeadersSetter => {
                let read = match known.component {
                    Component::BasicAuth => auth::basic,
                    Component::BearerTokenAuth => auth::bearer,
                    _ => auth::headers_setter,
                };
                let authenticator = read(b);
                if in_use {
                    self.authenticators.insert(d.id.clone(), authenticator);
                }
                return;
            }
            // It has no keys; what it joins is spliced.
            Component::Forward | Component::Replaced(_) => return,
            Component::LoadBalancing => {
                components::load_balancing::read(b, signals, self.engine.ring, merge)
            }
            Component::OtlpGrpc => components::otlp_grpc::read(b, merge),
            Component::OtlpHttp => components::otlp_http::read(b, signals, merge),
            Component::Debug => components::debug::read(b),
            Component::File => components::file::read(b),
            Component::Nop => components::debug::nop(b),
        };
        let mut kind = kind;
        self.introduce(b, &mut kind);
        if in_use {
            self.exporters.push((d.id.clone(), Exporter { id, kind }));
        }
    }

    fn processor(&mut self, b: &mut Block<'_>, d: &Declaration<'_>, component: Component) {
        match component {
            Component::MemoryLimiter => {
                let budget = components::memory_limiter::read(b, self.machine);
                self.limiters.insert(d.id.clone(), budget);
            }
            Component::Batch => {
                let batch = components::batch::read(b);
                self.batches.insert(d.id.clone(), batch);
            }
            Component::TailSampling => {
                let extensions: Vec<String> =
                    self.service.extensions.iter().map(|r| r.id.to_string()).collect();
                let options = tail_sampling::read(b, self.gates, &extensions);
                self.samplers.insert(d.id.clone(), options);
            }
            Component::Resource | Component::Attributes => {
                let is_resource = component == Component::Resource;
                let read = if is_resource { attributes::resource } else { attributes::record };
                self.edits.insert(d.id.clone(), read(b));
            }
            _ => unreachable!("no processor"),
        }
    }

    /// Finds the authenticators of a receiver.
    fn admit(&self, b: &mut Block<'_>, receiver: &mut Receiver) {
        b.lenient("protocols", |b| {
            if let Some(grpc) = &mut receiver.grpc {
                b.lenient("grpc", |b| grpc.auth = auth::server(b, &self.authenticators));
            }
            if let Some(http) = &mut receiver.http {
                b.lenient("http", |b| http.auth = auth::server(b, &self.authenticators));
            }
        });
    }

    /// Finds the authenticator of an exporter.
    fn introduce(&self, b: &mut Block<'_>, kind: &mut ExporterKind) {
        match kind {
            ExporterKind::OtlpGrpc { options, .. } => {
                options.auth = auth::client(b, &self.authenticators);
                auth::check_secrecy(b, options);
            }
            ExporterKind::OtlpHttp { options, .. } => {
                options.auth = auth::client(b, &self.authenticators);
            }
            ExporterKind::LoadBalancing(balancing) => b.lenient("protocol", |b| {
                b.lenient("otlp", |b| {
                    balancing.template.auth = auth::client(b, &self.authenticators);
                    auth::check_secrecy(b, &balancing.template);
                });
            }),
            ExporterKind::Debug(_) | ExporterKind::File(_) | ExporterKind::Nop => {}
        }
    }

    /// Pipelines that name the component in the role of its section.
    fn users(&self, d: &Declaration<'_>) -> Vec<&'a Draft> {
        self.service.pipelines.iter().filter(|draft| draft.names(d.section, &d.id)).collect()
    }

    /// The sections with what took effect in them.
    fn effective(&mut self, rest: Out) -> Out {
        let mut root = Vec::new();
        for section in Section::ALL {
            let of = |(s, id, out): &(Section, String, Out)| {
                (*s == section).then(|| (id.clone(), out.clone()))
            };
            let entries: Vec<(String, Out)> = self.outs.iter().filter_map(of).collect();
            if !entries.is_empty() {
                root.push((section.key().to_owned(), Out::Map(entries)));
            }
        }
        if let Out::Map(mut rest) = rest {
            // `service` before `tracemill`: the file that the collector reads comes first.
            rest.reverse();
            root.extend(rest);
        }
        Out::Map(root)
    }

    fn plan(self, telemetry: crate::telemetry::Options, graph: &Graph<'_>) -> Plan {
        let budget = self.budget();
        let pipelines = graph.spliced().iter().map(|s| self.pipeline(s)).collect();
        let mut options = self.engine.options.clone();
        (options.soft_bytes, options.hard_bytes) = (budget.soft, budget.hard);
        let mut plan = Plan {
            engine: options,
            receivers: self.receivers.into_iter().map(|(_, r)| r).collect(),
            exporters: self.exporters.into_iter().map(|(_, e)| e).collect(),
            pipelines,
            telemetry,
            health_checks: self.health_checks,
        };
        plan.keep_metadata();
        plan
    }

    /// The smallest of all that are set, else the machine's default.
    fn budget(&self) -> Budget {
        let named = |id: &&Id| {
            self.service.pipelines.iter().any(|d| d.processors.iter().any(|r| r.id == **id))
        };
        let limiters = self.limiters.keys().filter(named).map(|id| self.limiters[id]);
        let set = limiters.chain(self.engine.budget).reduce(Budget::min);
        let budget = set.unwrap_or_else(|| self.machine.default_budget());
        let what = format!(
            "telemetry may hold {} MiB; replies are delayed from {} MiB",
            budget.hard >> 20,
            budget.soft >> 20
        );
        self.log.say(Severity::Note, At::default(), "", what, None);
        budget
    }
}

/// Two listeners on one address: the collector finds that only at start.
fn check_listeners(plan: &Plan, root: &Map, log: &Log) {
    let mut listeners: Vec<(String, String)> = Vec::new();
    for receiver in &plan.receivers {
        let path = |protocol: &str| format!("receivers::{}::protocols::{protocol}", receiver.id);
        listeners.extend(receiver.grpc.iter().map(|g| (path("grpc"), g.endpoint.clone())));
        listeners.extend(receiver.http.iter().map(|h| (path("http"), h.endpoint.clone())));
    }
    for check in &plan.health_checks {
        listeners.push((format!("extensions::{}", check.id), check.endpoint.clone()));
    }
    for reader in &plan.telemetry.metrics {
        listeners.push(("service::telemetry::metrics".into(), reader.endpoint()));
    }
    for (i, (path, address)) in listeners.iter().enumerate() {
        for (other, taken) in &listeners[..i] {
            if address::collide(address, taken) {
                let what = format!("{address} is taken by {other}, which listens on {taken}");
                log.error(deepest(root, path), path, what, None);
            }
        }
    }
}

/// Where the innermost key of `path` stands that the file has.
fn deepest(root: &Map, path: &str) -> At {
    let mut at = At::default();
    let mut map = Some(root);
    for key in path.split("::").chain(["endpoint"]) {
        let Some(entry) = map.and_then(|m| m.entry(key)) else { break };
        at = entry.at;
        map = match &entry.node.value {
            Value::Map(map) => Some(map),
            _ => None,
        };
    }
    at
}
