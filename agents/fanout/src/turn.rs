//! A slice for one viewer who is behind: the next packets from its place in the ring.

#![forbid(unsafe_code)]

use std::mem::take;
use std::slice;

use crate::books::Books;
use crate::lane::{Lane, Work};
use crate::pace::Pace;
use crate::ring::Ring;
use crate::stream::{Behind, Progress, State, Stream};
use crate::wire::{Method, Wire};

pub struct Turn<'a> {
    pub ring: &'a Ring,
    pub pace: &'a Pace,
    pub books: Books<'a>,
    pub lane: &'a mut Lane,
    pub wire: &'a mut dyn Wire,
    pub method: &'a mut Method,
    pub segments: u16,
    pub now: f64,
}

/// What became of a part of a slice.
enum Part {
    /// All of it was sent, or all that there is.
    Sent(usize),
    /// This much was sent; the viewer's state is settled.
    Over(usize),
}

impl Turn<'_> {
    /// How many packets were sent; the viewer's state says what is next. `group`: where the newest group begins.
    pub fn run(&mut self, stream: &mut Stream, mut behind: Behind, group: Option<u64>) -> usize {
        let end = self.ring.next_index();
        let most = self.pace.slice(self.now - behind.sliced_at);
        behind.sliced_at = self.now;
        let mut total = 0;
        while total < most && behind.place < end {
            // Much that is ahead of a newer key frame is left out, but no frame is cut in two.
            let skip = group.filter(|start| start.saturating_sub(behind.place) > self.pace.skip);
            let stop = skip.map_or(end, |start| self.frame_start(behind.place, start));
            if let Some(start) = skip.filter(|_| stop == behind.place) {
                self.books.totals.skipped += start - behind.place;
                stream.start(start);
                behind.place = start;
                continue;
            }
            let room = usize::try_from(stop - behind.place).unwrap_or(most).min(most - total);
            match self.part(stream, &mut behind, room) {
                Part::Sent(sent) => total += sent,
                Part::Over(sent) => return total + sent,
            }
        }
        stream.state = if behind.place < end { State::Behind(behind) } else { State::Live };
        total
    }

    /// The first packet of a frame, from this place on.
    fn frame_start(&self, place: u64, limit: u64) -> u64 {
        let mut index = place;
        while index < limit {
            let Some((chunk, at)) = self.ring.get(index) else { break };
            let before =
                if at > 0 { Some(chunk) } else { index.checked_sub(1).and_then(|i| self.ring.get(i)).map(|b| b.0) };
            if before.is_none_or(|before| before.timestamp != chunk.timestamp) {
                break;
            }
            index += (chunk.len() - at) as u64;
        }
        index.min(limit)
    }

    /// Sends so many packets from the viewer's place.
    fn part(&mut self, stream: &mut Stream, behind: &mut Behind, most: usize) -> Part {
        let missing = self.ring.next_index() - behind.place;
        if self.ring.get(behind.place).is_none() || (behind.held && missing > self.pace.backlog) {
            self.books.pause(stream, missing);
            return Part::Over(0);
        }
        self.send(stream, behind.place, most);
        let Progress { sent, refused, .. } = take(&mut stream.progress);
        if sent > 0 {
            let packets = (behind.place..).take(sent).filter_map(|index| self.ring.get(index));
            self.books.count(stream, sent, packets.map(|(chunk, at)| chunk.payload(at).len()).sum());
            behind.place += sent as u64;
            stream.reach(behind.place);
            behind.stuck_since = None;
        }
        let missing = missing - sent as u64;
        if stream.state == State::Failed {
            self.books.end(stream, missing);
            return Part::Over(sent);
        }
        let Some(error) = refused else { return Part::Sent(sent) };
        let since = *behind.stuck_since.get_or_insert(self.now);
        if error.is_full() && self.now - since <= self.pace.stuck {
            stream.state = State::Behind(*behind);
        } else {
            self.books.pause(stream, missing);
        }
        Part::Over(sent)
    }

    /// Builds so many packets, and hands them over.
    fn send(&mut self, stream: &mut Stream, mut index: u64, mut most: usize) {
        let link = stream.link;
        let method = if self.wire.batches(link) { *self.method } else { Method::Single };
        while most > 0 && stream.state != State::Failed {
            let Some((chunk, at)) = self.ring.get(index) else { break };
            let count = (chunk.len() - at).min(most);
            let work = Work { chunk, first: index - at as u64, packets: at..at + count, segments: self.segments };
            self.lane.add(&work, 0, stream, method);
            index += count as u64;
            most -= count;
        }
        let after = self.lane.flush(self.wire, link, method, slice::from_mut(stream));
        if self.wire.batches(link) {
            *self.method = after;
        }
    }
}
