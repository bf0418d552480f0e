//! One viewer: where its packets go, its keys, its numbers, its counters.
//!
//! A viewer sends packet `i` of the ring as sequence number `i + offset`, counted without wrapping: the lower 16 bits go
//! on the wire, all of it is the SRTP index. Numbers only grow, and each stands for one packet only: what a full socket
//! refused is built again from the ring, to the same bytes, or its number stays unused.

#![forbid(unsafe_code)]

use std::net::SocketAddr;

use crate::reports::{Moment, sender_report};
use crate::ring::Chunk;
use crate::srtcp::Sealer;
use crate::srtp::{HEADER_BYTES, Srtp, SrtpError};
use crate::wire::Errno;

const VERSION: u8 = 0x80;
const MARKER: u8 = 0x80;
/// RFC 4588 section 4: the number under which the packet was sent before, ahead of its payload.
const OSN_BYTES: usize = 2;

/// A stream of retransmissions; its numbers are its own.
pub struct Rtx {
    pub ssrc: u32,
    pub payload_type: u8,
    pub next: u64,
}

/// What a new viewer comes with.
pub struct Settings {
    pub link: usize,
    pub address: SocketAddr,
    pub srtp: Srtp,
    /// For our reports on the stream.
    pub reports: Sealer,
    pub ssrc: u32,
    pub payload_type: u8,
    pub rtx: Option<Rtx>,
    /// Its first sequence number.
    pub sequence: u64,
    pub timestamp_offset: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counters {
    pub packets: u64,
    pub octets: u64,
    pub last_timestamp: u32,
    pub resent: u64,
    pub dropped: u64,
    /// The caller's clock.
    pub last_sent: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// For a key frame.
    Waiting,
    /// Gets the stream as it comes.
    Live,
    /// Has a place of its own in the ring, and is served from there until it has caught up.
    Behind(Behind),
    /// Encryption refused: an index is used up. Nothing is sent any more.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Behind {
    /// Index of the next packet.
    pub place: u64,
    /// A full socket is the cause.
    pub held: bool,
    /// Since when the socket takes nothing.
    pub stuck_since: Option<f64>,
    /// When the last slice was.
    pub sliced_at: f64,
}

/// What became of a viewer during one chunk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// The chunk is for this viewer.
    pub served: bool,
    /// Packets that were taken from it.
    pub sent: usize,
    /// Why one was not, if so; the rest is not tried.
    pub refused: Option<Errno>,
}

pub struct Stream {
    pub handle: u64,
    pub link: usize,
    pub address: SocketAddr,
    pub state: State,
    /// The path takes segmented datagrams, as far as is known.
    pub segments: bool,
    /// Packets that it may ask for again now.
    pub budget: f64,
    pub counters: Counters,
    pub progress: Progress,
    srtp: Srtp,
    reports: Sealer,
    ssrc: u32,
    payload_type: u8,
    rtx: Option<Rtx>,
    timestamp_offset: u32,
    next: u64,
    /// Added to a ring index, with wrapping, it gives the number.
    offset: u64,
    first_index: u64,
    /// The number after the last one that was sent; up to `next` they are used up.
    reached: u64,
}

impl Stream {
    #[must_use]
    pub fn new(handle: u64, settings: Settings, budget: f64) -> Self {
        Self {
            handle,
            link: settings.link,
            address: settings.address,
            state: State::Waiting,
            segments: true,
            budget,
            counters: Counters::default(),
            progress: Progress::default(),
            srtp: settings.srtp,
            reports: settings.reports,
            ssrc: settings.ssrc,
            payload_type: settings.payload_type,
            rtx: settings.rtx,
            timestamp_offset: settings.timestamp_offset,
            next: settings.sequence,
            offset: 0,
            first_index: 0,
            reached: 0,
        }
    }

    /// Goes on, or begins, with the packet at this index.
    pub fn start(&mut self, index: u64) {
        self.state = State::Live;
        self.offset = self.next.wrapping_sub(index);
        self.first_index = index;
    }

    /// Lets time go on: what would have had the timestamp `from` has `to`, and all that follows is shifted with it.
    pub fn shift(&mut self, from: u32, to: u32) {
        self.timestamp_offset = self.timestamp_offset.wrapping_add(to.wrapping_sub(from));
    }

    /// Into another ring, as `handle`: waits for a key frame there, and finds nothing in it that was not sent from it.
    /// `clock` is what its timestamps would show now, `theirs` what the other ring's do.
    pub fn enter(&mut self, handle: u64, clock: u32, theirs: u32) {
        self.handle = handle;
        if self.state != State::Failed {
            self.state = State::Waiting;
        }
        self.first_index = u64::MAX;
        self.progress = Progress::default();
        if self.counters.packets > 0 {
            self.timestamp_offset = clock.wrapping_sub(theirs);
        }
    }

    /// Everything up to this index was sent.
    pub fn reach(&mut self, index: u64) {
        self.reached = index.wrapping_add(self.offset);
    }

    /// To another address from now on; what the old path could not do, the new one may.
    pub fn redirect(&mut self, link: usize, address: SocketAddr) {
        self.link = link;
        self.address = address;
        self.segments = true;
    }

    #[must_use]
    pub fn has_rtx(&self) -> bool {
        self.rtx.is_some()
    }

    #[must_use]
    pub fn wire_timestamp(&self, timestamp: u32) -> u32 {
        timestamp.wrapping_add(self.timestamp_offset)
    }

    /// Bytes of a packet on the wire.
    #[must_use]
    pub fn packet_bytes(&self, payload: usize) -> usize {
        HEADER_BYTES + payload + self.srtp.tag_bytes()
    }

    /// Makes the packet at `index`, which is the chunk's packet `at`. `packet` has `packet_bytes`.
    ///
    /// # Errors
    /// When no number is left.
    pub fn build(&mut self, chunk: &Chunk, at: usize, index: u64, packet: &mut [u8]) -> Result<(), SrtpError> {
        let number = index.wrapping_add(self.offset);
        self.write(chunk, at, number, packet)?;
        self.next = self.next.max(number + 1);
        Ok(())
    }

    fn write(&self, chunk: &Chunk, at: usize, number: u64, packet: &mut [u8]) -> Result<(), SrtpError> {
        let payload = chunk.payload(at);
        let second = self.payload_type | if chunk.marker(at) { MARKER } else { 0 };
        write_header(packet, second, number, self.wire_timestamp(chunk.timestamp), self.ssrc);
        self.srtp.protect_from(packet, payload, self.ssrc, number)
    }

    /// Makes a packet again for who missed it: by RTX, or the very same one where the peer has no RTX.
    ///
    /// # Errors
    /// When no number is left.
    pub fn build_again(&mut self, chunk: &Chunk, at: usize, number: u64) -> Result<Vec<u8>, SrtpError> {
        let payload = chunk.payload(at);
        let timestamp = self.wire_timestamp(chunk.timestamp);
        let Some(rtx) = &mut self.rtx else {
            let mut packet = vec![0; self.packet_bytes(payload.len())];
            self.write(chunk, at, number, &mut packet)?;
            return Ok(packet);
        };
        let mut packet = vec![0; HEADER_BYTES + OSN_BYTES + payload.len() + self.srtp.tag_bytes()];
        let second = rtx.payload_type | if chunk.marker(at) { MARKER } else { 0 };
        write_header(&mut packet, second, rtx.next, timestamp, rtx.ssrc);
        let (osn, rest) = packet[HEADER_BYTES..].split_at_mut(OSN_BYTES);
        osn.copy_from_slice(&on_wire(number));
        rest[..payload.len()].copy_from_slice(payload);
        self.srtp.protect(&mut packet, rtx.ssrc, rtx.next)?;
        rtx.next += 1;
        Ok(packet)
    }

    /// Makes a sender report, sealed.
    ///
    /// # Errors
    /// When no index is left for one.
    pub fn report(&mut self, cname: &str, at: &Moment) -> Result<Vec<u8>, SrtpError> {
        self.reports.seal(sender_report(self.ssrc, &self.counters, cname, at))
    }

    /// The number (in full), the ring index and the age of what a NACK names; None if it was not sent, or not since the
    /// last start.
    #[must_use]
    pub fn locate(&self, wire_number: u16) -> Option<(u64, u64, u64)> {
        let newest = self.next.checked_sub(1)?;
        let age = newest.wrapping_sub(u64::from(wire_number)) & 0xffff;
        let number = newest.checked_sub(age)?;
        let index = number.wrapping_sub(self.offset);
        // A number from before the start has an index below the first one or, wrapped, one that the ring has not.
        (index >= self.first_index && number < self.reached).then_some((number, index, age))
    }
}

fn on_wire(number: u64) -> [u8; 2] {
    let bytes = number.to_be_bytes();
    [bytes[6], bytes[7]]
}

fn write_header(packet: &mut [u8], second: u8, number: u64, timestamp: u32, ssrc: u32) {
    packet[0] = VERSION;
    packet[1] = second;
    packet[2..4].copy_from_slice(&on_wire(number));
    packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
    packet[8..HEADER_BYTES].copy_from_slice(&ssrc.to_be_bytes());
}
