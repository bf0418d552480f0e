//! SRTP for the sending side: AES-GCM (RFC 7714) and AES-CM with HMAC-SHA1 (RFC 3711), keys derived by RFC 3711
//! section 4.3.
//!
//! The caller owns the indices. An index is the rollover counter and the sequence number as one number that only grows,
//! 48 bits wide; using one twice for different packets of the same SSRC would give both away, so who calls this with
//! the same index passes the same packet.

#![forbid(unsafe_code)]

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

pub const HEADER_BYTES: usize = 12;
pub const MAX_TAG_BYTES: usize = 16;
/// The first index that no longer exists (RFC 3711 section 9.2).
pub const INDEX_END: u64 = 1 << 48;

pub(crate) const SALT_BYTES: usize = 14;
const SHA1_KEY_BYTES: usize = 20;

/// What a derived key is for (RFC 3711 section 4.3.2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labels {
    encryption: u8,
    authentication: u8,
    salt: u8,
}

pub(crate) const SRTP: Labels = Labels { encryption: 0, authentication: 1, salt: 2 };
pub(crate) const SRTCP: Labels = Labels { encryption: 3, authentication: 4, salt: 5 };

/// Something that these keys or this packet do not allow; never says what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SrtpError;

impl From<aws_lc_rs::error::Unspecified> for SrtpError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

/// The protection profiles of RFC 5764 section 4.1.2 and RFC 7714 section 14.2 that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Aes128CmSha1,
    Aes128Gcm,
    Aes256Gcm,
}

impl Profile {
    /// By the name that DTLS-SRTP negotiates.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "SRTP_AES128_CM_SHA1_80" => Some(Self::Aes128CmSha1),
            "SRTP_AEAD_AES_128_GCM" => Some(Self::Aes128Gcm),
            "SRTP_AEAD_AES_256_GCM" => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    #[must_use]
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1 | Self::Aes128Gcm => 16,
            Self::Aes256Gcm => 32,
        }
    }

    #[must_use]
    pub fn salt_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1 => 14,
            Self::Aes128Gcm | Self::Aes256Gcm => 12,
        }
    }

    /// What encryption adds to a packet.
    #[must_use]
    pub fn tag_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1 => 10,
            Self::Aes128Gcm | Self::Aes256Gcm => MAX_TAG_BYTES,
        }
    }
}

pub(crate) enum Cipher {
    Gcm(LessSafeKey),
    CounterMode(Box<(EncryptingKey, hmac::Key)>),
}

/// What encrypts one direction's SRTP, or its SRTCP.
pub(crate) struct SessionKeys {
    pub(crate) cipher: Cipher,
    pub(crate) salt: [u8; SALT_BYTES],
}

impl SessionKeys {
    /// From the master key and salt that DTLS-SRTP exported; an error when their lengths are not the profile's.
    pub(crate) fn derive(
        profile: Profile,
        labels: Labels,
        master_key: &[u8],
        master_salt: &[u8],
    ) -> Result<Self, SrtpError> {
        if master_key.len() != profile.key_bytes() || master_salt.len() != profile.salt_bytes() {
            return Err(SrtpError);
        }
        let derivation = KeyDerivation::new(master_key, master_salt)?;
        let mut key = [0; 32];
        let key = &mut key[..profile.key_bytes()];
        derivation.derive(labels.encryption, key)?;
        let mut authentication = [0; SHA1_KEY_BYTES];
        derivation.derive(labels.authentication, &mut authentication)?;
        let mut salt = [0; SALT_BYTES];
        derivation.derive(labels.salt, &mut salt[..profile.salt_bytes()])?;
        Self::new(profile, key, &authentication, salt)
    }

    fn new(profile: Profile, key: &[u8], authentication: &[u8], salt: [u8; SALT_BYTES]) -> Result<Self, SrtpError> {
        let cipher = match profile {
            Profile::Aes128CmSha1 => Cipher::CounterMode(Box::new((
                counter_mode(key)?,
                hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, authentication),
            ))),
            Profile::Aes128Gcm => Cipher::Gcm(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key)?)),
            Profile::Aes256Gcm => Cipher::Gcm(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?)),
        };
        Ok(Self { cipher, salt })
    }
}

/// The session keys of one viewer.
pub struct Srtp {
    keys: SessionKeys,
    tag_bytes: usize,
}

impl Srtp {
    /// From the master key and salt that DTLS-SRTP exported.
    ///
    /// # Errors
    /// When their lengths are not the profile's.
    pub fn new(profile: Profile, master_key: &[u8], master_salt: &[u8]) -> Result<Self, SrtpError> {
        let keys = SessionKeys::derive(profile, SRTP, master_key, master_salt)?;
        Ok(Self { keys, tag_bytes: profile.tag_bytes() })
    }

    /// How much longer `protect` makes a packet.
    #[must_use]
    pub fn tag_bytes(&self) -> usize {
        self.tag_bytes
    }

    /// The same with a payload that lies elsewhere: it is read once, and `packet` needs no more than its header.
    ///
    /// # Errors
    /// Those of `protect`, and when the packet is not as long as header, payload and tag.
    pub fn protect_from(&self, packet: &mut [u8], payload: &[u8], ssrc: u32, index: u64) -> Result<(), SrtpError> {
        if index >= INDEX_END || packet.len() != HEADER_BYTES + payload.len() + self.tag_bytes {
            return Err(SrtpError);
        }
        let (header, sealed) = packet.split_at_mut(HEADER_BYTES);
        if let Cipher::Gcm(key) = &self.keys.cipher {
            let nonce = Nonce::assume_unique_for_key(self.gcm_iv(ssrc, index));
            key.seal_in_place_scatter(nonce, Aad::from(&*header), &mut [], payload, sealed)?;
            return Ok(());
        }
        sealed[..payload.len()].copy_from_slice(payload);
        self.protect(packet, ssrc, index)
    }

    /// Encrypts a packet in place: header, payload, then room for the tag, of `tag_bytes` and not more.
    ///
    /// The header is the plain one of 12 bytes, and says what `ssrc` and `index` say.
    ///
    /// # Errors
    /// When the index is used up or the packet is shorter than a header and a tag.
    pub fn protect(&self, packet: &mut [u8], ssrc: u32, index: u64) -> Result<(), SrtpError> {
        if index >= INDEX_END || packet.len() < HEADER_BYTES + self.tag_bytes {
            return Err(SrtpError);
        }
        let split = packet.len() - self.tag_bytes;
        let (plain, tag) = packet.split_at_mut(split);
        match &self.keys.cipher {
            Cipher::Gcm(key) => {
                let (header, payload) = plain.split_at_mut(HEADER_BYTES);
                let nonce = Nonce::assume_unique_for_key(self.gcm_iv(ssrc, index));
                let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload)?;
                tag.copy_from_slice(sealed.as_ref());
            }
            Cipher::CounterMode(keys) => {
                let (key, authentication) = &**keys;
                let iv = FixedLength::from(self.counter_iv(ssrc, index));
                key.less_safe_encrypt(&mut plain[HEADER_BYTES..], EncryptionContext::Iv128(iv))?;
                let mut mac = hmac::Context::with_key(authentication);
                mac.update(plain);
                mac.update(&index.to_be_bytes()[2..6]);
                tag.copy_from_slice(&mac.sign().as_ref()[..self.tag_bytes]);
            }
        }
        Ok(())
    }

    /// RFC 7714 section 8.1: two zero bytes, SSRC, rollover counter, sequence number; then the salt over it.
    fn gcm_iv(&self, ssrc: u32, index: u64) -> [u8; 12] {
        let mut iv = [0; 12];
        iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
        iv[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        xor(&mut iv, &self.keys.salt);
        iv
    }

    /// RFC 3711 section 4.1.1: salt * 2^16, SSRC * 2^64 and index * 2^16, one over the other.
    fn counter_iv(&self, ssrc: u32, index: u64) -> [u8; 16] {
        let mut iv = [0; 16];
        iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
        iv[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
        xor(&mut iv, &self.keys.salt);
        iv
    }
}

/// RFC 3711 section 4.3.3, and RFC 6188 for longer keys; keys are derived once (a derivation rate of zero).
struct KeyDerivation {
    master: EncryptingKey,
    salt: [u8; SALT_BYTES],
}

impl KeyDerivation {
    fn new(master_key: &[u8], master_salt: &[u8]) -> Result<Self, SrtpError> {
        let mut salt = [0; SALT_BYTES];
        salt.get_mut(..master_salt.len()).ok_or(SrtpError)?.copy_from_slice(master_salt);
        Ok(Self { master: counter_mode(master_key)?, salt })
    }

    fn derive(&self, label: u8, key: &mut [u8]) -> Result<(), SrtpError> {
        let mut iv = [0; 16];
        iv[..SALT_BYTES].copy_from_slice(&self.salt);
        iv[7] ^= label;
        key.fill(0);
        self.master.less_safe_encrypt(key, EncryptionContext::Iv128(FixedLength::from(iv)))?;
        Ok(())
    }
}

fn counter_mode(key: &[u8]) -> Result<EncryptingKey, SrtpError> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    Ok(EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key)?)?)
}

pub(crate) fn xor(target: &mut [u8], with: &[u8]) {
    for (byte, other) in target.iter_mut().zip(with) {
        *byte ^= other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn salt(text: &str) -> [u8; SALT_BYTES] {
        let mut salt = [0; SALT_BYTES];
        let given = hex(text);
        salt[..given.len()].copy_from_slice(&given);
        salt
    }

    fn with_session_keys(profile: Profile, key: &str, given: &str) -> Srtp {
        let keys = SessionKeys::new(profile, &hex(key), &[0; SHA1_KEY_BYTES], salt(given)).unwrap();
        Srtp { keys, tag_bytes: profile.tag_bytes() }
    }

    fn derive(key: &str, salt: &str, label: u8, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        KeyDerivation::new(&hex(key), &hex(salt)).unwrap().derive(label, &mut out).unwrap();
        out
    }

    #[test]
    fn rfc3711_b2_key_stream() {
        let (key, salt) = ("2B7E151628AED2A6ABF7158809CF4F3C", "F0F1F2F3F4F5F6F7F8F9FAFBFCFD");
        let keys = with_session_keys(Profile::Aes128CmSha1, key, salt);
        let blocks = 0xff02;
        let mut packet = vec![0; HEADER_BYTES + blocks * 16 + 10];
        keys.protect(&mut packet, 0, 0).unwrap();
        let block = |n: usize| &packet[HEADER_BYTES + n * 16..HEADER_BYTES + (n + 1) * 16];
        assert_eq!(block(0), hex("E03EAD0935C95E80E166B16DD92B4EB4"));
        assert_eq!(block(1), hex("D23513162B02D0F72A43A2FE4A5F97AB"));
        assert_eq!(block(2), hex("41E95B3BB0A2E8DD477901E4FCA894C0"));
        assert_eq!(block(0xfeff), hex("EC8CDF7398607CB0F2D21675EA9EA1E4"));
        assert_eq!(block(0xff00), hex("362B7C3C6773516318A077D7FC5073AE"));
        assert_eq!(block(0xff01), hex("6A2CC3787889374FBEB4C81B17BA6C44"));
    }

    #[test]
    fn rfc3711_b3_key_derivation() {
        let (key, salt) = ("E1F97A0D3E018BE0D64FA32C06DE4139", "0EC675AD498AFEEBB6960B3AABE6");
        assert_eq!(derive(key, salt, SRTP.encryption, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derive(key, salt, SRTP.salt, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(
            derive(key, salt, SRTP.authentication, 94),
            hex("CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE
                 E049646C43D9327AD175578EF7227098 6371C10C9A369AC2F94A8C5FBCDDDC25
                 6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2")
        );
    }

    #[test]
    fn rfc6188_7_2_key_derivation_with_256_bits() {
        let (key, salt) =
            ("f0f04914b513f2763a1b1fa130f10e29 98f6f6e43e4309d1e622a0e332b9f1b6", "3b04803de51ee7c96423ab5b78d2");
        assert_eq!(
            derive(key, salt, SRTP.encryption, 32),
            hex("5ba1064e30ec51613cad926c5a28ef73 1ec7fb397f70a960653caf06554cd8c4")
        );
        assert_eq!(derive(key, salt, SRTP.salt, 14), hex("fa31791685ca444a9e07c6c64e93"));
        assert_eq!(derive(key, salt, SRTP.authentication, 20), hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
    }

    /// Section 16 gives session keys and one packet: SSRC 0x5501a0b2, sequence number 0xf17b, rollover counter 0.
    fn rfc7714(profile: Profile, key: &str) -> Vec<u8> {
        let keys = with_session_keys(profile, key, "517569642070726f2071756f");
        assert_eq!(keys.gcm_iv(0x5501_a0b2, 0xf17b), *hex("51753c6580c2726f20718414"));
        let mut packet = hex("8040f17b8041f8d35501a0b2");
        packet.extend_from_slice(b"Gallia est omnis divisa in partes tres");
        packet.extend_from_slice(&[0; 16]);
        keys.protect(&mut packet, 0x5501_a0b2, 0xf17b).unwrap();
        packet
    }

    #[test]
    fn rfc7714_16_1_1_aes_128_gcm() {
        assert_eq!(
            rfc7714(Profile::Aes128Gcm, "000102030405060708090a0b0c0d0e0f"),
            hex("8040f17b 8041f8d3 5501a0b2
                 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a
                 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce")
        );
    }

    #[test]
    fn rfc7714_16_2_1_aes_256_gcm() {
        assert_eq!(
            rfc7714(Profile::Aes256Gcm, "000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f"),
            hex("8040f17b 8041f8d3 5501a0b2
                 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02
                 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13")
        );
    }

    #[test]
    fn the_rollover_counter_is_part_of_the_index() {
        for profile in [Profile::Aes128CmSha1, Profile::Aes128Gcm, Profile::Aes256Gcm] {
            let keys = Srtp::new(profile, &[7; 32][..profile.key_bytes()], &[9; 14][..profile.salt_bytes()]).unwrap();
            let seal = |index| {
                let mut packet = vec![0; HEADER_BYTES + 5 + profile.tag_bytes()];
                keys.protect(&mut packet, 1, index).unwrap();
                packet
            };
            assert_ne!(seal(5), seal(65_536 + 5));
            assert_eq!(seal(5), seal(5));
        }
    }

    #[test]
    fn a_payload_from_elsewhere_makes_the_same_packet() {
        for profile in [Profile::Aes128CmSha1, Profile::Aes128Gcm, Profile::Aes256Gcm] {
            let keys = Srtp::new(profile, &[7; 32][..profile.key_bytes()], &[9; 14][..profile.salt_bytes()]).unwrap();
            for length in [0, 1, 15, 16, 17, 1_150, 1_200] {
                let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
                let mut here = [&[1; HEADER_BYTES], &payload[..], &vec![0; profile.tag_bytes()]].concat();
                let mut elsewhere = [&[1; HEADER_BYTES], &vec![0xff; length + profile.tag_bytes()][..]].concat();
                keys.protect(&mut here, 1, 5).unwrap();
                keys.protect_from(&mut elsewhere, &payload, 1, 5).unwrap();
                assert_eq!(here, elsewhere);
                assert_eq!(keys.protect_from(&mut elsewhere, &payload, 1, INDEX_END), Err(SrtpError));
                assert_eq!(keys.protect_from(&mut elsewhere[1..], &payload, 1, 5), Err(SrtpError));
            }
        }
    }

    #[test]
    fn what_cannot_be_protected_is_refused() {
        let keys = Srtp::new(Profile::Aes128Gcm, &[0; 16], &[0; 12]).unwrap();
        assert_eq!(keys.protect(&mut [0; 27], 1, 1), Err(SrtpError));
        assert_eq!(keys.protect(&mut [0; 28], 1, INDEX_END), Err(SrtpError));
        assert_eq!(keys.protect(&mut [0; 28], 1, INDEX_END - 1), Ok(()));
    }

    #[test]
    fn keys_of_the_wrong_length_are_refused() {
        for (key, salt) in [(15, 12), (16, 14), (32, 12), (0, 0)] {
            assert!(Srtp::new(Profile::Aes128Gcm, &[0; 32][..key], &[0; 14][..salt]).is_err());
        }
        assert!(Srtp::new(Profile::Aes256Gcm, &[0; 16], &[0; 12]).is_err());
        assert!(Profile::named("SRTP_NULL_SHA1_80").is_none());
    }
}
