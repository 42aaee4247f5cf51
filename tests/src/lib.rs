//! The harness of witgate's integration tests: everything that stands around the real binary.
//!
//! ```text
//! Client, RawClient, Kubectl ─► Gate (the real binary) ─► ApiServer, BrokenUpstream, KubeRig
//! ```
//! It knows the gate only from outside: its files, its sockets, its output. It links none of the host crates, so a test
//! cannot pass by asking the code what it meant to do.
//!
//! Every secret that a test uses is made or registered in [`secrets`]; each [`Gate`](gate::Gate), when it
//! ends, has all of its output and of what its admin listener tells searched for all of them.

pub mod api_server;
pub mod artifacts;
pub mod author_desk;
pub mod authority;
pub mod black_hole;
pub mod body;
pub mod botocore;
pub mod broken_upstream;
pub mod browser;
pub mod client;
pub mod cluster;
pub mod concierge;
pub mod connect_proxy;
pub mod contract_page;
pub mod fake_entra;
pub mod fake_sts;
pub mod gate;
pub mod google_tokens;
pub mod http2_peer;
pub mod http2_server;
pub mod kube_rig;
pub mod kubectl;
pub mod metrics;
pub mod minisign;
pub mod oci_registry;
pub mod otlp_collector;
pub mod output;
pub mod plugin_folder;
pub mod process;
pub mod raw_client;
pub mod reload_storm;
pub mod secrets;
pub mod sigv4;
pub mod text_guest;
pub mod token_issuer;
pub mod typed_page;
pub mod upgrade_peer;
pub mod waiting;
pub mod websocket;
