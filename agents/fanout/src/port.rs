//! The media port, read by a thread of its own that never takes the interpreter.
//!
//! Nearly all that viewers send is digested by the `Receiver`, and changes nothing that anybody waits for; so nobody is
//! woken for it. What is left over goes into the inbox and rings a bell, which the event loop waits for.
//!
//! Locks. The thread has one of two, never both, and never the interpreter; whoever has the interpreter may take either
//! for a moment, and makes no object of Python's meanwhile: that could run anything. A datagram is digested and
//! answered under the receiver's lock, so once `lift` has returned nothing more is digested or sent for its association.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::receive::{Now, Receiver, Verdict};
use crate::sys::{self, Bell, Received};
use crate::wire::Errno;

/// Datagrams per system call.
const SLOTS: usize = 32;
const SLOT_BYTES: usize = 2048;
/// The stack: system calls have some 10 KB of addresses there.
const STACK_BYTES: usize = 256 << 10;
/// Before reading again where the kernel has no memory to read with.
const RETRY_MS: u16 = 10;
/// Datagrams per second from which on each wake-up is to serve several: what some 400 viewers send.
const DENSE: f64 = 500.0;
/// Then reading waits so long for more. A NACK is late by that at most, which is less than its way takes nearly anywhere.
const NAP_MS: u16 = 5;

/// A datagram for the caller.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    pub data: Vec<u8>,
    pub source: SocketAddr,
    /// Whose RTCP it is, in clear; 0: it is as it came.
    pub association: u64,
}

/// What became of the datagrams that were read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Checks.
    pub answered: u64,
    /// Checks whose answer found the socket full, counted among those that were answered too.
    pub unanswered: u64,
    /// RTCP that was opened here, or was not authentic.
    pub taken: u64,
    /// Left over while the inbox was full. Policy: the newest goes, as it would in a socket.
    pub dropped: u64,
    /// A defect of ours.
    pub failed: u64,
}

#[derive(Default)]
struct Inbox {
    left: VecDeque<Left>,
    counts: Counts,
}

/// What the thread and its caller share.
pub struct Shared {
    receiver: Mutex<Receiver>,
    inbox: Mutex<Inbox>,
    most: usize,
    bell: Bell,
}

impl Shared {
    /// An inbox for so many datagrams.
    ///
    /// # Errors
    /// What the kernel says: no descriptor is left.
    pub fn new(most: usize) -> io::Result<Self> {
        let (receiver, inbox) = (Mutex::default(), Mutex::default());
        Ok(Self { receiver, inbox, most, bell: Bell::new()? })
    }

    /// Rings while something is in the inbox.
    #[must_use]
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub fn receiver(&self) -> MutexGuard<'_, Receiver> {
        unpoisoned(&self.receiver)
    }

    /// Digests a datagram; `send` takes the answer to a check, and says whether it left.
    pub fn digest(&self, data: &mut [u8], source: SocketAddr, now: Now, send: impl FnOnce(&[u8]) -> bool) -> Digested {
        let mut receiver = self.receiver();
        let (length, association) = match receiver.digest(data, source, now) {
            Verdict::Answer(answer) => {
                let unanswered = u64::from(!send(&answer));
                return Digested { left: None, counts: Counts { answered: 1, unanswered, ..Counts::default() } };
            }
            Verdict::Taken => return Digested { left: None, counts: Counts { taken: 1, ..Counts::default() } },
            Verdict::Opened(association, length) => (length, association),
            Verdict::Other => (data.len(), 0),
        };
        drop(receiver);
        let taken = u64::from(association != 0);
        let left = Some(Left { data: data[..length].to_vec(), source, association });
        Digested { left, counts: Counts { taken, ..Counts::default() } }
    }

    /// Takes the oldest of what is left, and what was counted since the last time.
    pub fn collect(&self, most: usize) -> (Vec<Left>, Counts) {
        let mut inbox = unpoisoned(&self.inbox);
        let counts = std::mem::take(&mut inbox.counts);
        let count = inbox.left.len().min(most);
        let left = inbox.left.drain(..count).collect();
        if count > 0 && inbox.left.is_empty() {
            self.bell.silence();
        }
        (left, counts)
    }

    fn hand_over(&self, digested: Vec<Digested>) {
        let mut inbox = unpoisoned(&self.inbox);
        let was_empty = inbox.left.is_empty();
        for Digested { left, counts } in digested {
            inbox.counts.add(&counts);
            match left {
                Some(left) if inbox.left.len() < self.most => inbox.left.push_back(left),
                Some(_) => inbox.counts.dropped += 1,
                None => {}
            }
        }
        if was_empty && !inbox.left.is_empty() {
            self.bell.ring();
        }
    }
}

/// A mutex whose data are whole between two statements: who panicked with it has at most forgotten a datagram.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of one datagram.
pub struct Digested {
    pub left: Option<Left>,
    pub counts: Counts,
}

const FAILED: Digested =
    Digested { left: None, counts: Counts { answered: 0, unanswered: 0, taken: 0, dropped: 0, failed: 1 } };

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.unanswered += other.unanswered;
        self.taken += other.taken;
        self.dropped += other.dropped;
        self.failed += other.failed;
    }
}

/// The thread; it ends with this.
pub struct Port {
    stop: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Port {
    /// Reads these sockets from now on.
    ///
    /// # Errors
    /// What the kernel says: no thread or descriptor is left.
    pub fn open(shared: &Arc<Shared>, sockets: &[RawFd]) -> io::Result<Self> {
        let sockets = sockets.iter().map(|socket| sys::duplicate(*socket)).collect::<io::Result<Vec<_>>>()?;
        let stop = Arc::new(Bell::new()?);
        let mut reader = Reader {
            shared: Arc::clone(shared),
            sockets,
            buffer: vec![0; SLOTS * SLOT_BYTES],
            found: Vec::with_capacity(SLOTS),
        };
        let stopped = Arc::clone(&stop);
        let thread =
            Builder::new().name("media port".into()).stack_size(STACK_BYTES).spawn(move || reader.run(&stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Port {
    /// Waits until the thread has let go of the sockets: it is in the middle of some datagrams at most.
    fn drop(&mut self) {
        self.stop.ring();
        if let Some(thread) = self.thread.take() {
            // What it panicked with was told when it did.
            let _ = thread.join();
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    sockets: Vec<OwnedFd>,
    buffer: Vec<u8>,
    found: Vec<Option<Received>>,
}

/// How much arrives, second by second.
#[derive(Default)]
struct Tempo {
    since: f64,
    count: f64,
    dense: bool,
}

impl Tempo {
    /// So many datagrams were read; does it pay to wait for more before the next time?
    fn note(&mut self, now: f64, count: usize) -> bool {
        self.count += f64::from(count as u32);
        let seconds = now - self.since;
        if seconds >= 1.0 {
            // Once begun it goes on until there is half as much: it shall not come and go by chance.
            let least = if self.dense { DENSE / 2.0 } else { DENSE };
            *self = Self { since: now, count: 0.0, dense: self.count >= least * seconds };
        }
        self.dense
    }
}

impl Reader {
    fn run(&mut self, stop: &Bell) {
        let mut tempo = Tempo::default();
        loop {
            let watched: Vec<_> = [stop.as_fd()].into_iter().chain(self.sockets.iter().map(AsFd::as_fd)).collect();
            let Ok(ready) = sys::wait(&watched, None) else { continue }; // a signal
            if ready[0] {
                return;
            }
            let ready = ready[1..].iter().enumerate().filter_map(|(place, ready)| ready.then_some(place));
            let counts: Vec<_> = ready.map(|place| self.read(place)).collect();
            let count = counts.iter().flatten().sum();
            let rest = if counts.contains(&None) {
                Some(RETRY_MS)
            } else {
                let dense = tempo.note(sys::clocks().0, count);
                // After a full reading there is more already.
                (dense && count < SLOTS).then_some(NAP_MS)
            };
            if rest.is_some() {
                // Whether it was a signal, the end or the time does not matter: all of it is asked again.
                let _ = sys::wait(&[stop.as_fd()], rest);
            }
        }
    }

    /// Some datagrams of a socket, and how many; None when it cannot be read.
    fn read(&mut self, place: usize) -> Option<usize> {
        let Self { shared, sockets, buffer, found } = self;
        let socket = sockets[place].as_raw_fd();
        if let Err(error) = sys::receive_many(socket, buffer, SLOT_BYTES, found) {
            return (error == Errno(libc::EAGAIN)).then_some(0); // what was there had a wrong checksum
        }
        let (monotonic, wall) = sys::clocks();
        let now = Now { monotonic, wall };
        let digest = |data: &mut [u8], source| {
            shared.digest(data, source, now, |answer| sys::send_one(socket, answer, &source).is_ok())
        };
        let digested = buffer.chunks_exact_mut(SLOT_BYTES).zip(found.iter()).filter_map(|(slot, received)| {
            let Received { length, source } = (*received)?;
            Some(catch_unwind(AssertUnwindSafe(|| digest(&mut slot[..length], source))).unwrap_or(FAILED))
        });
        shared.hand_over(digested.collect());
        Some(found.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_waits_for_more_while_much_arrives() {
        let mut tempo = Tempo::default();
        tempo.note(100.0, 0);
        let mut second = |from: f64, count: u32| {
            let naps = (1..=count).map(|number| tempo.note(from + f64::from(number) / f64::from(count), 1));
            naps.last().unwrap()
        };
        let rates = [100, 400, 600, 1000, 550, 450, 30];
        let found = rates.iter().zip(100..).map(|(count, from)| second(f64::from(from), *count));
        assert_eq!(found.collect::<Vec<_>>(), [false, false, true, true, true, true, false]);
    }

    #[test]
    fn a_crowd_after_hours_is_not_much() {
        let mut tempo = Tempo::default();
        assert!(!tempo.note(7200.0, 32));
        assert!(!tempo.note(7200.5, 32));
    }
}
