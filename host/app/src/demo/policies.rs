//! The sample policies: built with the binary, or taken from a folder.

use std::borrow::Cow;
use std::path::Path;

use anyhow::Context as _;

include!(concat!(env!("OUT_DIR"), "/sample_policies.rs"));

/// One compiled sample policy.
#[derive(Clone, Debug)]
pub(crate) struct SamplePolicy {
    /// Its file's name without `.wasm`.
    pub(crate) name: &'static str,
    /// The component.
    pub(crate) component: Cow<'static, [u8]>,
}

/// The sample policies, from `folder` where one is given.
pub(crate) fn sample_policies(folder: Option<&Path>) -> anyhow::Result<Vec<SamplePolicy>> {
    let policies = SAMPLE_POLICIES.iter().map(|(name, component)| {
        let component = match folder {
            None => Cow::Borrowed(*component),
            Some(folder) => {
                let file = folder.join(format!("{name}.wasm"));
                Cow::Owned(std::fs::read(&file).with_context(|| format!("--policies: {}", file.display()))?)
            }
        };
        Ok(SamplePolicy { name, component })
    });
    policies.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_brings_the_policies_that_the_demo_tells_of() {
        let names: Vec<&str> = sample_policies(None).unwrap().iter().map(|policy| policy.name).collect();
        assert_eq!(names, ["allow-all", "deny-proxy", "namespace-tenancy", "read-only"]);
    }

    #[test]
    fn a_folder_without_the_policies_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = sample_policies(Some(folder.path())).unwrap_err();
        assert_eq!(error.to_string(), format!("--policies: {}", folder.path().join("allow-all.wasm").display()));
    }
}
