//! A token as it is kept and looked up: its SHA-256, never its text.

use std::hash::{Hash, Hasher};

use sha2::Digest as _;
use subtle::ConstantTimeEq as _;

/// The SHA-256 of a token.
///
/// Two are compared in constant time. What a hash map's probing still tells is
/// about the digest, from which nobody finds a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Hashes a token.
    pub(super) fn of(token: &str) -> Self {
        Self(sha2::Sha256::digest(token.as_bytes()).into())
    }

    /// Reads 64 hexadecimal digits.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().try_fold(0, |value: u8, digit| {
                let digit = (*digit as char).to_digit(16)?;
                Some(value << 4 | u8::try_from(digit).ok()?)
            })?;
        }
        Some(Self(bytes))
    }

    /// A number below `count`, evenly spread over all digests.
    pub(super) fn slot(&self, count: usize) -> usize {
        let [first, second, ..] = self.0;
        usize::from(u16::from_be_bytes([first, second])) % count
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

impl Hash for TokenDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: hexadecimal digits in either case are the digest that hashing gives. Method: FIPS 180-2's `abc`, and rows that are none.
    #[test]
    fn a_digest_reads_from_hexadecimal_digits() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenDigest::from_hex(abc), Some(TokenDigest::of("abc")));
        assert_eq!(TokenDigest::from_hex(&abc.to_uppercase()), Some(TokenDigest::of("abc")));
        assert_ne!(TokenDigest::from_hex(abc), Some(TokenDigest::of("abd")));
        for bad in ["", "ba78", &abc.replace('b', "g"), &format!("{abc}0"), &"é".repeat(32)] {
            assert_eq!(TokenDigest::from_hex(bad), None, "{bad}");
        }
    }
}
