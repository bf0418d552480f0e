//! All viewers of one stream: who gets a chunk, who waits for a key frame, who may have something again.
//!
//! A viewer who joins in the middle of a group of pictures, or whose socket was full for a moment, is behind: it has a
//! place of its own in the ring, and `catch_up` gives it a slice from there now and then. When that is, and where in the
//! ring a group begins, the caller knows.
//!
//! `shards` serves the viewers, on several threads where there are many viewers and cores.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::books::Books;
use crate::lane::Work;
use crate::pace::Pace;
use crate::reports::{Moment, ticks};
use crate::ring::{Chunk, Ring};
use crate::shards::Shards;
use crate::stream::{Behind, Settings, State, Stream};
use crate::turn::Turn;
use crate::wire::{Errno, Method, Wire};

/// What is bounded, and how.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub ring_packets: u64,
    pub ring_bytes: usize,
    pub max_payload: usize,
    /// Packets that a viewer may ask for again at once, and how many more it earns by each one sent.
    pub resend_burst: f64,
    pub resend_share: f64,
    /// Without RTX a packet goes out under its old number, which receivers accept within their window only.
    pub window: u64,
    /// Packets per segmented datagram.
    pub segments: u16,
    /// How many threads may serve viewers, and how many viewers each must have to be worth it.
    pub threads: usize,
    pub shard_least: usize,
}

/// Counters over all viewers that were ever served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub packets: u64,
    pub octets: u64,
    pub resent: u64,
    pub dropped: u64,
    pub refused: u64,
    pub bursts: u64,
    pub delayed: u64,
    pub skipped: u64,
}

/// Viewers to whom something happened for the first time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Events {
    pub started: Vec<u64>,
    pub failed: Vec<u64>,
}

/// A payload is longer than a packet can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

pub struct FanOut {
    limits: Limits,
    pace: Pace,
    method: Method,
    ring: Ring,
    /// By handle, ascending.
    streams: Vec<Stream>,
    last_handle: u64,
    /// Who is behind, in turn. Who was removed is noticed when its turn comes.
    behind: VecDeque<u64>,
    /// Timestamp and time of the newest chunk.
    newest: (u32, f64),
    /// Of those who were adopted, per second.
    clock_rate: f64,
    shards: Shards,
    totals: Totals,
}

impl FanOut {
    #[must_use]
    pub fn new(limits: Limits, pace: Pace, method: Method) -> Self {
        Self {
            limits,
            pace,
            method,
            ring: Ring::new(limits.ring_packets, limits.ring_bytes),
            streams: Vec::new(),
            last_handle: 0,
            behind: VecDeque::new(),
            newest: (0, 0.0),
            clock_rate: 0.0,
            shards: Shards::new(limits.threads, limits.shard_least),
            totals: Totals::default(),
        }
    }

    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals { octets: self.totals.octets + self.shards.octets(), ..self.totals }
    }

    /// Whether anybody has to catch up.
    #[must_use]
    pub fn anybody_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// A new viewer, who waits for a key frame.
    pub fn add(&mut self, settings: Settings) -> u64 {
        self.last_handle += 1;
        self.streams.push(Stream::new(self.last_handle, settings, self.limits.resend_burst));
        self.last_handle
    }

    pub fn remove(&mut self, handle: u64) {
        if let Some(place) = self.place(handle) {
            self.streams.remove(place);
        }
    }

    /// Takes a viewer out, with all that goes on elsewhere: keys, numbers, counters.
    pub fn release(&mut self, handle: u64) -> Option<Stream> {
        self.place(handle).map(|place| self.streams.remove(place))
    }

    /// Takes in a viewer of another fan-out. Its timestamps, of a clock of so many ticks per second, go on by the time
    /// that has passed.
    pub fn adopt(&mut self, mut stream: Stream, link: usize, clock_rate: f64, now: f64) -> u64 {
        self.last_handle += 1;
        self.clock_rate = clock_rate;
        let clock = stream.counters.last_timestamp.wrapping_add(ticks(now - stream.counters.last_sent, clock_rate));
        let theirs = self.newest.0.wrapping_add(ticks(now - self.newest.1, clock_rate));
        stream.enter(self.last_handle, clock, theirs);
        stream.link = link;
        self.streams.push(stream);
        self.last_handle
    }

    /// Whether a viewer has a place of its own in the ring.
    #[must_use]
    pub fn is_behind(&self, handle: u64) -> bool {
        self.stream(handle).is_some_and(|stream| matches!(stream.state, State::Behind(_)))
    }

    pub fn redirect(&mut self, handle: u64, link: usize, address: SocketAddr) {
        if let Some(place) = self.place(handle) {
            self.streams[place].redirect(link, address);
        }
    }

    #[must_use]
    pub fn stream(&self, handle: u64) -> Option<&Stream> {
        self.place(handle).map(|place| &self.streams[place])
    }

    fn place(&self, handle: u64) -> Option<usize> {
        self.streams.binary_search_by_key(&handle, |stream| stream.handle).ok()
    }

    /// Keeps the chunk in the ring and sends it to everybody who is not waiting for a key frame.
    ///
    /// # Errors
    /// When a payload is too long; then nothing was sent or kept.
    pub fn send(&mut self, wire: &mut dyn Wire, links: usize, chunk: Chunk, now: f64) -> Result<Events, TooLong> {
        if (0..chunk.len()).any(|at| chunk.payload(at).len() > self.limits.max_payload) {
            return Err(TooLong);
        }
        let mut events = Events::default();
        let Some((first, chunk)) = self.ring.push(chunk) else { return Ok(events) };
        if first == 0 {
            // Who was adopted before: until now nothing told what this stream's clock shows.
            let assumed = ticks(now, self.clock_rate);
            for stream in self.streams.iter_mut().filter(|stream| stream.counters.packets > 0) {
                stream.shift(chunk.timestamp, assumed);
            }
        }
        self.newest = (chunk.timestamp, now);
        let work = Work { chunk, first, packets: 0..chunk.len(), segments: self.limits.segments };
        self.method = self.shards.serve(&work, wire, links, self.method, &mut self.streams);
        let mut books =
            Books { limits: self.limits, newest: self.newest, totals: &mut self.totals, events: &mut events };
        for stream in &mut self.streams {
            let was_live = stream.progress.served;
            books.settle(stream, chunk, first);
            if was_live && matches!(stream.state, State::Behind(_)) {
                self.behind.push_back(stream.handle);
            }
        }
        Ok(events)
    }

    /// Lets a viewer begin, or begin again, at an index; false when it is behind, cannot go on, or the packet is gone.
    pub fn burst(&mut self, handle: u64, index: u64, now: f64) -> bool {
        let Some(place) = self.place(handle) else { return false };
        let stream = &mut self.streams[place];
        let Some((chunk, _)) = self.ring.get(index) else { return false };
        if matches!(stream.state, State::Behind(_) | State::Failed) {
            return false;
        }
        if stream.counters.packets > 0 {
            stream.shift(chunk.timestamp, self.newest.0.wrapping_add(self.pace.refresh_step));
        }
        stream.start(index);
        stream.state = State::Behind(Behind { place: index, held: false, stuck_since: None, sliced_at: now });
        self.totals.bursts += 1;
        self.behind.push_back(handle);
        true
    }

    /// A slice for each who is behind, in turn, as far as one tick's work goes. `group` is where the newest group of
    /// pictures begins: who is far ahead of it goes on there.
    pub fn catch_up(&mut self, wire: &mut dyn Wire, group: Option<u64>, now: f64) -> Events {
        let mut events = Events::default();
        let mut room = self.pace.tick_most;
        for _ in 0..self.behind.len() {
            if room == 0 {
                break;
            }
            let Some(handle) = self.behind.pop_front() else { break };
            let Some(at) = self.place(handle) else { continue };
            let stream = &mut self.streams[at];
            let State::Behind(behind) = stream.state else { continue };
            let (limits, newest) = (self.limits, self.newest);
            let mut turn = Turn {
                ring: &self.ring,
                pace: &self.pace,
                books: Books { limits, newest, totals: &mut self.totals, events: &mut events },
                lane: self.shards.own(),
                wire: &mut *wire,
                method: &mut self.method,
                segments: limits.segments,
                now,
            };
            let sent = turn.run(stream, behind, group);
            // Nothing sent is work too: where one socket is full, it is for all.
            room = room.saturating_sub(if sent > 0 { sent } else { self.pace.slice_least });
            if matches!(stream.state, State::Behind(_)) {
                self.behind.push_back(handle);
            }
        }
        events
    }

    /// Tells a viewer what its stream's clock shows, and how much it was sent; bytes of payload until now. None where
    /// that is nothing.
    pub fn report(&mut self, wire: &mut dyn Wire, handle: u64, cname: &str, at: &Moment) -> Option<u64> {
        let place = self.place(handle)?;
        let stream = &mut self.streams[place];
        if stream.counters.packets == 0 {
            return None;
        }
        if !stream.report(cname, at).is_ok_and(|packet| is_sent(wire, stream, &packet)) {
            self.totals.dropped += 1;
        }
        Some(stream.counters.octets)
    }

    /// Answers a NACK: packets since the viewer's last start that the ring still has, within its budget.
    pub fn resend(&mut self, wire: &mut dyn Wire, handle: u64, numbers: &[u16]) {
        let Some(place) = self.place(handle) else { return };
        let stream = &mut self.streams[place];
        if stream.counters.packets == 0 {
            return;
        }
        for &number in numbers {
            let found = stream.locate(number).and_then(|(number, index, age)| {
                let too_old = !stream.has_rtx() && age >= self.limits.window;
                let (chunk, at) = self.ring.get(index)?;
                (!too_old && stream.budget >= 1.0 && stream.state != State::Failed).then_some((number, chunk, at))
            });
            let Some((number, chunk, at)) = found else {
                self.totals.refused += 1;
                continue;
            };
            stream.budget -= 1.0;
            let sent = stream.build_again(chunk, at, number).ok().filter(|packet| is_sent(wire, stream, packet));
            if let Some(packet) = sent {
                stream.counters.resent += 1;
                self.totals.resent += 1;
                self.totals.packets += 1;
                self.totals.octets += packet.len() as u64;
            } else {
                stream.counters.dropped += 1;
                self.totals.dropped += 1;
            }
        }
    }
}

fn is_sent(wire: &mut dyn Wire, stream: &Stream, packet: &[u8]) -> bool {
    loop {
        match wire.send_one(stream.link, packet, &stream.address) {
            Err(Errno::INTERRUPTED) => {}
            result => break result.is_ok(),
        }
    }
}
