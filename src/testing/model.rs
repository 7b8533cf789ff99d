//! What the spans of the workload say: services, operations, attributes, faults.

use super::random::{Random, mix};

/// Where a span's time stands. 2026-01-01, nanoseconds since 1970.
pub(super) const EPOCH: u64 = 1_767_225_600_000_000_000;

/// A span before it is encoded.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// Number of the trace in its set.
    pub trace: u32,
    pub id: u64,
    /// 0 for the root.
    pub parent: u64,
    pub service: u32,
    pub kind: Kind,
    pub start: u64,
    pub end: u64,
    pub error: bool,
    /// Seeds names and attributes.
    pub salt: u64,
}

/// What a span does; decides scope, name and attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Server,
    Client,
    Database,
    Internal,
    /// Serves a health check.
    Health,
}

/// An attribute's value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Static(&'static str),
    Int(i64),
    Bool(bool),
}

pub(super) type Attributes = Vec<(&'static str, Value)>;

impl Kind {
    /// Instrumentation scope: name and version. Server and client spans share one.
    pub(super) const fn scope(self) -> (&'static str, &'static str) {
        match self {
            Self::Server | Self::Client | Self::Health => {
                ("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "0.64.0")
            }
            Self::Database => ("github.com/XSAM/otelsql", "0.40.0"),
            Self::Internal => ("shop/checkout", ""),
        }
    }

    /// `SpanKind` of OTLP.
    pub(super) const fn number(self) -> u64 {
        match self {
            Self::Internal => 1,
            Self::Server | Self::Health => 2,
            Self::Client | Self::Database => 3,
        }
    }
}

const SERVICES: [&str; 12] = [
    "frontend",
    "cart",
    "checkout",
    "currency",
    "payment",
    "shipping",
    "email",
    "product-catalog",
    "recommendation",
    "ad",
    "quote",
    "inventory",
];

const ROUTES: [(&str, &str); 8] = [
    ("GET", "/api/v1/products/{id}"),
    ("POST", "/api/v1/cart/{id}/items"),
    ("GET", "/api/v1/cart/{id}"),
    ("POST", "/api/v1/checkout"),
    ("GET", "/api/v1/currencies"),
    ("POST", "/api/v1/payments/{id}/charge"),
    ("GET", "/api/v1/recommendations"),
    ("PUT", "/api/v1/users/{id}/profile"),
];

const QUERIES: [(&str, &str); 4] = [
    ("SELECT", "SELECT id, name, price_units, price_nanos FROM products WHERE id = $1"),
    ("SELECT", "SELECT product_id, quantity FROM cart_items WHERE user_id = $1 ORDER BY added"),
    ("INSERT", "INSERT INTO orders (id, user_id, total, currency) VALUES ($1, $2, $3, $4)"),
    ("UPDATE", "UPDATE inventory SET reserved = reserved + $2 WHERE product_id = $1"),
];

const STEPS: [&str; 4] = ["validateCart", "prepareOrderItems", "convertCurrency", "renderPage"];

/// Name of a service; there is no end to them.
pub(super) fn service_name(service: u32) -> String {
    let count = 12;
    let name = SERVICES[(service % count) as usize];
    match service / count {
        0 => name.to_owned(),
        n => format!("{name}-{n}"),
    }
}

/// The nine attributes of a service's resource.
pub(super) fn resource(service: u32) -> Attributes {
    let name = service_name(service);
    let x = mix(u64::from(service) + 1);
    vec![
        ("service.name", Value::Text(name.clone())),
        ("service.namespace", Value::Static("shop")),
        ("service.version", Value::Text(format!("2.{}.{}", x % 9, x % 31))),
        ("service.instance.id", Value::Text(uuid(x))),
        ("k8s.pod.name", Value::Text(format!("{name}-{:08x}-{:05x}", x >> 32, x & 0xf_ffff))),
        ("host.name", Value::Text(format!("ip-10-0-{}-{}.ec2.internal", x & 255, x >> 8 & 255))),
        ("telemetry.sdk.name", Value::Static("opentelemetry")),
        ("telemetry.sdk.language", Value::Static("go")),
        ("process.pid", Value::Int(i64::from((x & 0x7fff) as u16))),
    ]
}

/// Name of a span.
pub(super) fn name(span: &Span) -> String {
    match span.kind {
        Kind::Client => route(span).0.to_owned(),
        Kind::Server | Kind::Health => {
            let (method, route) = route(span);
            format!("{method} {route}")
        }
        Kind::Database => format!("{} shop", query(span).0),
        Kind::Internal => Random::new(span.salt).pick(&STEPS).to_string(),
    }
}

/// About ten attributes of a span.
pub(super) fn attributes(span: &Span) -> Attributes {
    let status = if span.error { 500 } else { 200 };
    let peer = service_name((span.salt >> 8 & 15) as u32);
    match span.kind {
        Kind::Server | Kind::Health => {
            let (method, route) = route(span);
            let path = route.replace("{id}", &format!("{:08x}", span.salt >> 32));
            vec![
                ("http.request.method", Value::Static(method)),
                ("http.route", Value::Static(route)),
                ("url.path", Value::Text(path)),
                ("url.scheme", Value::Static("http")),
                ("http.response.status_code", Value::Int(status)),
                ("server.address", Value::Text(service_name(span.service))),
                ("server.port", Value::Int(8080)),
                ("client.address", Value::Text(address(span.salt))),
                ("user_agent.original", Value::Static("Mozilla/5.0 (X11; Linux x86_64)")),
                ("network.protocol.version", Value::Static("1.1")),
            ]
        }
        Kind::Client => {
            let (method, route) = route(span);
            let path = route.replace("{id}", &format!("{:08x}", span.salt >> 32));
            vec![
                ("http.request.method", Value::Static(method)),
                ("url.full", Value::Text(format!("http://{peer}.shop.svc:8080{path}"))),
                ("server.address", Value::Text(format!("{peer}.shop.svc"))),
                ("server.port", Value::Int(8080)),
                ("http.response.status_code", Value::Int(status)),
                ("network.protocol.name", Value::Static("http")),
                ("network.protocol.version", Value::Static("1.1")),
                ("network.peer.address", Value::Text(address(span.salt))),
                ("peer.service", Value::Text(peer)),
                ("http.request.resend_count", Value::Int(0)),
            ]
        }
        Kind::Database => database(span),
        Kind::Internal => vec![
            ("app.user.id", Value::Text(uuid(span.salt))),
            ("app.user.currency", Value::Static("USD")),
            ("app.cart.items.count", Value::Int(i64::from((span.salt % 17) as u8))),
            ("app.session.id", Value::Text(uuid(!span.salt))),
            ("app.feature.new_checkout", Value::Bool(span.salt & 1 == 1)),
            ("app.order.amount", Value::Int(i64::from((span.salt >> 16 & 0xffff) as u16))),
            ("code.function.name", Value::Static("shop.checkout.Service.PlaceOrder")),
            ("thread.name", Value::Static("worker-pool-7")),
            ("app.region", Value::Static("eu-central-1")),
        ],
    }
}

fn database(span: &Span) -> Attributes {
    let (operation, text) = query(span);
    vec![
        ("db.system.name", Value::Static("postgresql")),
        ("db.namespace", Value::Static("shop")),
        ("db.operation.name", Value::Static(operation)),
        ("db.query.text", Value::Static(text)),
        ("server.address", Value::Static("postgres.shop.svc")),
        ("server.port", Value::Int(5432)),
        ("network.peer.address", Value::Text(address(span.salt))),
        ("db.response.returned_rows", Value::Int(i64::from((span.salt % 50) as u8))),
        ("db.client.connection.pool.name", Value::Static("primary")),
    ]
}

/// Attributes of the exception event of a span that failed.
pub(super) fn exception() -> Attributes {
    vec![
        ("exception.type", Value::Static("*errors.errorString")),
        ("exception.message", Value::Static("upstream connect error: connection refused")),
        (
            "exception.stacktrace",
            Value::Static(
                "goroutine 42 [running]:\nmain.(*server).charge(0xc0001)\n\t/src/main.go:211 \
                 +0x1d\nnet/http.HandlerFunc.ServeHTTP(0xc0002)\n\t/go/src/net/http/server.go:2220",
            ),
        ),
    ]
}

fn route(span: &Span) -> (&'static str, &'static str) {
    match span.kind {
        Kind::Health => ("GET", "/healthz"),
        _ => *Random::new(span.salt).pick(&ROUTES),
    }
}

fn query(span: &Span) -> (&'static str, &'static str) {
    *Random::new(span.salt).pick(&QUERIES)
}

fn address(x: u64) -> String {
    format!("10.{}.{}.{}", x & 255, x >> 8 & 255, x >> 16 & 255)
}

fn uuid(x: u64) -> String {
    let y = mix(x);
    format!(
        "{:08x}-{:04x}-4{:03x}-9{:03x}-{:012x}",
        x >> 32,
        x >> 16 & 0xffff,
        x & 0xfff,
        y >> 48 & 0xfff,
        y & 0xffff_ffff_ffff
    )
}
