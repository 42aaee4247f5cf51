//! witgate from the user's side: the real binary between real sockets.
//!
//! One module a feature. A test that begins with a letter and a number carries out the case of that number in the
//! table of cases that Backstage's own proxy was measured with; where the table says that Backstage's result is a
//! defect, the test wants ours.

#![expect(clippy::indexing_slicing, reason = "JSON is read by key: what is not there fails the test")]

mod admin;
mod author_bench;
mod author_inspect;
mod author_project;
mod author_replay;
mod author_run;
mod author_test;
mod aws;
mod azure;
mod callers;
mod cluster_selection;
mod clusters_route;
mod configuration_reload;
mod console;
mod contract_versions;
mod cookbook;
mod credential_cache;
mod credentials;
mod decision_cache;
mod decision_log;
mod decisions;
mod demo;
mod deployment;
mod drain;
mod first_policy;
mod first_strategy;
mod forwarding;
mod framing;
mod google;
mod header_hygiene;
mod hostile_http2;
mod hostile_input;
mod impersonation;
mod kube_apiserver;
mod kube_drain;
mod kube_exec;
mod kube_identities;
mod kube_rbac;
mod kube_streams;
mod kubernetes_route;
mod languages;
mod limits_downstream;
mod listener;
mod metrics;
mod no_credential;
mod oci;
mod outbound;
mod pinniped;
mod plugin_start;
mod policies;
mod probe;
mod quarantine;
mod ready_policies;
mod reload;
mod reload_folder;
mod reload_under_load;
mod rollback;
mod shadow;
mod startup;
mod strategies;
mod streams;
mod telemetry;
mod top;
mod trusted_keys;
mod try_route;
mod upgrade_answers;
mod upgrade_http2;
mod upgrade_limits;
mod upgrades;

mod upstream_breaker;
mod upstream_failures;
mod upstream_http2;
mod upstream_limits;
mod upstream_rotation;
mod upstream_ways;
mod zoo;
mod zoo_leaks;
mod zoo_neighbours;

/// What an API server has heard when nothing was forwarded.
const NOTHING: [&str; 0] = [];
