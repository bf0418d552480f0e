//! What a camera's payload is, if it is a part of a slice of a picture, in H.264 (RFC 6184) and H.265 (RFC 7798).
//!
//! The rules are those of the Python sources, `media/runs.py` and what it calls. Most payloads are parts of slices; of
//! all others nothing is said here, and Python reads them.

#![forbid(unsafe_code)]

/// What is said of payloads; 0: nothing.
pub const SLICE: u8 = 1;
/// The first payload begins the slice.
pub const START: u8 = 2;
/// The last payload ends it.
pub const END: u8 = 4;
/// What begins is a slice at which decoding may begin.
pub const KEY: u8 = 8;
/// What begins is a B slice, which tells something in H.264 only.
pub const B: u8 = 16;

const FIRST: u8 = 0x80;
const LAST: u8 = 0x40;
/// Bytes behind the header that are looked at for the kind of an H.264 slice.
const LOOK: usize = 12;
const MAX_ZEROS: u32 = 31;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    H264,
    H265,
}

impl Codec {
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "H264" => Some(Self::H264),
            "H265" => Some(Self::H265),
            _ => None,
        }
    }

    /// Bytes of a NAL unit's header. In a fragment the byte with the start bit and the end bit follows.
    const fn header(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 => 2,
        }
    }

    fn kind(self, payload: &[u8]) -> Option<u8> {
        match (self, payload) {
            (Self::H264, [first, ..]) => Some(first & 0x1f),
            (Self::H265, [first, _, ..]) => Some(first >> 1 & 0x3f),
            _ => None,
        }
    }

    const fn fragment(self) -> u8 {
        match self {
            Self::H264 => 28,
            Self::H265 => 49,
        }
    }

    /// Of a fragment's own header: the kind of NAL unit that is in pieces.
    const fn inner(self) -> u8 {
        match self {
            Self::H264 => 0x1f,
            Self::H265 => 0x3f,
        }
    }

    /// What begins with a slice whose header ends before `data`; None when the kind is no slice.
    fn begun(self, kind: u8, data: &[u8]) -> Option<u8> {
        match (self, kind) {
            (Self::H264, 1) => Some(if is_b(&data[..data.len().min(LOOK)]) { B } else { 0 }),
            (Self::H264, 2..=4) | (Self::H265, 0..=15 | 24..=31) => Some(0),
            (Self::H264, 5) | (Self::H265, 16..=23) => Some(KEY),
            _ => None,
        }
    }
}

/// What a payload is as a part of a slice.
#[must_use]
pub fn part(codec: Codec, payload: &[u8]) -> u8 {
    let header = codec.header();
    let Some(kind) = codec.kind(payload) else { return 0 };
    if kind != codec.fragment() {
        return codec.begun(kind, &payload[header..]).map_or(0, |begun| SLICE | START | END | begun);
    }
    let Some((&bits, data @ [_, ..])) = payload[header..].split_first() else { return 0 };
    let end = if bits & LAST == 0 { 0 } else { END };
    if bits & FIRST == 0 {
        return SLICE | end;
    }
    codec.begun(bits & codec.inner(), data).map_or(0, |begun| SLICE | START | end | begun)
}

/// Whether a fragment that begins nothing is of what the one before it is of.
#[must_use]
pub fn continues(codec: Codec, before: &[u8], payload: &[u8]) -> bool {
    let header = codec.header();
    payload[..header] == before[..header] && payload[header] & !LAST == before[header] & !FIRST
}

/// A part of a slice in payloads of at most `limit` bytes.
pub fn fit(codec: Codec, payload: &[u8], limit: usize, mut take: impl FnMut(&[u8])) {
    if payload.len() <= limit {
        return take(payload);
    }
    let header = codec.header();
    let whole = codec.kind(payload) != Some(codec.fragment());
    let (head, kind, ends, data) = match (codec, whole) {
        (_, false) => {
            let bits = payload[header];
            (payload[..header].to_vec(), bits & codec.inner(), bits & (FIRST | LAST), &payload[header + 1..])
        }
        (Codec::H264, true) => {
            (vec![payload[0] & 0xe0 | codec.fragment()], payload[0] & 0x1f, FIRST | LAST, &payload[1..])
        }
        (Codec::H265, true) => {
            let head = vec![payload[0] & 0x81 | codec.fragment() << 1, payload[1]];
            (head, payload[0] >> 1 & 0x3f, FIRST | LAST, &payload[2..])
        }
    };
    let pieces = data.chunks(limit.saturating_sub(header + 1).max(1));
    let last = pieces.len() - 1;
    for (at, piece) in pieces.enumerate() {
        let first = if at == 0 { ends & FIRST } else { 0 };
        let end = if at == last { ends & LAST } else { 0 };
        take(&[&head, &[first | end | kind][..], piece].concat());
    }
}

/// Whether this is the beginning of a B slice (ISO 14496-10 section 7.3.3): the second number tells.
fn is_b(data: &[u8]) -> bool {
    let mut plain = [0u8; 16];
    let (mut at, mut size) = (0, 0);
    while at < data.len() {
        if data[at..].starts_with(&[0, 0, 3]) {
            (at, size) = (at + 3, size + 2);
        } else {
            plain[size] = data[at];
            (at, size) = (at + 1, size + 1);
        }
    }
    // The last bit is the lowest: bits are taken off from above.
    let mut bits = Bits { value: u128::from_be_bytes(plain), left: 8 * size as u32 };
    bits.unsigned().and_then(|_first_macroblock| bits.unsigned()).is_some_and(|kind| kind == 1 || kind == 6)
}

struct Bits {
    value: u128,
    left: u32,
}

impl Bits {
    fn read(&mut self, count: u32) -> Option<u64> {
        self.left = self.left.checked_sub(count)?;
        if count == 0 {
            return Some(0);
        }
        let found = self.value >> (128 - count);
        self.value <<= count;
        Some(found as u64)
    }

    /// An Exp-Golomb code (section 9.1).
    fn unsigned(&mut self) -> Option<u64> {
        let mut zeros = 0;
        while self.read(1)? == 0 {
            zeros += 1;
            if zeros > MAX_ZEROS {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.read(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_known_and_other_units_are_not() {
        let told = |payload: &[u8]| part(Codec::H264, payload);
        assert_eq!(told(&[0x41, 0xe0]), SLICE | START | END);
        assert_eq!(told(&[0x41, 0xa8]), SLICE | START | END | B);
        assert_eq!(told(&[0x41]), SLICE | START | END);
        assert_eq!(told(&[0x65, 0x88]), SLICE | START | END | KEY);
        assert_eq!(told(&[0x7c, 0x85, 1]), SLICE | START | KEY);
        assert_eq!(told(&[0x7c, 0x81, 0xa8]), SLICE | START | B);
        assert_eq!(told(&[0x7c, 0x05, 1]), SLICE);
        assert_eq!(told(&[0x7c, 0x45, 1]), SLICE | END);
        for other in [&[][..], &[0x67, 1], &[0x09, 0x10], &[0x7c], &[0x7c, 0x05], &[0x7c, 0x87, 1], &[0x78, 0, 1, 0x41]]
        {
            assert_eq!(told(other), 0);
        }
    }

    #[test]
    fn so_are_those_of_h265() {
        let told = |payload: &[u8]| part(Codec::H265, payload);
        assert_eq!(told(&[2, 1]), SLICE | START | END);
        assert_eq!(told(&[19 << 1, 1, 9]), SLICE | START | END | KEY);
        assert_eq!(told(&[98, 1, 0x93, 9]), SLICE | START | KEY);
        assert_eq!(told(&[98, 1, 0x41, 9]), SLICE | END);
        for other in [&[][..], &[2], &[32 << 1, 1], &[98, 1, 0x41], &[98, 1, 0xa0, 9], &[96, 1, 0, 2, 2, 1]] {
            assert_eq!(told(other), 0);
        }
    }

    #[test]
    fn fragments_belong_together_by_their_headers() {
        let together = |before: &[u8], payload: &[u8]| continues(Codec::H264, before, payload);
        assert!(together(&[0x7c, 0x85, 1], &[0x7c, 0x05, 2]));
        assert!(together(&[0x7c, 0x05, 1], &[0x7c, 0x45, 2]));
        assert!(!together(&[0x7c, 0x05, 1], &[0x7c, 0x41, 2]));
        assert!(!together(&[0x7c, 0x05, 1], &[0x5c, 0x05, 2]));
    }

    fn fitted(codec: Codec, payload: &[u8], limit: usize) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        fit(codec, payload, limit, |piece| found.push(piece.to_vec()));
        found
    }

    #[test]
    fn what_is_too_large_is_cut() {
        assert_eq!(fitted(Codec::H264, b"\x41ab", 3), [b"\x41ab"]);
        assert_eq!(fitted(Codec::H264, b"\x41abc", 3), [b"\x5c\x81a", b"\x5c\x01b", b"\x5c\x41c"]);
        assert_eq!(fitted(Codec::H264, b"\x5c\x81ab", 3), [b"\x5c\x81a", b"\x5c\x01b"]);
        assert_eq!(fitted(Codec::H264, b"\x5c\x41ab", 3), [b"\x5c\x01a", b"\x5c\x41b"]);
        assert_eq!(fitted(Codec::H265, b"\x02\x01abc", 4), [b"\x62\x01\x81a", b"\x62\x01\x01b", b"\x62\x01\x41c"]);
        assert_eq!(fitted(Codec::H265, b"\x62\x01\x01ab", 4), [b"\x62\x01\x01a", b"\x62\x01\x01b"]);
    }

    #[test]
    fn emulation_prevention_is_taken_out() {
        // 32 zeros and more are no number; with the byte that is put in they would be 22 zeros and a one.
        assert!(!is_b(&[0, 0, 3, 0, 0, 3, 0xff]));
        // ue(65535), then ue(1): 16 zeros, a one, 16 bits; 010.
        assert!(is_b(&[0, 0, 3, 0x80, 0, 0x20]));
        assert!(!is_b(&[]));
        assert!(!is_b(&[0x80]));
    }
}
