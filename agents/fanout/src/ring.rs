//! The last packets as plaintext, kept once for all viewers: what NACKs are answered from.
//!
//! Packets have an absolute index that only grows; viewers translate their sequence numbers into it. They are stored as
//! they came, a chunk (a frame, or a part of one) in one piece: sending a chunk, or all since a key frame, to one more
//! viewer reads memory in order. Bounded in packets and in bytes; the oldest packets go first, and a chunk's memory with
//! its last packet.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// Consecutive packets of one frame.
#[derive(Debug, Default)]
pub struct Chunk {
    data: Vec<u8>,
    /// Where each payload ends in `data`.
    ends: Vec<usize>,
    pub timestamp: u32,
    /// The frame ends here: the last packet gets the marker bit.
    pub last: bool,
    /// A decoder can start here.
    pub key: bool,
}

impl Chunk {
    #[must_use]
    pub fn new(timestamp: u32, last: bool, key: bool) -> Self {
        Self { timestamp, last, key, ..Self::default() }
    }

    /// Room for so many bytes in so many packets.
    pub fn reserve(&mut self, bytes: usize, packets: usize) {
        self.data.reserve_exact(bytes);
        self.ends.reserve_exact(packets);
    }

    pub fn push(&mut self, payload: &[u8]) {
        self.data.extend_from_slice(payload);
        self.ends.push(self.data.len());
    }

    /// How many packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of the first `packets` payloads.
    #[must_use]
    pub fn octets(&self, packets: usize) -> usize {
        packets.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    #[must_use]
    pub fn payload(&self, at: usize) -> &[u8] {
        &self.data[self.octets(at)..self.ends[at]]
    }

    #[must_use]
    pub fn marker(&self, at: usize) -> bool {
        self.last && at + 1 == self.ends.len()
    }
}

struct Kept {
    first: u64,
    chunk: Chunk,
}

/// Index -> packet for the newest packets.
pub struct Ring {
    chunks: VecDeque<Kept>,
    max_packets: u64,
    max_bytes: usize,
    bytes: usize,
    first: u64,
    next: u64,
}

impl Ring {
    #[must_use]
    pub fn new(max_packets: u64, max_bytes: usize) -> Self {
        Self { chunks: VecDeque::new(), max_packets: max_packets.max(1), max_bytes, bytes: 0, first: 0, next: 0 }
    }

    /// Index of the packet that comes next.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// Keeps a chunk and gives it back, with the index of its first packet; None for an empty one.
    pub fn push(&mut self, chunk: Chunk) -> Option<(u64, &Chunk)> {
        if chunk.is_empty() {
            return None;
        }
        let first = self.next;
        self.next += chunk.len() as u64;
        self.bytes += chunk.octets(chunk.len());
        self.chunks.push_back(Kept { first, chunk });
        while self.next - self.first > self.max_packets || (self.bytes > self.max_bytes && self.first + 1 < self.next) {
            self.drop_first();
        }
        self.chunks.back().map(|kept| (kept.first, &kept.chunk))
    }

    /// The chunk that has a packet, and the packet's place in it; None when it is gone or was never there.
    #[must_use]
    pub fn get(&self, index: u64) -> Option<(&Chunk, usize)> {
        if index < self.first || index >= self.next {
            return None;
        }
        let after = self.chunks.partition_point(|kept| kept.first <= index);
        let kept = self.chunks.get(after.checked_sub(1)?)?;
        Some((&kept.chunk, usize::try_from(index - kept.first).ok()?))
    }

    fn drop_first(&mut self) {
        let Some(kept) = self.chunks.front() else { return };
        let at = usize::try_from(self.first - kept.first).unwrap_or(usize::MAX);
        self.bytes -= kept.chunk.payload(at).len();
        self.first += 1;
        // The newest chunk stays in one piece: it is being sent.
        if at + 1 == kept.chunk.len() && self.chunks.len() > 1 {
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(sizes: &[usize]) -> Chunk {
        let mut chunk = Chunk::new(7, true, false);
        for &size in sizes {
            chunk.push(&vec![u8::try_from(size).unwrap(); size]);
        }
        chunk
    }

    fn sizes(ring: &Ring, to: u64) -> Vec<usize> {
        (0..to).filter_map(|i| ring.get(i)).map(|(chunk, at)| chunk.payload(at).len()).collect()
    }

    #[test]
    fn packets_are_found_by_index() {
        let mut ring = Ring::new(100, 1000);
        assert_eq!(ring.push(chunk(&[1, 2, 3])).unwrap().0, 0);
        assert_eq!(ring.push(chunk(&[4])).unwrap().0, 3);
        assert_eq!(ring.next_index(), 4);
        assert_eq!(sizes(&ring, 10), [1, 2, 3, 4]);
        let (found, at) = ring.get(2).unwrap();
        assert_eq!((found.payload(at), found.marker(at), found.timestamp), (&[3, 3, 3][..], true, 7));
        assert!(!found.marker(1));
        assert!(ring.get(4).is_none());
    }

    #[test]
    fn an_empty_chunk_is_nothing() {
        assert!(Ring::new(1, 1).push(chunk(&[])).is_none());
    }

    #[test]
    fn the_oldest_packets_go_first_one_by_one() {
        let mut ring = Ring::new(4, 1000);
        ring.push(chunk(&[1, 2, 3]));
        ring.push(chunk(&[4, 5]));
        assert_eq!(sizes(&ring, 5), [2, 3, 4, 5]);
        ring.push(chunk(&[6, 7]));
        assert_eq!(sizes(&ring, 9), [4, 5, 6, 7]);
        assert_eq!(ring.chunks.len(), 2);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut ring = Ring::new(100, 10);
        ring.push(chunk(&[4, 4]));
        ring.push(chunk(&[4]));
        assert_eq!(sizes(&ring, 9), [4, 4]);
        // One packet alone may be larger than all may be.
        ring.push(chunk(&[50]));
        assert_eq!(sizes(&ring, 9), [50]);
        ring.push(chunk(&[1]));
        assert_eq!(sizes(&ring, 9), [1]);
        assert_eq!(ring.bytes, 1);
    }

    #[test]
    fn the_newest_chunk_is_whole_even_when_nothing_of_it_may_be_kept() {
        let mut ring = Ring::new(2, 1000);
        let (first, newest) = ring.push(chunk(&[1, 2, 3, 4])).unwrap();
        assert_eq!((first, newest.len(), newest.octets(4)), (0, 4, 10));
        assert_eq!(sizes(&ring, 9), [3, 4]);
        ring.push(chunk(&[5, 6]));
        assert_eq!(sizes(&ring, 9), [5, 6]);
        assert_eq!(ring.chunks.len(), 1);
    }
}
