//! Names of the cluster, answered in process.
//!
//! ```text
//! Services, EndpointSlices ─▶ Zone::build ─▶ Zone (a value) ──▶ Zone::resolve(name, type) ─▶ Verdict
//!                                              ▲ swapped by the proxy                        │
//! UDP, TCP ─▶ server ─ decode ─────────────────┘                    Answered ◀──────────────┤
//!                                                              Forward ─▶ forward ─▶ upstreams of resolv.conf
//! ```
//!
//! The schema of names is that of the "Kubernetes DNS-Based Service Discovery" specification 1.1.0.

mod forward;
mod server;
mod zone;

pub use server::{Server, ServerOptions};
pub use zone::{Answer, Verdict, Zone};
