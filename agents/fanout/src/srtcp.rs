//! SRTCP: what a viewer says about its reception, and our reports to it (RFC 3711 section 3.4, RFC 7714 section 9).
//!
//! The replay window is kept here and nowhere else: whatever arrives for an association is opened by its one `Srtcp`.
//! Nor is an index used twice: whatever leaves under an SSRC is sealed by its one `Sealer`.

#![forbid(unsafe_code)]

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use crate::srtp::{Cipher, Profile, SRTCP, SessionKeys, SrtpError, xor};

/// Header and SSRC of the first packet: authenticated, not encrypted.
const CLEAR_BYTES: usize = 8;
/// The flag that says whether the packet is encrypted, and the index.
const INDEX_BYTES: usize = 4;
const ENCRYPTED: u32 = 1 << 31;
const GCM_TAG_BYTES: usize = 16;
const SHA1_TAG_BYTES: usize = 10;
const WINDOW: u32 = 128;
/// Each sender of a peer has a window of its own; browsers have one or two.
const MAX_SENDERS: usize = 16;

/// One sender's newest index, and which of those before it were there.
struct Window {
    ssrc: u32,
    newest: u32,
    seen: u128,
}

impl Window {
    fn is_new(&self, index: u32) -> bool {
        match self.newest.checked_sub(index) {
            None => true,
            Some(age) => age < WINDOW && self.seen >> age & 1 == 0,
        }
    }

    fn note(&mut self, index: u32) {
        if let Some(age) = self.newest.checked_sub(index) {
            self.seen |= 1 << age;
        } else {
            self.seen = self.seen.checked_shl(index - self.newest).unwrap_or(0) | 1;
            self.newest = index;
        }
    }
}

/// Our direction, for one SSRC.
pub struct Sealer {
    keys: SessionKeys,
    next: u32,
}

impl Sealer {
    /// From our master key and salt.
    ///
    /// # Errors
    /// When their lengths are not the profile's.
    pub fn new(profile: Profile, master_key: &[u8], master_salt: &[u8]) -> Result<Self, SrtpError> {
        Ok(Self { keys: SessionKeys::derive(profile, SRTCP, master_key, master_salt)?, next: 0 })
    }

    /// Encrypts a packet, under the next index.
    ///
    /// # Errors
    /// When no index is left (RFC 3711 section 9.2), or the packet is shorter than a header.
    pub fn seal(&mut self, mut packet: Vec<u8>) -> Result<Vec<u8>, SrtpError> {
        let ssrc = word(&packet, 4)?;
        if self.next >= ENCRYPTED {
            return Err(SrtpError);
        }
        let index = self.next;
        let flagged = (index | ENCRYPTED).to_be_bytes();
        match &self.keys.cipher {
            Cipher::Gcm(key) => {
                let known = [&packet[..CLEAR_BYTES], &flagged].concat();
                let nonce = Nonce::assume_unique_for_key(gcm_iv(&self.keys, ssrc, index));
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(known), &mut packet[CLEAR_BYTES..])?;
                packet.extend_from_slice(tag.as_ref());
                packet.extend_from_slice(&flagged);
            }
            Cipher::CounterMode(both) => {
                let context = counter_context(&self.keys, ssrc, index);
                both.0.less_safe_encrypt(&mut packet[CLEAR_BYTES..], context)?;
                packet.extend_from_slice(&flagged);
                let tag = hmac::sign(&both.1, &packet);
                packet.extend_from_slice(&tag.as_ref()[..SHA1_TAG_BYTES]);
            }
        }
        self.next += 1;
        Ok(packet)
    }
}

/// RFC 7714 section 9.1: two zero bytes, SSRC, two zero bytes, index; then the salt over it.
fn gcm_iv(keys: &SessionKeys, ssrc: u32, index: u32) -> [u8; 12] {
    let mut iv = [0; 12];
    iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
    iv[8..].copy_from_slice(&index.to_be_bytes());
    xor(&mut iv, &keys.salt);
    iv
}

/// RFC 3711 section 4.1.1. In counter mode both directions are the same.
fn counter_context(keys: &SessionKeys, ssrc: u32, index: u32) -> EncryptionContext {
    let mut iv = [0; 16];
    iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
    iv[10..14].copy_from_slice(&index.to_be_bytes());
    xor(&mut iv, &keys.salt);
    EncryptionContext::Iv128(FixedLength::from(iv))
}

/// A peer's direction of one association.
pub struct Srtcp {
    keys: SessionKeys,
    windows: Vec<Window>,
}

impl Srtcp {
    /// From the master key and salt of the peer.
    ///
    /// # Errors
    /// When their lengths are not the profile's.
    pub fn new(profile: Profile, master_key: &[u8], master_salt: &[u8]) -> Result<Self, SrtpError> {
        Ok(Self { keys: SessionKeys::derive(profile, SRTCP, master_key, master_salt)?, windows: Vec::new() })
    }

    /// Opens a packet in place and gives back what was in it.
    ///
    /// # Errors
    /// When it is not authentic, or was there before.
    pub fn unprotect<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a [u8], SrtpError> {
        let ssrc = word(packet, 4)?;
        let trailer = match self.keys.cipher {
            Cipher::Gcm(_) => INDEX_BYTES,
            Cipher::CounterMode(_) => INDEX_BYTES + SHA1_TAG_BYTES,
        };
        let end = packet.len().checked_sub(trailer).filter(|end| *end >= CLEAR_BYTES).ok_or(SrtpError)?;
        let flagged = word(packet, end)?;
        let index = flagged & !ENCRYPTED;
        if self.windows.iter().any(|window| window.ssrc == ssrc && !window.is_new(index)) {
            return Err(SrtpError);
        }
        let length = match &self.keys.cipher {
            Cipher::Gcm(key) => self.open_gcm(key, packet, end, ssrc, flagged)?,
            Cipher::CounterMode(keys) => self.open_counter_mode(&keys.0, &keys.1, packet, end, ssrc, flagged)?,
        };
        self.note(ssrc, index)?;
        Ok(&packet[..length])
    }

    fn note(&mut self, ssrc: u32, index: u32) -> Result<(), SrtpError> {
        if let Some(window) = self.windows.iter_mut().find(|window| window.ssrc == ssrc) {
            window.note(index);
        } else if self.windows.len() < MAX_SENDERS {
            self.windows.push(Window { ssrc, newest: index, seen: 1 });
        } else {
            return Err(SrtpError);
        }
        Ok(())
    }

    /// RFC 7714 section 9: the tag lies before the index, which is authenticated with the header.
    fn open_gcm(
        &self,
        key: &LessSafeKey,
        packet: &mut [u8],
        end: usize,
        ssrc: u32,
        flagged: u32,
    ) -> Result<usize, SrtpError> {
        let plain = end.checked_sub(GCM_TAG_BYTES).filter(|plain| *plain >= CLEAR_BYTES).ok_or(SrtpError)?;
        let nonce = Nonce::assume_unique_for_key(gcm_iv(&self.keys, ssrc, flagged & !ENCRYPTED));
        let clear = if flagged & ENCRYPTED == 0 { plain } else { CLEAR_BYTES };
        let mut known = Vec::with_capacity(clear + INDEX_BYTES);
        known.extend_from_slice(&packet[..clear]);
        known.extend_from_slice(&flagged.to_be_bytes());
        key.open_in_place(nonce, Aad::from(&known), &mut packet[clear..end])?;
        Ok(plain)
    }

    /// RFC 3711 section 3.4: the tag lies at the end, over everything before it.
    fn open_counter_mode(
        &self,
        key: &EncryptingKey,
        authentication: &hmac::Key,
        packet: &mut [u8],
        end: usize,
        ssrc: u32,
        flagged: u32,
    ) -> Result<usize, SrtpError> {
        let (covered, tag) = packet.split_at_mut(end + INDEX_BYTES);
        let right = hmac::sign(authentication, covered);
        verify_slices_are_equal(&right.as_ref()[..SHA1_TAG_BYTES], tag).map_err(|_| SrtpError)?;
        if flagged & ENCRYPTED != 0 {
            let context = counter_context(&self.keys, ssrc, flagged & !ENCRYPTED);
            key.less_safe_encrypt(&mut covered[CLEAR_BYTES..end], context)?;
        }
        Ok(end)
    }
}

fn word(packet: &[u8], at: usize) -> Result<u32, SrtpError> {
    let bytes = packet.get(at..at + 4).ok_or(SrtpError)?;
    Ok(u32::from_be_bytes(bytes.try_into().map_err(|_| SrtpError)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILES: [Profile; 3] = [Profile::Aes128CmSha1, Profile::Aes128Gcm, Profile::Aes256Gcm];
    const REPORT: [u8; 16] = [0x80, 201, 0, 3, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8];

    fn fresh(profile: Profile) -> Srtcp {
        Srtcp::new(profile, &[7; 32][..profile.key_bytes()], &[9; 14][..profile.salt_bytes()]).unwrap()
    }

    fn seal(profile: Profile, plain: &[u8], index: u32) -> Vec<u8> {
        Sealer { keys: fresh(profile).keys, next: index }.seal(plain.to_vec()).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_once() {
        for profile in PROFILES {
            let mut keys = fresh(profile);
            for index in [1, 2, 5, 3, 4, 200, 150] {
                let mut packet = seal(profile, &REPORT, index);
                assert_ne!(packet[8..16], REPORT[8..]);
                let mut again = packet.clone();
                assert_eq!(keys.unprotect(&mut packet), Ok(&REPORT[..]));
                assert_eq!(keys.unprotect(&mut again), Err(SrtpError), "a replay");
            }
            assert_eq!(keys.unprotect(&mut seal(profile, &REPORT, 6)), Err(SrtpError), "too old");
        }
    }

    #[test]
    fn no_damage_is_believed_and_none_counts() {
        for profile in PROFILES {
            let mut keys = fresh(profile);
            let whole = seal(profile, &REPORT, 7);
            for at in 0..whole.len() {
                assert!(keys.unprotect(&mut whole[..at].to_vec()).is_err());
                let mut packet = whole.clone();
                packet[at] ^= 0x10;
                assert!(keys.unprotect(&mut packet).is_err());
            }
            assert!(keys.unprotect(&mut whole.clone()).is_ok());
        }
    }

    #[test]
    fn senders_have_windows_of_their_own_and_are_bounded() {
        let mut keys = fresh(Profile::Aes128Gcm);
        for sender in 0..=MAX_SENDERS as u8 {
            let mut report = REPORT;
            report[7] = sender;
            let opened = keys.unprotect(&mut seal(Profile::Aes128Gcm, &report, 1)).is_ok();
            assert_eq!(opened, usize::from(sender) < MAX_SENDERS);
        }
    }

    #[test]
    fn each_packet_has_an_index_of_its_own_until_none_is_left() {
        for profile in PROFILES {
            let mut sealer = Sealer { keys: fresh(profile).keys, next: ENCRYPTED - 2 };
            let last_two = [sealer.seal(REPORT.to_vec()).unwrap(), sealer.seal(REPORT.to_vec()).unwrap()];
            assert_ne!(last_two[0], last_two[1]);
            assert_eq!(sealer.seal(REPORT.to_vec()), Err(SrtpError));
            let mut keys = fresh(profile);
            for mut packet in last_two {
                assert_eq!(keys.unprotect(&mut packet), Ok(&REPORT[..]));
            }
        }
        assert_eq!(Sealer { keys: fresh(Profile::Aes128Gcm).keys, next: 0 }.seal(vec![0; 7]), Err(SrtpError));
    }
}
