//! Which endpoint owns a trace. Pure.
#![forbid(unsafe_code)]

/// Generation of the consistent-hash ring (collector releases differ; all routers of a tier
/// must agree). Source: loadbalancing 2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// Collector before about v0.131.
    V1,
    /// Collector v0.131 to v0.156.
    V2,
    /// Collector v0.157 and later.
    #[default]
    V3,
}
