//! Who may put plug-ins into the folder: detached signatures in minisign's format, `NAME.wasm.minisig` beside `NAME.wasm`.
//!
//! Where keys are given, every file that takes effect must be signed: components, and sidecars too, since a sidecar grants
//! servers and secrets, and can switch a policy to shadow mode. A signature holds for one file name, by its trusted
//! comment, which minisign writes: otherwise whoever can write to the folder could put one signed policy in another's place.
//!
//! What signatures do not say: that a file is the newest one that was signed, or that no file was taken away.

use std::sync::Arc;

use minisign_verify::{Error, PublicKey, Signature};

/// The public keys of those who may sign plug-ins. None given: nothing need be signed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct TrustedKeys(Arc<[PublicKey]>);

/// Why a file is not trusted, as a predicate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Untrusted {
    /// There is no signature.
    #[error("is not signed: `plugins.trustedKeys` is given, and there is no `{signature_file}` beside it")]
    Unsigned {
        /// The name of the file that is missing.
        signature_file: String,
    },
    /// There is a signature file that is none.
    #[error("has a `{SUFFIX}` file that is not a signature of minisign's")]
    Malformed,
    /// It is of minisign's old form.
    #[error("has a signature of minisign's legacy form: sign it without `-l`, or with minisign 0.10 or later")]
    Legacy,
    /// Somebody signed it whom nobody trusts.
    #[error("is signed with a key that is not in `plugins.trustedKeys`")]
    UnknownKey,
    /// The signature is another file's, or the file was changed.
    #[error("does not match its signature: one of the two was changed")]
    Forged,
    /// The signature is for another name.
    #[error(
        "has a signature that is not for this name: its trusted comment must hold `file:{file_name}`, as minisign writes it"
    )]
    OtherName {
        /// The name of the file.
        file_name: String,
    },
}

/// What a file's signature is called, after the file's own name.
pub(crate) const SUFFIX: &str = ".minisig";

impl TrustedKeys {
    /// Trusts these keys.
    pub(crate) fn new(keys: Vec<PublicKey>) -> Self {
        Self(keys.into())
    }

    /// Whether nothing need be signed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that one of the keys signed `bytes` as `file_name`.
    ///
    /// # Errors
    /// Where none did, or where there is no signature.
    pub(crate) fn verify(&self, file_name: &str, bytes: &[u8], signature: Option<&str>) -> Result<(), Untrusted> {
        if self.is_empty() {
            return Ok(());
        }
        let signature =
            signature.ok_or_else(|| Untrusted::Unsigned { signature_file: format!("{file_name}{SUFFIX}") })?;
        let signature = Signature::decode(signature).map_err(|_| Untrusted::Malformed)?;
        let mut refused = Untrusted::UnknownKey;
        for key in self.0.iter() {
            match key.verify(bytes, &signature, false) {
                Ok(()) => {
                    let named = signature
                        .trusted_comment()
                        .split('\t')
                        .any(|word| word.strip_prefix("file:") == Some(file_name));
                    return if named { Ok(()) } else { Err(Untrusted::OtherName { file_name: file_name.to_owned() }) };
                }
                Err(Error::UnexpectedKeyId) => {}
                Err(Error::UnexpectedAlgorithm | Error::UnsupportedLegacyMode) => refused = Untrusted::Legacy,
                Err(_) => refused = Untrusted::Forged,
            }
        }
        Err(refused)
    }
}

/// A public key as it stands in `minisign.pub`: its base64 alone, or with the comment before it.
pub(crate) fn public_key(text: &str) -> Option<PublicKey> {
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    PublicKey::from_base64(last).ok()
}

/// Keys and signatures that minisign 0.11 of Debian made, for a file `x.wasm` that holds `component`.
#[cfg(test)]
pub(crate) mod samples {
    pub(crate) const KEY: &str = "untrusted comment: minisign public key 373032BCAF7D3A0B\n\
        RWQLOn2vvDIwN+R9daUyE/lfs6XNORK8MT8pDQbAMU92xGxwmw/ARRoQ\n";
    pub(crate) const OTHER_KEY: &str = "RWQNHRgxvMlihgkhQQulOVd8zJUjFNgdNU4rdKJOJu5iBM+qgtuL75M3";
    pub(crate) const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
        RUQLOn2vvDIwNwQe8gxXvoG9q0cABEM0BUSKsiy/GNKFMYUgg1eOtxxjGHo1+G5EGcHNsPxoUgOiycigKVPwN3WjuVkj72ZA3Qc=\n\
        trusted comment: timestamp:1795334278\tfile:x.wasm\thashed\n\
        Szs5ovzqx4E+Mp9pwp05sAddteUVIugdK+O9FFeEwiJDk/I6AUI29q7r21G1VloCfjlFmrAZve/rfcoHxImtBQ==\n";
    pub(crate) const OF_OTHER_KEY: &str = "untrusted comment: signature from minisign secret key\n\
        RUQNHRgxvMlihrpDnx7uGck6PK9VG2SQhFWNqhqO685BQMQmkr/dRIt0xn2ejOpo1qxMz/tXdjbyIEsZTjKTFCwcgdZ4Dl1bZAQ=\n\
        trusted comment: timestamp:1795334278\tfile:x.wasm\thashed\n\
        h6WHCBhFpVFDmtbTGGfJgIjdD9MdtwEU2yqFSiJMBHXxr15/3LpMrq6bncmNzQBE/OzXBJgagfjfHV2TzV2TAg==\n";
    /// With `-l`, and signed as `y.wasm`.
    pub(crate) const LEGACY: &str = "untrusted comment: signature from minisign secret key\n\
        RWQLOn2vvDIwN/cU2J/oKtIMrIDt9NUbOlVGsE1bCL5614NzgdEdElEiqQTMn8aH0jzqJiZcfw8V3V5XL+0bZOIigdsRcHL4ow0=\n\
        trusted comment: timestamp:1795334278\tfile:y.wasm\n\
        Bxn1lkKmrOfnONN70VDyO7HNO6bLT8AxenROuK6x2w3bi6oSODWOcKcF2w27zQ8k8zTjEPpVMtGM38ez9DeOBQ==\n";
    /// With `-t 'release 1'`.
    pub(crate) const NAMELESS: &str = "untrusted comment: signature from minisign secret key\n\
        RUQLOn2vvDIwNwQe8gxXvoG9q0cABEM0BUSKsiy/GNKFMYUgg1eOtxxjGHo1+G5EGcHNsPxoUgOiycigKVPwN3WjuVkj72ZA3Qc=\n\
        trusted comment: release 1\n\
        yDJ/0xvlaynof0NBZAU0g8Rh2hce5AP7jM4LMcKHSW2pHUy1pqmpy4B7qaVHzl70prYhars1Edh2vloTSZHvBg==\n";
    /// For a file `x.yaml` that holds `mode: shadow`.
    pub(crate) const OF_SIDECAR: &str = "untrusted comment: signature from minisign secret key\n\
        RUQLOn2vvDIwN502dbdj8WAG1wX4pcVvi3m3e1VQ+IwvZKn6l4dDR4sH7mh8qcXokKy1qEBquqQZyofWk6C8C5HwgO3q77vTzAA=\n\
        trusted comment: timestamp:1795334976\tfile:x.yaml\thashed\n\
        SFQCj2rwubDudCKE5FjRbfOlu7vekjN2WosV8p3Cafyjczu5CXsGASTtzLOL4Z0T9xys99jSFIcUi0+Ib7DVDg==\n";
}

#[cfg(test)]
mod tests {
    use super::samples::*;
    use super::*;

    /// Goal: only what a trusted key signed, as this very file, is trusted. Method: rows of keys, name, bytes and signature.
    #[test]
    fn only_what_was_signed_is_trusted() {
        let unsigned = Untrusted::Unsigned { signature_file: "x.wasm.minisig".to_owned() };
        let other_name = |name: &str| Untrusted::OtherName { file_name: name.to_owned() };
        let (x, good) = ("x.wasm", &b"component"[..]);
        check(&[], x, good, None, None);
        check(&[], x, good, Some("nonsense"), None);
        check(&[KEY], x, good, Some(SIGNATURE), None);
        check(&[OTHER_KEY, KEY], x, good, Some(SIGNATURE), None);
        check(&[OTHER_KEY, KEY], x, good, Some(OF_OTHER_KEY), None);
        check(&[KEY], x, good, None, Some(unsigned));
        check(&[KEY], x, good, Some("nonsense"), Some(Untrusted::Malformed));
        check(&[KEY], x, good, Some(""), Some(Untrusted::Malformed));
        check(&[KEY], x, good, Some(OF_OTHER_KEY), Some(Untrusted::UnknownKey));
        check(&[KEY], x, b"Component", Some(SIGNATURE), Some(Untrusted::Forged));
        check(&[KEY], x, b"", Some(SIGNATURE), Some(Untrusted::Forged));
        check(&[KEY], "y.wasm", good, Some(SIGNATURE), Some(other_name("y.wasm")));
        check(&[KEY], "x.wasm.yaml", good, Some(SIGNATURE), Some(other_name("x.wasm.yaml")));
        check(&[KEY], x, good, Some(NAMELESS), Some(other_name(x)));
        check(&[KEY], "y.wasm", good, Some(LEGACY), Some(Untrusted::Legacy));
        let renamed = SIGNATURE.replace("file:x.wasm", "file:y.wasm");
        check(&[KEY], "y.wasm", good, Some(&renamed), Some(Untrusted::Forged));
    }

    #[track_caller]
    fn check(keys: &[&str], file_name: &str, bytes: &[u8], signature: Option<&str>, expected: Option<Untrusted>) {
        let keys = TrustedKeys::new(keys.iter().map(|key| public_key(key).unwrap()).collect());
        assert_eq!(keys.verify(file_name, bytes, signature).err(), expected);
    }

    #[test]
    fn a_public_key_is_what_minisign_writes() {
        assert!(public_key(KEY).is_some());
        assert!(public_key(OTHER_KEY).is_some());
        for bad in ["", "\n", "untrusted comment: x", "RWQ", &OTHER_KEY[1..], &format!("{OTHER_KEY}AAAA")] {
            assert_eq!(public_key(bad), None, "{bad}");
        }
    }
}
