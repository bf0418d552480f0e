//! What arrives from viewers that are known and stay where they are: digested here, so that it costs little.
//!
//! Two things make up nearly all of it: ICE checks that change nothing, which are answered, and receiver reports, which
//! are noted for who asks later. Whatever else arrives (other kinds, other addresses, anything with a flaw or with
//! consequences) goes to the caller, and so do both of these for an association that was not placed. So the caller's
//! rules are the only ones; this is a short cut through them.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::check::Credentials;
use crate::feedback::{Report, reports};
use crate::srtcp::Srtcp;

/// Streams that a viewer may report about; it has a handful.
const MAX_STREAMS: usize = 8;

/// When something arrives, by two clocks of the caller.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Now {
    pub monotonic: f64,
    pub wall: f64,
}

/// The newest report about a stream, when it came, and how many there were.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noted {
    pub report: Report,
    pub count: u64,
    pub wall: f64,
}

/// What was heard of a viewer.
#[derive(Debug, Default)]
pub struct News {
    /// By the monotonic clock; None: never.
    pub checked: Option<f64>,
    pub reported: Option<f64>,
    pub noted: Vec<Noted>,
}

#[derive(Default)]
struct Association {
    keys: Option<Srtcp>,
    place: Option<(SocketAddr, Credentials)>,
    news: News,
}

/// What to do with a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A check: this is the answer.
    Answer(Vec<u8>),
    /// A report, or what only looked like one: nothing is left to do.
    Taken,
    /// RTCP of this association that wants something; the first so many bytes hold it in clear.
    Opened(u64, usize),
    /// The caller's business.
    Other,
}

#[derive(Default)]
pub struct Receiver {
    associations: HashMap<u64, Association>,
    by_address: HashMap<SocketAddr, u64>,
    last: u64,
}

impl Receiver {
    /// A new association, with nothing known of it.
    pub fn open(&mut self) -> u64 {
        self.last += 1;
        self.associations.insert(self.last, Association::default());
        self.last
    }

    pub fn close(&mut self, id: u64) {
        self.lift(id);
        self.associations.remove(&id);
    }

    /// From now on its RTCP is opened here, wherever it arrives.
    pub fn unlock(&mut self, id: u64, keys: Srtcp) {
        if let Some(association) = self.associations.get_mut(&id) {
            association.keys = Some(keys);
        }
    }

    /// Its peer has proved to be at this address, and is not about to change anything. Nobody else is there.
    pub fn place(&mut self, id: u64, address: SocketAddr, credentials: Credentials) {
        self.lift(id);
        if let Some(&other) = self.by_address.get(&address) {
            self.lift(other);
        }
        if let Some(association) = self.associations.get_mut(&id) {
            association.place = Some((address, credentials));
            self.by_address.insert(address, id);
        }
    }

    /// From now on everything goes to the caller.
    pub fn lift(&mut self, id: u64) {
        let place = self.associations.get_mut(&id).and_then(|association| association.place.take());
        if let Some((address, _)) = place {
            self.by_address.remove(&address);
        }
    }

    /// Opens RTCP that came another way; None where it is not authentic or was there before.
    pub fn unprotect<'a>(&mut self, id: u64, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        self.associations.get_mut(&id)?.keys.as_mut()?.unprotect(packet).ok()
    }

    #[must_use]
    pub fn news(&self, id: u64) -> Option<&News> {
        self.associations.get(&id).map(|association| &association.news)
    }

    /// Digests a datagram.
    pub fn digest(&mut self, data: &mut [u8], source: SocketAddr, now: Now) -> Verdict {
        let Some(&id) = self.by_address.get(&source) else { return Verdict::Other };
        let Some(association) = self.associations.get_mut(&id) else { return Verdict::Other };
        match *data {
            [0..=3, ..] => association.check(data, now),
            [128..=191, 192..=223, ..] => association.control(id, data, now),
            _ => Verdict::Other,
        }
    }
}

impl Association {
    fn check(&mut self, data: &[u8], now: Now) -> Verdict {
        let answer = self.place.as_ref().and_then(|(address, credentials)| credentials.answer(data, *address));
        let Some(answer) = answer else { return Verdict::Other };
        self.news.checked = Some(now.monotonic);
        Verdict::Answer(answer)
    }

    fn control(&mut self, id: u64, data: &mut [u8], now: Now) -> Verdict {
        let Some(keys) = &mut self.keys else { return Verdict::Other };
        let Ok(plain) = keys.unprotect(data) else { return Verdict::Taken };
        self.news.reported = Some(now.monotonic);
        let Some(reports) = reports(plain) else { return Verdict::Opened(id, plain.len()) };
        for report in reports {
            self.news.note(report, now.wall);
        }
        Verdict::Taken
    }
}

impl News {
    fn note(&mut self, report: Report, wall: f64) {
        if let Some(noted) = self.noted.iter_mut().find(|noted| noted.report.ssrc == report.ssrc) {
            *noted = Noted { report, count: noted.count + 1, wall };
        } else if self.noted.len() < MAX_STREAMS {
            self.noted.push(Noted { report, count: 1, wall });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "192.0.2.1:1000";
    const AWAY: &str = "198.51.100.7:2000";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn placed() -> (Receiver, u64) {
        let mut receiver = Receiver::default();
        let id = receiver.open();
        receiver.place(id, at(HOME), Credentials::new(b"ufrag", b"password"));
        (receiver, id)
    }

    #[test]
    fn nothing_is_taken_from_where_nobody_was_placed() {
        let (mut receiver, id) = placed();
        let mut rtcp = [0x80, 201, 0, 1, 0, 0, 0, 1];
        assert_eq!(receiver.digest(&mut rtcp, at(AWAY), Now::default()), Verdict::Other);
        assert_eq!(receiver.digest(&mut rtcp, at(HOME), Now::default()), Verdict::Other, "no keys yet");
        receiver.lift(id);
        assert!(receiver.by_address.is_empty());
    }

    #[test]
    fn an_address_has_one_association() {
        let (mut receiver, first) = placed();
        let second = receiver.open();
        receiver.place(second, at(HOME), Credentials::new(b"u", b"p"));
        assert_eq!(receiver.by_address[&at(HOME)], second);
        assert!(receiver.associations[&first].place.is_none());
        receiver.place(second, at(AWAY), Credentials::new(b"u", b"p"));
        assert_eq!(receiver.by_address.len(), 1);
        receiver.close(second);
        receiver.close(first);
        assert!(receiver.by_address.is_empty() && receiver.associations.is_empty());
        receiver.place(second, at(HOME), Credentials::new(b"u", b"p"));
        assert!(receiver.by_address.is_empty());
    }

    #[test]
    fn only_the_newest_report_of_some_streams_is_kept() {
        let mut news = News::default();
        for number in 0..40 {
            let report = Report {
                ssrc: number % 10,
                lost: number,
                highest_sequence: 0,
                jitter: 0,
                last_sender_report: 0,
                delay: 0,
            };
            news.note(report, f64::from(number));
        }
        assert_eq!(news.noted.len(), MAX_STREAMS);
        assert_eq!((news.noted[0].count, news.noted[0].report.lost, news.noted[0].wall), (4, 30, 30.0));
    }
}
