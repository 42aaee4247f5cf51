//! The certificate authorities of clusters whose configuration names a file: read again when it changes.
//!
//! What is taken has been the same for two looks, so that a file that is being written is not half believed. A file
//! that went missing or bad changes nothing but the log, once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};
use witgate_core::ClusterName;
use witgate_proxy::upstream::{ServerTrust, Upstream};

use crate::config;
use crate::configured::ConfigurationFile;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The authorities of one cluster, as the last good file has them.
pub(crate) type Authorities = Arc<ArcSwap<Option<String>>>;

/// The file of one cluster's authorities, and who must hear of a change.
pub(crate) struct TrustFile {
    pub(crate) cluster: ClusterName,
    pub(crate) path: PathBuf,
    pub(crate) authorities: Authorities,
    pub(crate) upstream: Arc<Upstream>,
}

/// One file between two looks.
struct Followed {
    file: TrustFile,
    /// What the last look found, where that is not yet what is believed.
    candidate: Option<String>,
    complaint: Option<String>,
}

/// Keeps what each upstream believes in line with its file; never ends.
pub(crate) async fn follow(configuration: Arc<ConfigurationFile>) {
    let mut files = Vec::new();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        files = followed(files, configuration.good().trust_files());
        let looked = tokio::task::spawn_blocking(move || {
            files.iter_mut().for_each(Followed::look);
            files
        });
        match looked.await {
            Ok(looked) => files = looked,
            Err(_) => return, // the runtime is going away
        }
    }
}

/// What is to be followed now, with what is known of those that were followed before.
fn followed(before: Vec<Followed>, files: impl Iterator<Item = TrustFile>) -> Vec<Followed> {
    let mut before: HashMap<_, _> =
        before.into_iter().map(|known| (Arc::as_ptr(&known.file.upstream), known)).collect();
    let start = |file| Followed { file, candidate: None, complaint: None };
    files.map(|file| before.remove(&Arc::as_ptr(&file.upstream)).unwrap_or_else(|| start(file))).collect()
}

impl Followed {
    fn look(&mut self) {
        match self.take_if_changed() {
            Ok(false) => {}
            Ok(true) => info!(cluster = %self.file.cluster, "the cluster's certificate authorities were replaced"),
            Err(why) => {
                if self.complaint.as_ref() != Some(&why) {
                    let path = self.file.path.display();
                    warn!(cluster = %self.file.cluster, %path, error = why, "new certificate authorities are refused; the old ones are believed on");
                }
                self.complaint = Some(why);
                return;
            }
        }
        self.complaint = None;
    }

    /// Whether what the file says now is believed from now on.
    fn take_if_changed(&mut self) -> Result<bool, String> {
        let pem = config::certificate_authorities(&self.file.path)?;
        if self.file.authorities.load().as_ref().as_ref() == Some(&pem) {
            self.candidate = None;
            return Ok(false);
        }
        if self.candidate.as_ref() != Some(&pem) {
            self.candidate = Some(pem);
            return Ok(false);
        }
        self.candidate = None;
        let trust = ServerTrust { ca_data: Some(pem.clone()), skip_tls_verify: false };
        self.file.upstream.believe(trust).map_err(|error| error.to_string())?;
        self.file.authorities.store(Arc::new(Some(pem)));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use witgate_proxy::limits::Limits;
    use witgate_proxy::upstream::{Http2, Reach, Target};

    use super::*;

    /// Goal: only whole, settled, good files are taken. Method: what is written before each look, and what is believed
    /// after it.
    #[test]
    fn a_settled_good_file_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        let [one, two] = [authority(), authority()];
        fs::write(&path, &one).unwrap();
        let mut followed = followed(&path, &one);
        let mut check = |written: Option<&str>, expected: &str| {
            match written {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            followed.look();
            let believed = followed.file.authorities.load();
            assert_eq!(believed.as_ref().as_deref(), Some(expected));
        };
        check(Some(&one), &one);
        check(Some(&two), &one);
        check(Some(&two), &two);
        check(Some("-----BEGIN CERTIFICATE-----\n"), &two);
        check(Some("-----BEGIN CERTIFICATE-----\n"), &two);
        check(None, &two);
        check(Some(&one), &two);
        check(Some(&format!("{one}{two}")), &two);
        check(Some(&format!("{one}{two}")), &format!("{one}{two}"));
    }

    fn followed(path: &Path, pem: &str) -> Followed {
        let trust = ServerTrust { ca_data: Some(pem.to_owned()), skip_tls_verify: false };
        let target = Target::parse("https://one.example").unwrap();
        let reach = Reach { target, proxy: None, http2: Http2::Offered, trust };
        let file = TrustFile {
            cluster: ClusterName::try_from("one").unwrap(),
            path: path.to_owned(),
            authorities: Arc::new(ArcSwap::from_pointee(Some(pem.to_owned()))),
            upstream: Arc::new(Upstream::new(reach, Limits::default()).unwrap()),
        };
        Followed { file, candidate: None, complaint: None }
    }

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec!["ca.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
    }
}
