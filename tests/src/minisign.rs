//! Signs files as minisign does: Ed25519 over the BLAKE2b hash of the file, then over signature and trusted comment.
//!
//! Of a make of its own, so that the gate's verifier is not tested with its own ideas; held against minisign's own output below.

#![expect(clippy::indexing_slicing, reason = "the indexes are those of the tables below, or bounded by a block")]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A key that signs plug-ins.
pub struct Signer {
    key: Ed25519KeyPair,
    key_id: [u8; 8],
}

impl Signer {
    /// A signer with a key made of `seed`.
    pub fn of_seed(seed: u8) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("any 32 bytes are a seed");
        Self { key, key_id: [seed; 8] }
    }

    /// The public key, as the second line of `minisign.pub`.
    pub fn public_key(&self) -> String {
        STANDARD.encode([b"Ed", &self.key_id[..], self.key.public_key().as_ref()].concat())
    }

    /// The text of `FILE_NAME.minisig` for a file that holds `bytes`.
    pub fn sign(&self, file_name: &str, bytes: &[u8]) -> String {
        let signature = self.key.sign(&blake2b_512(bytes));
        let comment = format!("timestamp:1767225600\tfile:{file_name}\thashed");
        let of_all = self.key.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let signature = STANDARD.encode([b"ED", &self.key_id[..], signature.as_ref()].concat());
        let of_all = STANDARD.encode(of_all.as_ref());
        format!("untrusted comment: a test's\n{signature}\ntrusted comment: {comment}\n{of_all}\n")
    }
}

/// BLAKE2b with 64 bytes of output and no key (RFC 7693).
fn blake2b_512(bytes: &[u8]) -> [u8; 64] {
    let mut state = IV;
    state[0] ^= 0x0101_0000 ^ 64;
    let blocks = bytes.len().div_ceil(BLOCK_BYTES).max(1);
    for index in 0..blocks {
        let begin = index * BLOCK_BYTES;
        let end = bytes.len().min(begin + BLOCK_BYTES);
        let mut block = [0; BLOCK_BYTES];
        block[..end - begin].copy_from_slice(&bytes[begin..end]);
        compress(&mut state, &block, end as u128, index + 1 == blocks);
    }
    let mut hash = [0; 64];
    for (out, word) in hash.chunks_exact_mut(8).zip(state) {
        out.copy_from_slice(&word.to_le_bytes());
    }
    hash
}

fn compress(state: &mut [u64; 8], block: &[u8; BLOCK_BYTES], count: u128, last: bool) {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    }
    let mut v = [0; 16];
    v[..8].copy_from_slice(&state[..]);
    v[8..].copy_from_slice(&IV);
    v[12] ^= count as u64;
    v[13] ^= (count >> 64) as u64;
    if last {
        v[14] = !v[14];
    }
    for round in 0..12 {
        let order = &SIGMA[round % 10];
        for (index, [a, b, c, d]) in MIXED.into_iter().enumerate() {
            let (x, y) = (words[order[2 * index]], words[order[2 * index + 1]]);
            v[a] = v[a].wrapping_add(v[b]).wrapping_add(x);
            v[d] = (v[d] ^ v[a]).rotate_right(32);
            v[c] = v[c].wrapping_add(v[d]);
            v[b] = (v[b] ^ v[c]).rotate_right(24);
            v[a] = v[a].wrapping_add(v[b]).wrapping_add(y);
            v[d] = (v[d] ^ v[a]).rotate_right(16);
            v[c] = v[c].wrapping_add(v[d]);
            v[b] = (v[b] ^ v[c]).rotate_right(63);
        }
    }
    for (index, word) in state.iter_mut().enumerate() {
        *word ^= v[index] ^ v[index + 8];
    }
}

const BLOCK_BYTES: usize = 128;
const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];
const MIXED: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];
const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// Goal: the hash is minisign's. Method: a signature that minisign 0.11 made of the text `component`, and its key.
    #[test]
    fn the_hash_is_that_of_minisign() {
        let key = STANDARD.decode("RWQLOn2vvDIwN+R9daUyE/lfs6XNORK8MT8pDQbAMU92xGxwmw/ARRoQ").unwrap();
        let signature =
            "RUQLOn2vvDIwNwQe8gxXvoG9q0cABEM0BUSKsiy/GNKFMYUgg1eOtxxjGHo1+G5EGcHNsPxoUgOiycigKVPwN3WjuVkj72ZA3Qc=";
        let signature = STANDARD.decode(signature).unwrap();
        let key = UnparsedPublicKey::new(&ED25519, &key[10..]);
        key.verify(&blake2b_512(b"component"), &signature[10..]).unwrap();
        key.verify(&blake2b_512(b"another"), &signature[10..]).unwrap_err();
    }

    /// Goal: long inputs are hashed too. Method: the vector of RFC 7693 and the ends of a block, against each other.
    #[test]
    fn the_hash_takes_any_length() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(
            hex(&blake2b_512(b"abc")).starts_with("ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1")
        );
        let hashes: std::collections::BTreeSet<_> =
            [0, 1, 127, 128, 129, 256, 257].map(|length| blake2b_512(&vec![0; length])).into();
        assert_eq!(hashes.len(), 7);
    }
}
