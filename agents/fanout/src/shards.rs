//! A chunk for all viewers, on as many threads as pay: each has its part of the list and a lane of its own.
//!
//! Threads are made for each chunk and joined before the call ends. One costs some 30 us, a viewer's frame some 15 us,
//! so few viewers are served by the caller's thread alone; and nothing is left behind that would have to be ended.

#![forbid(unsafe_code)]

use std::panic::resume_unwind;
use std::thread;

use crate::lane::{Lane, Work};
use crate::stream::{State, Stream};
use crate::wire::{Method, Wire};

/// The lanes, one per thread.
pub struct Shards {
    lanes: Vec<Lane>,
    least: usize,
}

impl Shards {
    /// `threads` counts the caller's own; each serves at least `least` viewers, as far as there are so many.
    #[must_use]
    pub fn new(threads: usize, least: usize) -> Self {
        Self { lanes: (0..threads.max(1)).map(|_| Lane::default()).collect(), least: least.max(1) }
    }

    /// The lane of the caller's thread.
    pub fn own(&mut self) -> &mut Lane {
        &mut self.lanes[0]
    }

    /// Bytes of UDP payload that were sent.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.octets).sum()
    }

    /// Builds and sends the chunk for each of these viewers; what became of it is in their `progress`. Gives back the
    /// method to go on with.
    pub fn serve(
        &mut self,
        work: &Work<'_>,
        wire: &mut dyn Wire,
        links: usize,
        method: Method,
        streams: &mut [Stream],
    ) -> Method {
        let wanted = (streams.len() / self.least).clamp(1, self.lanes.len());
        let wires: Vec<_> = (1..wanted).map_while(|_| wire.fork()).collect();
        let size = streams.len().div_ceil(wires.len() + 1).max(1);
        let mut lanes = self.lanes.iter_mut();
        let mut parts = streams.chunks_mut(size);
        let (Some(lane), Some(own)) = (lanes.next(), parts.next()) else { return method };
        thread::scope(|scope| {
            let others: Vec<_> = parts
                .zip(lanes)
                .zip(wires)
                .map(|((part, lane), mut wire)| scope.spawn(move || serve(work, &mut *wire, links, method, lane, part)))
                .collect();
            let found = serve(work, wire, links, method, lane, own);
            let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            joined.fold(found, |found, other| if found == method { other } else { found })
        })
    }
}

/// The same for a part of the viewers, on one thread.
fn serve(
    work: &Work<'_>,
    wire: &mut dyn Wire,
    links: usize,
    mut method: Method,
    lane: &mut Lane,
    streams: &mut [Stream],
) -> Method {
    for link in 0..links {
        let mut way = if wire.batches(link) { method } else { Method::Single };
        for place in 0..streams.len() {
            let stream = &mut streams[place];
            if stream.link != link {
                continue;
            }
            match stream.state {
                State::Live => {}
                State::Waiting if work.chunk.key => stream.start(work.first),
                State::Waiting | State::Behind(_) | State::Failed => continue,
            }
            stream.progress.served = true;
            lane.add(work, place, stream, way);
            if lane.is_full() {
                way = lane.flush(wire, link, way, streams);
            }
        }
        way = lane.flush(wire, link, way, streams);
        if wire.batches(link) {
            method = way;
        }
    }
    method
}
