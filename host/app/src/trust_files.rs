//! Files of certificate authorities, of clusters and of plug-ins' servers: read again when they change.
//!
//! What is taken has been the same for two looks, so that a file that is being written is not half believed. A file
//! that went missing or bad changes nothing but the log, once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};
use witgate_core::{ClusterName, PluginName};
use witgate_plugin::Authorities;
use witgate_proxy::upstream::{ServerTrust, Upstream};

use crate::config;
use crate::configured::ConfigurationFile;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The authorities of one cluster, as the last good file has them.
pub(crate) type ClusterAuthorities = Arc<ArcSwap<Option<String>>>;

/// A file of authorities, and who must hear of a change.
pub(crate) struct TrustFile {
    pub(crate) path: PathBuf,
    pub(crate) believer: Believer,
}

/// Who believes a file.
pub(crate) enum Believer {
    /// The connections to a cluster.
    Cluster { name: ClusterName, authorities: ClusterAuthorities, upstream: Arc<Upstream> },
    /// A plug-in's exchanges with one of its servers, for as long as somebody may call it.
    Plugin { name: PluginName, authorities: Weak<Authorities> },
}

/// The files that sidecars name in `outboundHosts`, for as long as somebody may call their plug-ins.
#[derive(Default)]
pub(crate) struct PluginTrust(Mutex<Vec<PluginFile>>);

struct PluginFile {
    plugin: PluginName,
    path: PathBuf,
    authorities: Weak<Authorities>,
}

/// One file between two looks.
struct Followed {
    file: TrustFile,
    /// What the last look found, where that is not yet what is believed.
    candidate: Option<String>,
    complaint: Option<String>,
}

impl PluginTrust {
    /// Follows `path` from now on.
    pub(crate) fn follow(&self, plugin: PluginName, path: PathBuf, authorities: &Arc<Authorities>) {
        let file = PluginFile { plugin, path, authorities: Arc::downgrade(authorities) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    }

    fn files(&self) -> Vec<TrustFile> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|file| file.authorities.strong_count() > 0);
        let file = |PluginFile { plugin, path, authorities }: &PluginFile| TrustFile {
            path: path.clone(),
            believer: Believer::Plugin { name: plugin.clone(), authorities: Weak::clone(authorities) },
        };
        files.iter().map(file).collect()
    }
}

/// Keeps what is believed in line with the files; never ends.
pub(crate) async fn follow(configuration: Arc<ConfigurationFile>, plugins: Arc<PluginTrust>) {
    let mut files = Vec::new();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        files = followed(files, configuration.good().trust_files().chain(plugins.files()));
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
    let mut before: HashMap<_, _> = before.into_iter().map(|known| (known.file.believer.identity(), known)).collect();
    let start = |file| Followed { file, candidate: None, complaint: None };
    files.map(|file| before.remove(&file.believer.identity()).unwrap_or_else(|| start(file))).collect()
}

impl Believer {
    /// Equal for the very same one.
    fn identity(&self) -> *const () {
        match self {
            Self::Cluster { upstream, .. } => Arc::as_ptr(upstream).cast(),
            Self::Plugin { authorities, .. } => authorities.as_ptr().cast(),
        }
    }

    fn believes(&self, pem: &str) -> bool {
        match self {
            Self::Cluster { authorities, .. } => authorities.load().as_ref().as_deref() == Some(pem),
            Self::Plugin { authorities, .. } => authorities.upgrade().is_none_or(|authorities| authorities.are(pem)),
        }
    }

    fn believe(&self, pem: String) -> Result<(), String> {
        match self {
            Self::Cluster { authorities, upstream, .. } => {
                let trust = ServerTrust { ca_data: Some(pem.clone()), skip_tls_verify: false };
                upstream.believe(trust).map_err(|error| error.to_string())?;
                authorities.store(Arc::new(Some(pem)));
                Ok(())
            }
            Self::Plugin { authorities, .. } => {
                let replaced = authorities.upgrade().map_or(Ok(()), |authorities| authorities.replace(&pem));
                replaced.map_err(|error| error.to_string())
            }
        }
    }

    /// In the log.
    fn kind_and_name(&self) -> (&'static str, &str) {
        match self {
            Self::Cluster { name, .. } => ("cluster", name.as_str()),
            Self::Plugin { name, .. } => ("plug-in", name.as_str()),
        }
    }
}

impl Followed {
    fn look(&mut self) {
        let taken = self.take_if_changed();
        let (kind, name) = self.file.believer.kind_and_name();
        let path = self.file.path.display();
        match taken {
            Ok(false) => {}
            Ok(true) => info!(kind, name, %path, "certificate authorities were replaced"),
            Err(why) => {
                if self.complaint.as_ref() != Some(&why) {
                    warn!(kind, name, %path, error = why, "new certificate authorities are refused; the old ones are believed on");
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
        if self.file.believer.believes(&pem) {
            self.candidate = None;
            return Ok(false);
        }
        if self.candidate.as_ref() != Some(&pem) {
            self.candidate = Some(pem);
            return Ok(false);
        }
        self.candidate = None;
        self.file.believer.believe(pem)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use witgate_proxy::limits::Limits;
    use witgate_proxy::upstream::{Http2, Reach, Target};

    use super::*;

    /// Goal: only whole, settled, good files are taken, whoever believes them. Method: what is written before each look, and
    /// what is believed after it.
    #[test]
    fn a_settled_good_file_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        let [one, two] = [authority(), authority()];
        let both = format!("{one}{two}");
        let broken = "-----BEGIN CERTIFICATE-----\n";
        let authorities = Arc::new(Authorities::of(&one).unwrap());
        let name = PluginName::try_from("oidc").unwrap();
        let plugin = Believer::Plugin { name, authorities: Arc::downgrade(&authorities) };
        for believer in [cluster(&one), plugin] {
            let mut followed =
                Followed { file: TrustFile { path: path.clone(), believer }, candidate: None, complaint: None };
            for (written, believed) in [
                (Some(one.as_str()), &one),
                (Some(&two), &one),
                (Some(&two), &two),
                (Some(broken), &two),
                (Some(broken), &two),
                (None, &two),
                (Some(&one), &two),
                (Some(&both), &two),
                (Some(&both), &both),
            ] {
                match written {
                    Some(text) => fs::write(&path, text).unwrap(),
                    None => fs::remove_file(&path).unwrap(),
                }
                followed.look();
                assert!(followed.file.believer.believes(believed), "{written:?}");
            }
        }
    }

    /// Goal: the files of plug-ins that nobody can call any more are let go.
    #[test]
    fn a_plugin_that_is_gone_is_not_followed() {
        let trust = PluginTrust::default();
        let authorities = Arc::new(Authorities::of(&authority()).unwrap());
        trust.follow(PluginName::try_from("oidc").unwrap(), "ca.crt".into(), &authorities);
        let followed = followed(Vec::new(), trust.files().into_iter());
        assert_eq!(followed.len(), 1);
        drop(authorities);
        assert_eq!(trust.files().len(), 0);
    }

    fn cluster(pem: &str) -> Believer {
        let trust = ServerTrust { ca_data: Some(pem.to_owned()), skip_tls_verify: false };
        let target = Target::parse("https://one.example").unwrap();
        let reach = Reach { target, proxy: None, http2: Http2::Offered, trust };
        Believer::Cluster {
            name: ClusterName::try_from("one").unwrap(),
            authorities: Arc::new(ArcSwap::from_pointee(Some(pem.to_owned()))),
            upstream: Arc::new(Upstream::new(reach, Limits::default()).unwrap()),
        }
    }

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec!["ca.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
    }
}
