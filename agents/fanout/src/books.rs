//! What is counted and decided about a viewer after something was sent to it, or was not.

#![forbid(unsafe_code)]

use std::mem::take;

use crate::fanout::{Events, Limits, Totals};
use crate::ring::Chunk;
use crate::stream::{Behind, Progress, State, Stream};

pub struct Books<'a> {
    pub limits: Limits,
    /// Timestamp and time of the newest chunk: what the stream's clock shows, also to a viewer who is behind.
    pub newest: (u32, f64),
    pub totals: &'a mut Totals,
    pub events: &'a mut Events,
}

impl Books<'_> {
    /// After a chunk. A viewer who did not get all of it falls behind if its socket was full, else it pauses.
    pub fn settle(&mut self, stream: &mut Stream, chunk: &Chunk, first: u64) {
        let Progress { served, sent, refused } = take(&mut stream.progress);
        if !served {
            // Who is behind gets it later, and before a viewer's first packet nothing is missing.
            if !matches!(stream.state, State::Behind(_)) && stream.counters.packets > 0 {
                self.drop(stream, chunk.len() as u64);
            }
            return;
        }
        if sent > 0 {
            stream.reach(first + sent as u64);
            self.count(stream, sent, chunk.octets(sent));
        }
        let missing = (chunk.len() - sent) as u64;
        if stream.state == State::Failed {
            self.end(stream, missing);
        } else if missing > 0 {
            if refused.is_some_and(crate::wire::Errno::is_full) {
                let now = self.newest.1;
                let place = first + sent as u64;
                stream.state = State::Behind(Behind { place, held: true, stuck_since: Some(now), sliced_at: now });
                self.totals.delayed += 1;
            } else {
                self.pause(stream, missing);
            }
        }
    }

    pub fn count(&mut self, stream: &mut Stream, sent: usize, octets: usize) {
        if stream.counters.packets == 0 {
            self.events.started.push(stream.handle);
        }
        let (timestamp, time) = self.newest;
        let earned = self.limits.resend_share * f64::from(u32::try_from(sent).unwrap_or(u32::MAX));
        stream.budget = self.limits.resend_burst.min(stream.budget + earned);
        stream.counters.last_timestamp = stream.wire_timestamp(timestamp);
        stream.counters.last_sent = time;
        stream.counters.packets += sent as u64;
        stream.counters.octets += octets as u64;
        self.totals.packets += sent as u64;
    }

    /// The viewer goes on at the next key frame.
    pub fn pause(&mut self, stream: &mut Stream, dropped: u64) {
        stream.state = State::Waiting;
        self.drop(stream, dropped);
    }

    /// No number is left: nothing is sent to the viewer any more.
    pub fn end(&mut self, stream: &mut Stream, dropped: u64) {
        self.events.failed.push(stream.handle);
        self.drop(stream, dropped);
    }

    fn drop(&mut self, stream: &mut Stream, packets: u64) {
        stream.counters.dropped += packets;
        self.totals.dropped += packets;
    }
}
