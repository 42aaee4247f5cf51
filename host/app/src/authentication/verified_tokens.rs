//! Tokens that were verified not long ago, so that a client's next request costs a look-up and no signature.
//!
//! One set of keys owns one of these: keys that change take it with them. It
//! holds digests, never tokens. Only tokens that verified get in, so a stranger
//! cannot push others out.
//!
//! Promise: nothing is given back at or after its `exp`, and there are never more
//! than the maximum.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use witgate_core::UserInfo;

use super::token_digest::TokenDigest;

/// The tokens that one set of keys has verified.
#[derive(Debug)]
pub(super) struct VerifiedTokens {
    slots: Box<[Mutex<HashMap<TokenDigest, Verified>>]>,
    slot_tokens_max: usize,
}

#[derive(Clone, Debug)]
struct Verified {
    user: Arc<UserInfo>,
    expires_at: u64,
}

impl VerifiedTokens {
    /// Room for about `tokens_max`; never more.
    pub(super) fn with_room_for(tokens_max: usize) -> Self {
        let slots = (0..SLOTS).map(|_| Mutex::default()).collect();
        Self { slots, slot_tokens_max: tokens_max / SLOTS }
    }

    /// Who brought this token, if it was verified and has not expired.
    pub(super) fn find(&self, digest: &TokenDigest, unix_seconds: u64) -> Option<Arc<UserInfo>> {
        let mut slot = self.slot(digest)?;
        let verified = slot.get(digest)?;
        if unix_seconds < verified.expires_at {
            return Some(Arc::clone(&verified.user));
        }
        slot.remove(digest);
        None
    }

    /// Keeps a token that was just verified. Where there is no room, expired ones go first, then any.
    pub(super) fn keep(&self, digest: TokenDigest, user: Arc<UserInfo>, expires_at: u64, unix_seconds: u64) {
        let Some(mut slot) = self.slot(&digest) else { return };
        if slot.len() >= self.slot_tokens_max && !slot.contains_key(&digest) {
            slot.retain(|_, verified| unix_seconds < verified.expires_at);
            while slot.len() >= self.slot_tokens_max {
                // The map's order is random, and so is the choice.
                let Some(any) = slot.keys().next().copied() else { return };
                slot.remove(&any);
            }
        }
        slot.insert(digest, Verified { user, expires_at });
    }

    fn slot(&self, digest: &TokenDigest) -> Option<MutexGuard<'_, HashMap<TokenDigest, Verified>>> {
        let slot = self.slots.get(digest.slot(self.slots.len()))?;
        Some(slot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.slots.iter().map(|slot| slot.lock().unwrap().len()).sum()
    }
}

/// So many locks that requests seldom meet at one.
const SLOTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn jane() -> Arc<UserInfo> {
        Arc::new(UserInfo::named("user:default/jane"))
    }

    /// Goal: a token is found until the second of its `exp`, not in it. Method: one token, three moments.
    #[test]
    fn a_token_is_found_until_it_expires() {
        let tokens = VerifiedTokens::with_room_for(100);
        let digest = TokenDigest::of("t");
        tokens.keep(digest, jane(), 1_000, 900);
        assert_eq!(tokens.find(&digest, 999), Some(jane()));
        assert_eq!(tokens.find(&TokenDigest::of("u"), 999), None);
        assert_eq!(tokens.find(&digest, 1_000), None);
        assert_eq!(tokens.len(), 0, "an expired token stays behind");
    }

    /// Goal: the limit holds, the newest is kept and expired ones go first. Method: 1,000 tokens into room for 160.
    #[test]
    fn the_limit_holds() {
        let tokens = VerifiedTokens::with_room_for(160);
        for number in 0..1_000 {
            let digest = TokenDigest::of(&number.to_string());
            tokens.keep(digest, jane(), 1_000, 900);
            assert!(tokens.find(&digest, 900).is_some());
            assert!(tokens.len() <= 160);
        }
        assert_eq!(tokens.len(), 160, "full");
        for number in 1_000..3_000 {
            tokens.keep(TokenDigest::of(&number.to_string()), jane(), 9_000, 2_000);
        }
        let expired = (0..1_000).filter(|number| tokens.find(&TokenDigest::of(&number.to_string()), 999).is_some());
        assert_eq!(expired.count(), 0);
    }
}
