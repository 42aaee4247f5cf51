//! The data plane's certificate: read at the start, and again when its files change.
//!
//! A pair that is half written does not parse or does not match; it changes nothing,
//! is said once, and is tried again at the next look.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tracing::{info, warn};
use witgate_proxy::listener::CurrentTls;
use witgate_proxy::tls::ServerTls;

use crate::config::TlsFiles;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The files as they were: what changes when one of them does.
type Signature = Vec<Option<(SystemTime, u64)>>;

/// Reads the files. Blocks.
///
/// # Errors
/// When one cannot be read or used, naming it.
pub(crate) fn load(files: &TlsFiles) -> anyhow::Result<CurrentTls> {
    Ok(Arc::new(ArcSwap::from_pointee(read(files)?)))
}

/// Keeps `current` in line with the files; never ends.
pub(crate) async fn follow(files: TlsFiles, current: CurrentTls) {
    let mut seen = signature(&files);
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    loop {
        look.tick().await;
        let files = files.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let now = signature(&files);
            let read = (now != seen).then(|| read(&files));
            (now, read)
        });
        let Ok((now, read)) = looked.await else { return };
        seen = now;
        match read {
            None => {}
            Some(Ok(config)) => {
                current.store(Arc::new(config));
                info!("the listener's certificate was replaced");
            }
            Some(Err(error)) => {
                warn!(error = format!("{error:#}"), "the listener's new certificate is refused; the old one serves on");
            }
        }
    }
}

fn read(files: &TlsFiles) -> anyhow::Result<ServerConfig> {
    let text = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let certificate = text(&files.cert_file)?;
    let key = text(&files.key_file)?;
    let client_ca = files.client_ca_file.as_deref().map(text).transpose()?;
    let tls = ServerTls { certificate: &certificate, key: &key, client_ca: client_ca.as_deref() };
    tls.server_config()
        .map_err(anyhow::Error::from_boxed)
        .with_context(|| format!("cannot use {} with {}", files.cert_file.display(), files.key_file.display()))
}

fn signature(files: &TlsFiles) -> Signature {
    [Some(&files.cert_file), Some(&files.key_file), files.client_ca_file.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
        .collect()
}
