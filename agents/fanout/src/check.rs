//! Connectivity checks of a peer that is known and stays where it is (RFC 8445 section 7.3): verified and answered.
//!
//! Whatever is not exactly that (other names, another address, a role conflict, a flaw) is left to the caller, whose
//! rules are the reference: nothing here decides against anybody. Attributes behind MESSAGE-INTEGRITY are not
//! authenticated and therefore not read, FINGERPRINT excepted.

#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

const MAGIC: u32 = 0x2112_A442;
const HEADER_BYTES: usize = 20;
const MAX_BYTES: usize = 1024;
const REQUEST: u16 = 0x0001;
const RESPONSE: u16 = 0x0101;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const INTEGRITY_BYTES: usize = 20;
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// Our half of a session's ICE credentials.
pub struct Credentials {
    ufrag: Vec<u8>,
    key: hmac::Key,
}

impl Credentials {
    #[must_use]
    pub fn new(ufrag: &[u8], password: &[u8]) -> Self {
        Self { ufrag: ufrag.to_vec(), key: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password) }
    }

    /// The answer to a check, no longer than the check is; None for all that is not a plain one for these credentials.
    #[must_use]
    pub fn answer(&self, data: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
        let request = Request::parse(data)?;
        if request.controlled || request.username.split(|&byte| byte == b':').next() != Some(&self.ufrag[..]) {
            return None;
        }
        let mut head = [0; HEADER_BYTES];
        head.copy_from_slice(&data[..HEADER_BYTES]);
        let counted = request.covered - HEADER_BYTES + 4 + INTEGRITY_BYTES;
        head[2..4].copy_from_slice(&u16::try_from(counted).ok()?.to_be_bytes());
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(&head);
        mac.update(&data[HEADER_BYTES..request.covered]);
        verify_slices_are_equal(mac.sign().as_ref(), request.integrity).ok()?;
        let answer = self.success(&data[8..HEADER_BYTES], source);
        (answer.len() <= data.len()).then_some(answer)
    }

    fn success(&self, transaction: &[u8], source: SocketAddr) -> Vec<u8> {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&MAGIC.to_be_bytes());
        key[4..].copy_from_slice(transaction);
        let mut value = vec![0, if source.is_ipv4() { 1 } else { 2 }];
        value.extend_from_slice(&(source.port() ^ (MAGIC >> 16) as u16).to_be_bytes());
        let plain = |octets: &[u8]| octets.iter().zip(key).map(|(a, b)| a ^ b).collect::<Vec<_>>();
        value.extend(match source.ip() {
            IpAddr::V4(ip) => plain(&ip.octets()),
            IpAddr::V6(ip) => plain(&ip.octets()),
        });
        let mut message = Vec::with_capacity(96);
        message.extend_from_slice(&RESPONSE.to_be_bytes());
        message.extend_from_slice(&[0; 2]);
        message.extend_from_slice(&key);
        attribute(&mut message, XOR_MAPPED_ADDRESS, &value);
        // Each of the two counts itself in the length field before it is calculated.
        count(&mut message, 4 + INTEGRITY_BYTES);
        let integrity = hmac::sign(&self.key, &message);
        attribute(&mut message, MESSAGE_INTEGRITY, integrity.as_ref());
        count(&mut message, 8);
        let sum = crc32(&[&message]) ^ FINGERPRINT_XOR;
        attribute(&mut message, FINGERPRINT, &sum.to_be_bytes());
        message
    }
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&(value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
}

fn count(message: &mut [u8], more: usize) {
    let length = (message.len() - HEADER_BYTES + more) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

struct Request<'a> {
    username: &'a [u8],
    integrity: &'a [u8],
    /// MESSAGE-INTEGRITY covers everything up to here.
    covered: usize,
    controlled: bool,
}

impl<'a> Request<'a> {
    fn parse(data: &'a [u8]) -> Option<Self> {
        if !(HEADER_BYTES..=MAX_BYTES).contains(&data.len()) {
            return None;
        }
        let length = usize::from(number(data, 2)?);
        let sound = number(data, 0)? == REQUEST && data[4..8] == MAGIC.to_be_bytes();
        if !sound || length % 4 != 0 || length + HEADER_BYTES != data.len() {
            return None;
        }
        let (mut username, mut integrity, mut controlled) = (None, None, false);
        let mut at = HEADER_BYTES;
        while at < data.len() {
            let (kind, size) = (number(data, at)?, usize::from(number(data, at + 2)?));
            let end = at + 4 + size;
            let value = data.get(at + 4..end)?;
            if kind == FINGERPRINT {
                let mut head = [data[0], data[1], 0, 0];
                head[2..].copy_from_slice(&((at - HEADER_BYTES + 8) as u16).to_be_bytes());
                let sum = crc32(&[&head, &data[4..at]]) ^ FINGERPRINT_XOR;
                if value != sum.to_be_bytes() {
                    return None;
                }
            } else if integrity.is_none() {
                match kind {
                    USERNAME => username = username.or(Some(value)),
                    ICE_CONTROLLED => controlled = true,
                    MESSAGE_INTEGRITY => integrity = Some((value, at)),
                    _ => {}
                }
            }
            at = end + size.wrapping_neg() % 4;
        }
        let (integrity, covered) = integrity.filter(|(value, _)| value.len() == INTEGRITY_BYTES)?;
        Some(Self { username: username?, integrity, covered, controlled })
    }
}

fn number(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xEDB8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// That of Ethernet, as RFC 8489 section 14.7 wants it.
fn crc32(parts: &[&[u8]]) -> u32 {
    let step = |crc: u32, byte: &u8| crc >> 8 ^ CRC_TABLE[usize::from(crc as u8 ^ byte)];
    !parts.iter().flat_map(|part| part.iter()).fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 section 2.1: a request with all of it, and the password that made it.
    const SAMPLE: &str =
        "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff
        80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
        80280004e57a3bcf";
    const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// A check as a browser makes it.
    fn check(credentials: &Credentials, more: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = hex("00010000 2112a442 000102030405060708090a0b");
        attribute(&mut message, USERNAME, b"ours:their--");
        attribute(&mut message, 0x0024, &[0; 4]);
        for (kind, value) in more {
            attribute(&mut message, *kind, value);
        }
        count(&mut message, 24);
        let integrity = hmac::sign(&credentials.key, &message);
        attribute(&mut message, MESSAGE_INTEGRITY, integrity.as_ref());
        count(&mut message, 8);
        let sum = crc32(&[&message]) ^ FINGERPRINT_XOR;
        attribute(&mut message, FINGERPRINT, &sum.to_be_bytes());
        message
    }

    fn source() -> SocketAddr {
        "192.0.2.1:32853".parse().unwrap()
    }

    #[test]
    fn rfc5769_2_1_is_parsed_and_verified() {
        let mut data = hex(SAMPLE);
        let request = Request::parse(&data).unwrap();
        assert_eq!((request.username, request.controlled), (&b"evtj:h6vY"[..], true));
        assert!(Credentials::new(b"evtj", PASSWORD).answer(&data, source()).is_none(), "a role conflict");
        data[30] ^= 1;
        assert!(Request::parse(&data).is_none(), "the fingerprint");
    }

    /// RFC 5769 section 2.2 has a SOFTWARE attribute more; what is XORed is the same.
    #[test]
    fn a_check_is_answered_with_its_address() {
        let ours = Credentials::new(b"ours", PASSWORD);
        let mut data = check(&ours, &[]);
        data[8..20].copy_from_slice(&hex("b7e7a701bc34d686fa87dfae"));
        assert!(ours.answer(&data, source()).is_none());
        let answer = ours.success(&data[8..20], source());
        assert_eq!(answer[24..32], hex("0001a147e112a643"));
        let answer = ours.success(&data[8..20], "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap());
        assert_eq!(answer[24..44], hex("0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"));
    }

    #[test]
    fn only_plain_checks_with_the_right_password_are_answered() {
        let ours = Credentials::new(b"ours", PASSWORD);
        let answer = ours.answer(&check(&ours, &[(0x0025, &[])]), source()).unwrap();
        assert_eq!(answer[..2], [1, 1]);
        assert!(answer.len() <= check(&ours, &[]).len());
        for other in [Credentials::new(b"ours", b"wrong"), Credentials::new(b"our", PASSWORD)] {
            assert!(other.answer(&check(&ours, &[]), source()).is_none());
        }
        assert!(ours.answer(&check(&ours, &[(ICE_CONTROLLED, &[0; 8])]), source()).is_none());
    }

    #[test]
    fn no_damage_is_believed_and_none_panics() {
        let ours = Credentials::new(b"ours", PASSWORD);
        let whole = check(&ours, &[(0x802A, &[7; 8])]);
        for at in 0..whole.len() {
            assert!(ours.answer(&whole[..at], source()).is_none());
            for bit in 0..8 {
                let mut data = whole.clone();
                data[at] ^= 1 << bit;
                // Without its name the fingerprint is one more attribute that is not authenticated.
                let unnamed = whole.len() - 8..whole.len() - 6;
                assert!(ours.answer(&data, source()).is_none() || unnamed.contains(&at), "byte {at}, bit {bit}");
            }
        }
    }
}
