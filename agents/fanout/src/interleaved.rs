//! What a camera sends, taken apart: the binary frames of an RTSP connection (RFC 2326 section 10.12), and RTP packets
//! (RFC 3550) in runs.
//!
//! The rules are those of the Python sources, `sources/rtsp/wire.py` and `media/runs.py`, and one suite of tests holds
//! both to them; these functions look at bytes and keep nothing. What is gained: a frame of pictures is a dozen packets,
//! and nothing has to be interpreted for each of them.

#![forbid(unsafe_code)]

use std::ops::Range;

use crate::slices::{Codec, END, SLICE, START, continues, part};

const DOLLAR: u8 = b'$';
const FRAME_HEADER: usize = 4;
const RTP_HEADER: usize = 12;
const MARKER: u8 = 0x80;

/// The binary frames at the beginning of a piece of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Channels, and where their data lies.
    pub frames: Vec<(u8, Range<usize>)>,
    /// Where they end.
    pub end: usize,
    /// Bytes from there without which the frame that begins there is not whole; 0: none begins there.
    pub wanted: usize,
}

/// Cuts binary frames off, from `start` up to the first byte that begins none.
#[must_use]
pub fn cut(data: &[u8], start: usize) -> Cut {
    let mut found = Cut { end: start, ..Cut::default() };
    while let Some(&[DOLLAR, ref head @ ..]) = data.get(found.end..) {
        let begin = found.end + FRAME_HEADER;
        let length = head.get(1..3).map_or(0, |size| usize::from(u16::from_be_bytes([size[0], size[1]])));
        let end = begin + length;
        if end > data.len() {
            found.wanted = end - found.end;
            break;
        }
        found.frames.push((head[0], begin..end));
        found.end = end;
    }
    found
}

/// An RTP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub payload_type: u8,
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    /// Where its payload lies.
    pub payload: Range<usize>,
}

/// The packet in `data`, without CSRC list, header extension and padding; None when it is none.
#[must_use]
pub fn parse(data: &[u8]) -> Option<Packet> {
    let head = data.first_chunk::<RTP_HEADER>()?;
    if head[0] >> 6 != 2 {
        return None;
    }
    let mut start = RTP_HEADER + 4 * usize::from(head[0] & 0x0f);
    if head[0] & 0x10 != 0 {
        let words = data.get(start + 2..start + 4)?;
        start += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    let mut end = data.len();
    if head[0] & 0x20 != 0 {
        let padding = usize::from(data[end - 1]);
        end = end.checked_sub(padding).filter(|_| padding > 0)?;
    }
    (start <= end).then(|| Packet {
        payload_type: head[1] & 0x7f,
        marker: head[1] & MARKER != 0,
        sequence: u16::from_be_bytes([head[2], head[3]]),
        timestamp: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        ssrc: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
        payload: start..end,
    })
}

/// Packets that differ in nothing but their numbers, which go on by one, and in what they carry of one slice; the last
/// one alone may end a frame. What is no part of a slice is a run by itself, of the shape 0.
#[derive(Debug, PartialEq, Eq)]
pub struct Run<'a> {
    pub payload_type: u8,
    pub marker: bool,
    /// Of the first packet.
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub payloads: Vec<&'a [u8]>,
    /// See `slices`.
    pub shape: u8,
}

impl<'a> Run<'a> {
    fn new(packet: &Packet, payload: &'a [u8], shape: u8) -> Self {
        Self {
            payload_type: packet.payload_type,
            marker: packet.marker,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            ssrc: packet.ssrc,
            payloads: vec![payload],
            shape,
        }
    }

    /// Takes the next packet in; false when it begins another run.
    fn take(&mut self, codec: Codec, packet: &Packet, payload: &'a [u8], shape: u8) -> bool {
        let goes_on = self.shape & (SLICE | END) == SLICE
            && shape & (SLICE | START) == SLICE
            && !self.marker
            && packet.sequence == self.sequence.wrapping_add(self.payloads.len() as u16)
            && (packet.payload_type, packet.timestamp, packet.ssrc) == (self.payload_type, self.timestamp, self.ssrc)
            && self.payloads.last().is_some_and(|before| continues(codec, before, payload));
        if goes_on {
            self.payloads.push(payload);
            self.shape |= shape;
            self.marker = packet.marker;
        }
        goes_on
    }
}

/// Takes packets apart, and says how many were none.
pub fn runs<'a>(codec: Codec, packets: impl Iterator<Item = &'a [u8]>) -> (Vec<Run<'a>>, usize) {
    let (mut found, mut malformed) = (Vec::<Run<'a>>::new(), 0);
    for data in packets {
        let Some(packet) = parse(data) else {
            malformed += 1;
            continue;
        };
        let payload = &data[packet.payload.clone()];
        let shape = part(codec, payload);
        if !found.last_mut().is_some_and(|run| run.take(codec, &packet, payload, shape)) {
            found.push(Run::new(&packet, payload, shape));
        }
    }
    (found, malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(first: u8, second: u8, sequence: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![first, second];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 7, 0, 0, 0, 9]);
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn frames_are_cut_off_and_the_rest_is_left() {
        let data = b"$\x01\0\x03abc$\x02\0\0RTSP/1.0";
        let found = cut(data, 0);
        assert_eq!(found, Cut { frames: vec![(1, 4..7), (2, 11..11)], end: 11, wanted: 0 });
        assert_eq!(cut(data, 11), Cut { end: 11, ..Cut::default() });
        assert_eq!(cut(data, data.len()).end, data.len());
    }

    #[test]
    fn what_is_not_whole_is_told() {
        let data = b"$\x01\0\x03abc";
        for length in 1..4 {
            assert_eq!(cut(&data[..length], 0).wanted, 4);
        }
        for length in 4..7 {
            assert_eq!(cut(&data[..length], 0), Cut { wanted: 7, ..Cut::default() });
        }
    }

    #[test]
    fn packets_are_taken_apart() {
        let plain = parse(&rtp(0x80, 0xe0, 0xfffe, b"abc")).unwrap();
        assert_eq!((plain.payload_type, plain.marker, plain.sequence), (0x60, true, 0xfffe));
        assert_eq!((plain.timestamp, plain.ssrc, plain.payload), (7, 9, 12..15));
        assert_eq!(parse(&rtp(0x81, 0x60, 1, b"csrcabc")).unwrap().payload, 16..19);
        assert_eq!(parse(&rtp(0x90, 0x60, 1, b"\0\0\0\x01wordabc")).unwrap().payload, 20..23);
        assert_eq!(parse(&rtp(0xa0, 0x60, 1, b"abc\0\x02")).unwrap().payload, 12..15);
    }

    #[test]
    fn what_is_no_packet_is_none() {
        let flaws: [(u8, &[u8]); 6] =
            [(0x40, b""), (0x8f, b"abc"), (0x90, b"\0\0"), (0x90, b"\0\0\0\x09abc"), (0xa0, b"\0"), (0xa0, b"abc\xff")];
        for (first, payload) in flaws {
            assert_eq!(parse(&rtp(first, 0x60, 1, payload)), None);
        }
        assert_eq!(parse(&rtp(0x80, 0x60, 1, b"")[..11]), None);
        assert_eq!(parse(&[]), None);
    }

    #[test]
    fn packets_of_a_slice_are_one_run() {
        let packets = [
            rtp(0x80, 0x60, 0xffff, b"\x7c\x81a"),
            rtp(0x80, 0x60, 0, b"\x7c\x01b"),
            rtp(0x80, 0xe0, 1, b"\x7c\x41c"),
            rtp(0x80, 0xe0, 2, b"\x41d"),
        ];
        let (found, malformed) = runs(Codec::H264, packets.iter().map(Vec::as_slice));
        assert_eq!((found.len(), malformed), (2, 0));
        assert_eq!((found[0].sequence, found[0].payloads.len(), found[0].marker), (0xffff, 3, true));
        assert_eq!((found[0].shape, found[1].shape), (SLICE | START | END, SLICE | START | END));
    }

    #[test]
    fn what_differs_begins_another_run() {
        let count = |packets: &[Vec<u8>]| runs(Codec::H264, packets.iter().map(Vec::as_slice)).0.len();
        let first = || rtp(0x80, 0x60, 5, b"\x7c\x81a");
        let mut elsewhere = rtp(0x80, 0x60, 6, b"\x7c\x01b");
        elsewhere[11] = 1;
        let others = [
            rtp(0x80, 0x60, 7, b"\x7c\x01b"),
            rtp(0x80, 0x61, 6, b"\x7c\x01b"),
            rtp(0x80, 0x60, 6, b"\x7c\x81b"),
            rtp(0x80, 0x60, 6, b"\x7c\x05b"),
            rtp(0x80, 0x60, 6, b"\x41b"),
            rtp(0x80, 0x60, 6, b""),
            elsewhere,
        ];
        assert_eq!(count(&[first(), rtp(0x80, 0x60, 6, b"\x7c\x01b")]), 1);
        for other in others {
            assert_eq!(count(&[first(), other]), 2);
        }
        assert_eq!(count(&[rtp(0x80, 0xe0, 5, b"\x7c\x81a"), rtp(0x80, 0x60, 6, b"\x7c\x01b")]), 2);
        assert_eq!(count(&[rtp(0x80, 0x60, 5, b"\x7c\x41a"), rtp(0x80, 0x60, 6, b"\x7c\x01b")]), 2);
        assert_eq!(runs(Codec::H264, [&b"?"[..]].into_iter()).1, 1);
    }
}
