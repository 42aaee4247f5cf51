//! An artifact's manifest: which bytes are the plug-in.
//!
//! A plug-in's manifest has one layer, the component. Anything else (an index of several manifests, two layers, a container
//! image) is refused: which part would run must not be a guess.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::reference::Sha256;
use crate::plugins::folder::{COMPONENT_BYTES_MAX, SIGNATURE_BYTES_MAX};

/// What a manifest says of its plug-in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Artifact {
    /// Of the component.
    pub(super) digest: Sha256,
    /// How many bytes the component has.
    pub(super) size: u64,
    /// The component's signature in minisign's format, where the artifact brings one.
    pub(super) signature: Option<String>,
}

/// Why a manifest names no plug-in, as a predicate.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Unusable {
    /// It is none.
    #[error("is not a manifest: {0}")]
    Malformed(String),
    /// It names several manifests.
    #[error("is an index of several manifests: write the digest of one of them")]
    Index,
    /// It has not one layer.
    #[error("has {0} layers; a plug-in's manifest has one, the component")]
    Layers(usize),
    /// Its layer is something else.
    #[error(
        "has a layer of type `{0}`, which is no WebAssembly: push the component as `application/wasm` (or \
         `application/vnd.wasm.content.layer.v1+wasm`)"
    )]
    MediaType(String),
    /// Its layer has no digest that we know.
    #[error("has a layer without a `sha256:` digest")]
    Digest,
    /// Its layer is too large.
    #[error("has a layer of {size} bytes; a component has {COMPONENT_BYTES_MAX} at most")]
    TooLarge {
        /// What it says.
        size: u64,
    },
    /// Its signature is too large.
    #[error("has an annotation `{SIGNATURE_ANNOTATION}` of more than {SIGNATURE_BYTES_MAX} bytes")]
    Signature,
}

/// The annotation, of the manifest or of its layer, that holds what `NAME.wasm.minisig` would.
pub(super) const SIGNATURE_ANNOTATION: &str = "dev.witgate.minisig";

/// What registries are asked for; an index is not among it.
pub(super) const ACCEPTED: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// The largest manifest that is read, as the distribution specification bounds it.
pub(super) const MANIFEST_BYTES_MAX: u64 = 4 << 20;

const LAYER_TYPES: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    layers: Vec<Layer>,
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Artifact {
    /// Reads a manifest.
    ///
    /// # Errors
    /// When it names no plug-in.
    pub(super) fn parse(manifest: &[u8]) -> Result<Self, Unusable> {
        let manifest: Manifest =
            serde_json::from_slice(manifest).map_err(|error| Unusable::Malformed(error.to_string()))?;
        if manifest.manifests.is_some() {
            return Err(Unusable::Index);
        }
        if manifest.schema_version != 2 {
            return Err(Unusable::Malformed(format!("its `schemaVersion` is {}, not 2", manifest.schema_version)));
        }
        let [layer] = manifest.layers.as_slice() else { return Err(Unusable::Layers(manifest.layers.len())) };
        if !LAYER_TYPES.contains(&layer.media_type.as_str()) {
            let shown: String = layer.media_type.chars().take(100).flat_map(char::escape_debug).collect();
            return Err(Unusable::MediaType(shown));
        }
        let digest = Sha256::parse(&layer.digest).ok_or(Unusable::Digest)?;
        if layer.size > COMPONENT_BYTES_MAX {
            return Err(Unusable::TooLarge { size: layer.size });
        }
        let annotated = [&manifest.annotations, &layer.annotations];
        let signature = annotated.into_iter().find_map(|annotations| annotations.get(SIGNATURE_ANNOTATION)).cloned();
        if signature.as_ref().is_some_and(|signature| signature.len() as u64 > SIGNATURE_BYTES_MAX) {
            return Err(Unusable::Signature);
        }
        Ok(Self { digest, size: layer.size, signature })
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: a manifest with one layer of WebAssembly is a plug-in, and nothing else is. Method: rows.
    #[test]
    fn one_layer_of_wasm_is_a_plugin() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let layer = |media_type: &str, size: u64| json!({ "mediaType": media_type, "digest": digest, "size": size });
        let wasm = || layer("application/wasm", 8);
        let of = |layers: Vec<serde_json::Value>| json!({ "schemaVersion": 2, "layers": layers, "config": {} });
        let good = |signature: Option<&str>| {
            Ok(Artifact { digest: Sha256::parse(&digest).unwrap(), size: 8, signature: signature.map(str::to_owned) })
        };
        check(of(vec![wasm()]), good(None));
        check(of(vec![layer("application/vnd.wasm.content.layer.v1+wasm", 8)]), good(None));
        let mut signed = of(vec![wasm()]);
        signed["annotations"] = json!({ SIGNATURE_ANNOTATION: "s", "other": "x" });
        check(signed, good(Some("s")));
        let mut signed = wasm();
        signed["annotations"] = json!({ SIGNATURE_ANNOTATION: "t" });
        check(of(vec![signed]), good(Some("t")));
        check(of(vec![]), Err(Unusable::Layers(0)));
        check(of(vec![wasm(), wasm()]), Err(Unusable::Layers(2)));
        check(json!({ "schemaVersion": 2, "manifests": [] }), Err(Unusable::Index));
        check(
            json!({ "schemaVersion": 1, "layers": [wasm()] }),
            Err(Unusable::Malformed("its `schemaVersion` is 1, not 2".into())),
        );
        let image = "application/vnd.oci.image.layer.v1.tar+gzip";
        check(of(vec![layer(image, 8)]), Err(Unusable::MediaType(image.into())));
        check(of(vec![layer("application/wasm", 64 << 20)]).clone(), {
            Ok(Artifact { digest: Sha256::parse(&digest).unwrap(), size: 64 << 20, signature: None })
        });
        check(of(vec![layer("application/wasm", (64 << 20) + 1)]), Err(Unusable::TooLarge { size: (64 << 20) + 1 }));
        let mut other = wasm();
        other["digest"] = json!("sha512:00");
        check(of(vec![other]), Err(Unusable::Digest));
        let mut long = of(vec![wasm()]);
        long["annotations"] = json!({ SIGNATURE_ANNOTATION: "x".repeat(8193) });
        check(long, Err(Unusable::Signature));
        for malformed in ["", "{}", "[]", "null", "{\"schemaVersion\":2,\"layers\":[{}]}"] {
            assert!(matches!(Artifact::parse(malformed.as_bytes()), Err(Unusable::Malformed(_))), "{malformed}");
        }
    }

    #[track_caller]
    fn check(manifest: serde_json::Value, expected: Result<Artifact, Unusable>) {
        assert_eq!(Artifact::parse(manifest.to_string().as_bytes()), expected, "{manifest}");
    }
}
