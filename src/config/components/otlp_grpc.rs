//! `otlp_grpc` exporter, formerly `otlp` (otlp 4.4).

use super::grpc_client;
use crate::config::plan::ExporterKind;
use crate::config::read::Block;
use crate::upstream::options::MergeOptions;

/// Reads the exporter.
pub fn read(b: &mut Block<'_>, merge: &MergeOptions) -> ExporterKind {
    let (endpoint, https) = grpc_client::endpoint(b);
    let options = Box::new(grpc_client::read(b, https, merge));
    ExporterKind::OtlpGrpc { endpoint, options }
}
