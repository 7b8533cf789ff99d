//! tracemill: router and sampler of tail sampling as one binary. It does what the OpenTelemetry
//! Collector does with `load_balancing` by trace id and with `tail_sampling`, on the collector's
//! own configuration.
//!
//! ```text
//!  agents               one data core: pinned, one executor, shares nothing              backends
//! ┌──────┐  ┌─────┐  ┌─────────────┐  ┌────────────┐  ┌──────────────┐  ┌─────────────┐  ┌──────┐
//! │ OTLP │─▶│ net │─▶│ rpc         │─▶│ otlp::scan │─▶│ route::split │─▶│ upstream    │─▶│ OTLP │
//! │ gRPC │  │     │  │ grpc_server │  │ ranges of  │  │ ring, owner, │  │ lane, queue │  │ gRPC │
//! │ HTTP │◀─│     │◀─│ http_server │  │ each span  │  │ exact sizes  │  │ grpc_client │◀─│      │
//! └──────┘  └─────┘  └─────────────┘  └────────────┘  └──────────────┘  └─────────────┘  └──────┘
//!                           ▲                                                  │
//!                           └──────── upstream::replies: acknowledged ◀────────┘
//!  control thread: listen, accept, choose a core, metrics, health, signals ─ mailbox ─▶ all cores
//! ```
//!
//! Where a pipeline samples, two steps stand between `otlp::scan` and `upstream`, and the answer is
//! given after the first:
//!
//! ```text
//!  otlp::scan ─▶ Shard::check ─┬─ own spans ─────────────────▶ Shard::push ─▶ answer, when all
//!                              └─ others ─▶ runtime::mesh ─▶ another's push     shards have theirs
//!
//!  a tick a second ─▶ Shard::poll: decide, in slices ─▶ gather ─▶ router::kept ─▶ upstream
//! ```
//!
//! The rooms in the order that a span walks them. [`router`] and [`sampler`] are the walk itself;
//! read them first.
//!
//! - [`cli`], [`config`]: arguments and the collector's YAML → a plan of every room's options.
//! - [`control`]: ROLE. Sockets, cores, admin pages, signals. Touches no telemetry bytes.
//! - [`net`]: sockets: page-aligned reads, gathered writes.
//! - [`rpc`]: one unary call, over HTTP/2 or HTTP/1.1, on either side. Does not know OTLP.
//! - `http2`: the frames and streams of a connection that carries gRPC. Pure.
//! - [`otlp`]: the bytes of a request, indexed in one pass and never decoded. Pure.
//! - [`route`]: the ring, the owner of a trace, the cut of a request. Pure.
//! - [`sample`]: the tail sampler of one core: buffer, policies, decisions. Pure. Its
//!   `shard` is the way in: spans in, decisions at ticks, traces out.
//! - [`upstream`]: sending and hearing back: queue, merging, retry, link, the reply that waits.
//! - [`router`]: ROLE. One core of the router, as one function over the rooms above.
//! - [`sampler`]: ROLE. The tail sampler of a pipeline on one core, likewise.
//! - [`runtime`]: what a core is: executor, pinning, clock, mailbox, mesh, leases, timers,
//!   drain.
//! - [`telemetry`], [`time`], `memory`: leaves. Metric names, pages and log lines; time as a value;
//!   memory that will be needed.
//! - [`demo`]: ROLE. Traffic, router, two samplers and store in one process, with a proof.
//! - [`policy_test`], [`replay`]: ROLES. Policies in simulated time: on traces that a file
//!   names, and on traffic that was recorded.
//! - [`adopt`]: ROLE. Divides a configuration between tracemill and a collector beside it.
//! - [`testing`]: seeded workloads, and the naive sampler that judges the real one. The data path
//!   does not name it.
//!
//! Invariants:
//!
//! 1. **Acknowledged means owned.** OK is said when each part of a request was acknowledged by its
//!    backend, or is in that endpoint's bounded queue, or is named in `partial_success`; of a
//!    pipeline that samples, when every span is in its shard.
//! 2. **Nothing is copied before room is reserved everywhere**, so a refused request was not sent.
//! 3. **Every item is in one place**: `offered = sent + failed{reason} + in flight` per endpoint.
//! 4. **Limits hold for the process**, however many cores it has. Nothing grows without one.
//! 5. **Bad input costs only its own request.**
//! 6. **Cost per span, not per attribute**: a span is found, its id read, its bytes copied once. In
//!    the sampler it is asked on arrival what policies want to know, and decisions read no spans.
//! 7. **A trace has one home**, and each span is kept, dropped, lost or buffered, counted once.
//! 8. **Names go down only**: roles ▸ config ▸ upstream, rpc, net, runtime ▸ route, otlp ▸ leaves.

pub mod adopt;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub(crate) mod http2;
pub(crate) mod memory;
pub mod net;
pub mod otlp;
pub mod policy_test;
pub mod replay;
pub mod route;
pub mod router;
pub mod rpc;
pub mod runtime;
pub mod sample;
pub mod sampler;
pub mod telemetry;
pub mod testing;
pub mod time;
pub mod upstream;
