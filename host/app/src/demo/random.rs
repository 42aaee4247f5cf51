//! Randomness for the demo: its tokens are as good as real ones, because its gate is a real one.

use rustls::crypto::SecureRandom;
use witgate_core::Redacted;

/// A bearer token of 256 bits that begins with `prefix`, so that people can tell tokens apart.
pub(crate) fn token(prefix: &str) -> Redacted<String> {
    Redacted::new(format!("{prefix}-{}", hex(&bytes::<32>())))
}

/// A UUID of version 4.
pub(crate) fn uuid() -> String {
    let value = u128::from_be_bytes(bytes::<16>());
    let value = (value & !(0xf << 76)) | (4 << 76);
    let value = (value & !(0x3 << 62)) | (0x2 << 62);
    let digits = format!("{value:032x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

fn bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let random: &dyn SecureRandom = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_never_the_same() {
        let (one, two) = (token("jane"), token("jane"));
        assert_eq!(one.expose().len(), "jane-".len() + 64);
        assert_ne!(one.expose(), two.expose());
    }

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        let uuid = uuid();
        assert_eq!(uuid.len(), 36, "{uuid}");
        assert_eq!(uuid.get(14..15), Some("4"), "{uuid}");
        assert!(matches!(uuid.get(19..20), Some("8" | "9" | "a" | "b")), "{uuid}");
    }
}
