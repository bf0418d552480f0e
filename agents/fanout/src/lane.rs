//! Where packets are built, and how they get from there to the wire.
//!
//! Packets of several viewers are built one after the other in one buffer and handed over together: large enough that a
//! system call is worth it, small enough that what was just encrypted is still in the cache when the kernel copies it.

#![forbid(unsafe_code)]

use std::ops::Range;

use crate::ring::Chunk;
use crate::stream::{State, Stream};
use crate::wire::{Errno, Message, Method, Wire};

/// A lane with this many bytes is handed over.
const FULL_BYTES: usize = 256 << 10;
/// What one segmented datagram may hold: 65535 less the headers of IP and UDP, and something for options.
const MAX_DATAGRAM_BYTES: usize = 65_000;

/// A chunk, or some packets of one, on the way to viewers.
pub struct Work<'a> {
    pub chunk: &'a Chunk,
    /// Ring index of the chunk's first packet.
    pub first: u64,
    /// Which of its packets.
    pub packets: Range<usize>,
    /// How many packets may leave as one segmented datagram.
    pub segments: u16,
}

#[derive(Default)]
pub struct Lane {
    buffer: Vec<u8>,
    used: usize,
    messages: Vec<Message>,
    /// Bytes of UDP payload that were sent through this lane.
    pub octets: u64,
}

impl Lane {
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.used >= FULL_BYTES
    }

    /// Builds the packets for one viewer; `place` is its place in the list given to `flush`.
    pub fn add(&mut self, work: &Work<'_>, place: usize, stream: &mut Stream, method: Method) {
        let segments = if method == Method::Segments && stream.segments { work.segments } else { 1 };
        let mut run: Option<Message> = None;
        for at in work.packets.clone() {
            let length = stream.packet_bytes(work.chunk.payload(at).len());
            let end = self.used + length;
            if self.buffer.len() < end {
                self.buffer.resize(end.max(FULL_BYTES), 0);
            }
            let packet = &mut self.buffer[self.used..end];
            if stream.build(work.chunk, at, work.first + at as u64, packet).is_err() {
                stream.state = State::Failed;
                break;
            }
            match &mut run {
                Some(message) if joins(message, length, segments) => {
                    message.packets += 1;
                    message.length += length;
                }
                _ => {
                    self.messages.extend(run.take());
                    run = Some(Message {
                        offset: self.used,
                        length,
                        segment: u16::try_from(length).unwrap_or(u16::MAX),
                        packets: 1,
                        stream: place,
                        address: stream.address,
                    });
                }
            }
            self.used = end;
        }
        self.messages.extend(run);
    }

    /// Hands everything over. A viewer one of whose packets is refused keeps those before it and loses those after it.
    ///
    /// Gives back the method to go on with: a call that does not exist is not tried again.
    pub fn flush(&mut self, wire: &mut dyn Wire, link: usize, mut method: Method, streams: &mut [Stream]) -> Method {
        let mut at = 0;
        while let Some(message) = self.messages.get(at) {
            let stream = &mut streams[message.stream];
            if stream.progress.refused.is_some() {
                at += 1;
                continue;
            }
            if method == Method::Single {
                self.octets += one_by_one(wire, link, &self.buffer, message, stream);
                at += 1;
                continue;
            }
            match wire.send_many(link, &self.buffer, &self.messages[at..]) {
                Ok(count) if count > 0 => {
                    for taken in &self.messages[at..][..count] {
                        streams[taken.stream].progress.sent += usize::from(taken.packets);
                        self.octets += taken.length as u64;
                    }
                    at += count;
                }
                Err(Errno::INTERRUPTED) => {}
                Err(Errno::NO_SUCH_CALL) => method = Method::Single,
                Err(error) if message.packets > 1 && error.refuses_segments() => {
                    stream.segments = false;
                    self.octets += one_by_one(wire, link, &self.buffer, message, stream);
                    at += 1;
                }
                Ok(_) => {
                    stream.progress.refused = Some(Errno(libc::EAGAIN));
                    at += 1;
                }
                Err(error) => {
                    stream.progress.refused = Some(error);
                    at += 1;
                }
            }
        }
        self.messages.clear();
        self.used = 0;
        method
    }
}

/// Whether one more packet may leave in the same datagram: the last of a run may be shorter, no other.
fn joins(run: &Message, length: usize, segments: u16) -> bool {
    let segment = usize::from(run.segment);
    run.packets < segments
        && length <= segment
        && run.length == usize::from(run.packets) * segment
        && run.length + length <= MAX_DATAGRAM_BYTES
}

/// Sends a message's packets each for itself, up to the first that is refused; how many bytes were sent.
fn one_by_one(wire: &mut dyn Wire, link: usize, buffer: &[u8], message: &Message, stream: &mut Stream) -> u64 {
    let mut octets = 0;
    let data = &buffer[message.offset..][..message.length];
    for packet in data.chunks(usize::from(message.segment)) {
        let result = loop {
            match wire.send_one(link, packet, &message.address) {
                Err(Errno::INTERRUPTED) => {}
                result => break result,
            }
        };
        if let Err(error) = result {
            stream.progress.refused = Some(error);
            break;
        }
        stream.progress.sent += 1;
        octets += packet.len() as u64;
    }
    octets
}
