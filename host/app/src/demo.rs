//! `witgate demo`: the whole gate on one machine, with two sample clusters behind it and a folder to play with.
//!
//! The gate is the real one, started as `witgate serve` starts it, from a configuration file that anyone may read. Only
//! the API servers are samples; they run in this process and are reached over TLS.

mod api_server;
mod certificates;
mod discovery;
mod failure;
mod instructions;
mod objects;
mod patch;
mod playground;
mod policies;
mod protobuf;
mod random;
mod resources;
mod routes;
mod sample_objects;
mod selector;
mod table;
mod target;
mod watch;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use self::api_server::{Clock, SampleApiServer, SampleApiServerOptions};
use self::certificates::ServerCertificate;
use self::instructions::Instructions;
use self::playground::{Playground, SampleCluster};
use self::sample_objects::SampleObjects;
use crate::config::Config;
use crate::serve;

/// Try witgate here and now: a gate with two sample clusters, people, tokens and policies to play with
///
/// Everything is written to one folder, and what to type next is printed. Nothing leaves this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// The folder to play in; it is made, or must be one of an earlier demo
    #[arg(long, value_name = "FOLDER", default_value = "demo")]
    directory: PathBuf,
    /// Where the gate listens [default: 127.0.0.1:7007, or a free port]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Where the gate's admin routes listen [default: 127.0.0.1:7008, or a free port]
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// Take the sample policies from this folder instead of those in the binary
    #[arg(long, value_name = "FOLDER")]
    policies: Option<PathBuf>,
}

/// Runs the demo until it is interrupted.
///
/// # Errors
/// When the folder is somebody else's, an address is taken, or the gate does not start.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    // Before anything else, so that no signal during the start is lost.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let policies = policies::sample_policies(args.policies.as_deref())?;
    let playground = Playground::open(&args.directory)?;
    let (listen, listen_note) = address("--listen", args.listen, LISTEN_DEFAULT)?;
    let (admin, admin_note) = address("--admin", args.admin, ADMIN_DEFAULT)?;

    let mut clusters = Vec::new();
    let mut servers = Vec::new();
    for (name, objects) in [("staging", SampleObjects::Staging), ("production", SampleObjects::Production)] {
        let token = random::token(name);
        let options = SampleApiServerOptions {
            name: name.to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            token: token.clone(),
            objects,
            clock: Clock::EverySecond,
        };
        let server = SampleApiServer::start(options).await?;
        clusters.push(SampleCluster { name, url: server.url(), authority: server.authority().to_owned(), token });
        servers.push(server);
    }
    let hosts = ["localhost".to_owned(), listen.ip().to_string()];
    let certificate = ServerCertificate::generate("witgate demo gate", &hosts)?;
    let written = playground.write(listen, admin, &certificate, &clusters, &policies)?;

    let config = Config::load(&playground.config_file(), &|name| std::env::var(name).ok())?;
    let serving = serve::start(config).await.context("the demo's gate does not start")?;
    let instructions = Instructions {
        folder: playground.folder(),
        gate: serving.address,
        admin: serving.admin,
        notes: written.into_iter().chain(listen_note).chain(admin_note).collect(),
    };
    say(&instructions);

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let folder = playground.folder().display();
    say(&format_args!("\nstopping; {folder} stays as it is, and the next demo there makes new tokens"));
    serving.stop().await;
    for server in servers {
        server.stop().await;
    }
    Ok(())
}

/// Prints a text; where nobody reads it any more, the demo goes on all the same.
fn say(text: &dyn std::fmt::Display) {
    writeln!(std::io::stdout(), "{text}").ok();
}

/// The address asked for, or the usual one, or one with a free port where that is taken; and what to say of it.
fn address(option: &str, asked: Option<SocketAddr>, usual: SocketAddr) -> anyhow::Result<(SocketAddr, Option<String>)> {
    // The listener is dropped at once: the gate binds the address itself, as it does for everybody.
    let bind = |address: SocketAddr| std::net::TcpListener::bind(address).and_then(|listener| listener.local_addr());
    if let Some(asked) = asked {
        let address = bind(asked).with_context(|| {
            let free = SocketAddr::new(asked.ip(), 0);
            format!("cannot listen on {asked}: give another address with {option}, such as {free} for a free port")
        })?;
        return Ok((address, None));
    }
    match bind(usual) {
        Ok(address) => Ok((address, None)),
        Err(_) => {
            let free = bind(SocketAddr::new(usual.ip(), 0)).with_context(|| {
                format!("cannot listen on {usual}, nor on any free port: give an address with {option}")
            })?;
            Ok((free, Some(format!("{usual} is taken, so {free} is used; choose one with {option}"))))
        }
    }
}

const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7007);
const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7008);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a taken port never ends in riddles. Method: the three cases, with a port that this test holds.
    #[test]
    fn a_taken_port_is_said_or_avoided() {
        let held = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = held.local_addr().unwrap();

        let error = address("--listen", Some(taken), LISTEN_DEFAULT).unwrap_err();
        let expected = format!(
            "cannot listen on {taken}: give another address with --listen, such as 127.0.0.1:0 for a free port"
        );
        assert_eq!(error.to_string(), expected);

        let (free, note) = address("--listen", None, taken).unwrap();
        assert_ne!(free, taken);
        assert_eq!(note, Some(format!("{taken} is taken, so {free} is used; choose one with --listen")));

        drop(held);
        assert_eq!(address("--listen", Some(taken), LISTEN_DEFAULT).unwrap(), (taken, None));
    }
}
