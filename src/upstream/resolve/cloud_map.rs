//! `aws_cloud_map`: the instances of a service, by DiscoverInstances (loadbalancing 1.6).
//!
//! The call has no pages: it tells at most 100 instances. Region and credentials are found as the
//! SDKs of AWS find them: environment, profile, container and machine.

use std::time::Duration;

use bytes::Bytes;
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner};
use reqsign_core::{Context, Env as _, FileRead, HttpSend, OsEnv, Signer};
use serde_json::{Value, json};
use tokio::time::Interval;

use super::https::Https;

/// `aws_cloud_map` of a resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Name of the namespace.
    pub namespace: String,
    /// Name of the service.
    pub service_name: String,
    /// Filter; AWS decides if it is not given, as in the collector.
    pub health_status: Option<HealthStatus>,
    /// From one call to the next.
    pub interval: Duration,
    /// Bound of one call.
    pub timeout: Duration,
    /// In place of each instance's own `AWS_INSTANCE_PORT`.
    pub port: Option<u16>,
    /// Account that owns a shared namespace.
    pub owner_account: Option<String>,
}

/// Which instances are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthStatus {
    /// The healthy ones.
    Healthy,
    /// The others.
    Unhealthy,
    /// All.
    All,
    /// The healthy ones, or all if there are none.
    HealthyOrElseAll,
}

impl HealthStatus {
    /// As AWS writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
            Self::All => "ALL",
            Self::HealthyOrElseAll => "HEALTHY_OR_ELSE_ALL",
        }
    }
}

/// Instances that one call tells at most (the API's default and largest).
const INSTANCES_MAX: usize = 100;
const REGION: &str = "us-east-1";
const TARGET: &str = "Route53AutoNaming_v20170314.DiscoverInstances";
/// How SigV4 calls the service.
const SERVICE: &str = "servicediscovery";

/// Asks for the instances of one service.
pub struct CloudMap {
    options: Options,
    ticks: Interval,
    https: Https,
    url: String,
    signer: Signer<Credential>,
    warned: bool,
}

impl std::fmt::Debug for CloudMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudMap").field("options", &self.options).finish_non_exhaustive()
    }
}

impl CloudMap {
    /// Asks at once and then at every interval.
    ///
    /// # Errors
    /// If the system's root certificates cannot be read.
    pub fn new(options: Options) -> Result<Self, String> {
        let https = Https::new()?;
        let env = |key: &str| OsEnv.var(key).filter(|value| !value.is_empty());
        let region = env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION"));
        let region = region.unwrap_or_else(|| REGION.to_owned());
        let url = env("AWS_ENDPOINT_URL_SERVICEDISCOVERY")
            .or_else(|| env("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| format!("https://data-servicediscovery.{region}.amazonaws.com"));
        let context = Context::new()
            .with_file_read(Files)
            .with_http_send(Sender(https.clone()))
            .with_env(OsEnv);
        let provider = DefaultCredentialProvider::new();
        let signer = Signer::new(context, provider, RequestSigner::new(SERVICE, &region));
        let ticks = super::every(options.interval);
        Ok(Self { options, ticks, https, url, signer, warned: false })
    }

    /// The instances at the next interval.
    ///
    /// # Errors
    /// What AWS says, or that it says nothing in time.
    pub async fn next(&mut self) -> Result<Vec<String>, String> {
        self.ticks.tick().await;
        let timeout = self.options.timeout;
        let reply = tokio::time::timeout(timeout, self.discover()).await;
        let reply = reply.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))?;
        let instances = reply["Instances"].as_array().map(Vec::as_slice).unwrap_or_default();
        if instances.len() >= INSTANCES_MAX && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!("Cloud Map tells {INSTANCES_MAX} instances at most; others are unseen.");
        }
        Ok(names(instances, self.options.port))
    }

    async fn discover(&self) -> Result<Value, String> {
        let body = serde_json::to_vec(&question(&self.options)).expect("it is plain JSON");
        let request = http::Request::post(&self.url)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", TARGET)
            .header("x-amz-content-sha256", reqsign_core::hash::hex_sha256(&body))
            .body(Bytes::from(body))
            .map_err(|e| e.to_string())?;
        let (mut head, body) = request.into_parts();
        self.signer.sign(&mut head, None).await.map_err(|e| format!("AWS credentials: {e}"))?;
        let reply = self.https.send(http::Request::from_parts(head, body)).await?;
        let told: Value = serde_json::from_slice(reply.body()).unwrap_or_default();
        if reply.status().is_success() {
            return Ok(told);
        }
        let kind = told["__type"].as_str().unwrap_or_default();
        let message =
            told["message"].as_str().or_else(|| told["Message"].as_str()).unwrap_or_default();
        Err(format!("DiscoverInstances: {} {kind} {message}", reply.status()).trim().to_owned())
    }
}

fn question(options: &Options) -> Value {
    let mut question = json!({
        "NamespaceName": options.namespace,
        "ServiceName": options.service_name,
    });
    if let Some(status) = options.health_status {
        question["HealthStatus"] = status.name().into();
    }
    if let Some(account) = &options.owner_account {
        question["OwnerAccount"] = account.as_str().into();
    }
    question
}

/// Only IPv4 addresses; a missing attribute is left empty, as in the collector.
fn names(instances: &[Value], port: Option<u16>) -> Vec<String> {
    let attribute = |instance: &Value, name: &str| {
        instance["Attributes"][name].as_str().unwrap_or_default().to_owned()
    };
    let name = |instance: &Value| {
        let port = port.map(|port| port.to_string());
        let port = port.unwrap_or_else(|| attribute(instance, "AWS_INSTANCE_PORT"));
        format!("{}:{port}", attribute(instance, "AWS_INSTANCE_IPV4"))
    };
    let mut names: Vec<String> = instances.iter().map(name).collect();
    names.sort();
    names
}

/// Profiles and tokens.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        std::fs::read(path).map_err(|e| reqsign_core::Error::unexpected(format!("{path}: {e}")))
    }
}

/// Metadata of containers and machines, and tokens.
#[derive(Debug)]
struct Sender(Https);

impl HttpSend for Sender {
    async fn http_send(
        &self,
        request: http::Request<Bytes>,
    ) -> reqsign_core::Result<http::Response<Bytes>> {
        self.0.send(request).await.map_err(reqsign_core::Error::unexpected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_named_by_address_and_port_of_theirs_or_ours() {
        let instance = |ip: &str, port: &str| json!({"Attributes": {"AWS_INSTANCE_IPV4": ip, "AWS_INSTANCE_PORT": port}});
        let all = [instance("10.0.0.2", "4317"), instance("10.0.0.1", "4318"), json!({})];
        assert_eq!(names(&all, None), ["10.0.0.1:4318", "10.0.0.2:4317", ":"]);
        assert_eq!(names(&all[..2], Some(55)), ["10.0.0.1:55", "10.0.0.2:55"]);
    }

    #[test]
    fn only_what_is_set_is_asked_for() {
        let mut options = Options {
            namespace: "obs".into(),
            service_name: "tail".into(),
            health_status: None,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            port: None,
            owner_account: None,
        };
        assert_eq!(question(&options), json!({"NamespaceName": "obs", "ServiceName": "tail"}));
        options.health_status = Some(HealthStatus::HealthyOrElseAll);
        options.owner_account = Some("123".into());
        let asked = question(&options);
        assert_eq!(asked["HealthStatus"], "HEALTHY_OR_ELSE_ALL");
        assert_eq!(asked["OwnerAccount"], "123");
    }
}
