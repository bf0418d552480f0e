//! The receiver for Python: datagrams in, and what Python has to look at out.

#![allow(clippy::needless_pass_by_value)] // what Python passes is taken apart into owned values

use std::net::SocketAddr;
use std::os::fd::RawFd;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::check::Credentials;
use crate::python::socket_address;
use crate::receive::{self, Now, Verdict};
use crate::srtcp::Srtcp;
use crate::srtp::Profile;
use crate::sys::{self, Received};

/// Datagrams per system call; fewer than that mean that no more are there.
const SLOTS: usize = 32;
const SLOT_BYTES: usize = 2048;

/// A datagram, host and port that it came from, and the association whose RTCP it is in clear; 0 for one as it came.
type Left = (Py<PyBytes>, String, u16, u64);
/// What is left, how many checks were answered and could not be answered, how much RTCP was taken.
type Harvest = (Vec<Left>, usize, usize, usize);
/// Stream, count, lost, highest sequence number, jitter, last sender report, delay, time by the wall clock.
type Noted = (u32, u64, u32, u32, u32, u32, u32, f64);

#[derive(Default)]
struct Counts {
    answered: usize,
    unanswered: usize,
    taken: usize,
}

/// What viewers send. Not thread-safe: a second call meanwhile raises RuntimeError.
#[pyclass]
pub struct Receiver {
    inner: receive::Receiver,
    buffer: Vec<u8>,
    found: Vec<Option<Received>>,
}

#[pymethods]
impl Receiver {
    #[new]
    fn new() -> Self {
        Self { inner: receive::Receiver::default(), buffer: vec![0; SLOTS * SLOT_BYTES], found: Vec::new() }
    }

    fn open(&mut self) -> u64 {
        self.inner.open()
    }

    fn close(&mut self, id: u64) {
        self.inner.close(id);
    }

    /// Master key and salt of the peer's direction. Raises ValueError where they do not fit the profile.
    fn unlock(&mut self, id: u64, profile: &str, key: &[u8], salt: &[u8]) -> PyResult<()> {
        let refused = || PyValueError::new_err("these keys fit no profile");
        let profile = Profile::named(profile).ok_or_else(refused)?;
        self.inner.unlock(id, Srtcp::new(profile, key, salt).map_err(|_| refused())?);
        Ok(())
    }

    fn place(&mut self, id: u64, address: (String, u16), ufrag: &[u8], password: &[u8]) -> PyResult<()> {
        let address = plain(socket_address(&address.0, address.1)?);
        self.inner.place(id, address, Credentials::new(ufrag, password));
        Ok(())
    }

    fn lift(&mut self, id: u64) {
        self.inner.lift(id);
    }

    fn unprotect<'py>(&mut self, py: Python<'py>, id: u64, data: &[u8]) -> Option<Bound<'py, PyBytes>> {
        let mut packet = data.to_vec();
        self.inner.unprotect(id, &mut packet).map(|plain| PyBytes::new(py, plain))
    }

    /// When a check was answered and when RTCP was authentic (monotonic; None: never), and what was reported last.
    fn news(&self, id: u64) -> (Option<f64>, Option<f64>, Vec<Noted>) {
        let Some(news) = self.inner.news(id) else { return (None, None, Vec::new()) };
        let noted = news.noted.iter().map(|noted| {
            let report = noted.report;
            let place = (report.highest_sequence, report.jitter, report.last_sender_report, report.delay);
            (report.ssrc, noted.count, report.lost, place.0, place.1, place.2, place.3, noted.wall)
        });
        (news.checked, news.reported, noted.collect())
    }

    /// Reads what a socket has, at most so many datagrams.
    fn receive(&mut self, py: Python<'_>, fd: RawFd, most: usize, now: (f64, f64)) -> Harvest {
        let now = Now { monotonic: now.0, wall: now.1 };
        let (mut left, mut counts) = (Vec::new(), Counts::default());
        let mut read = 0;
        while read < most && sys::receive_many(fd, &mut self.buffer, SLOT_BYTES, &mut self.found).is_ok() {
            for (slot, received) in self.buffer.chunks_exact_mut(SLOT_BYTES).zip(&self.found) {
                let Some(Received { length, source }) = *received else { continue };
                let data = &mut slot[..length];
                let verdict = self.inner.digest(data, source, now);
                let answer = counts.note(&verdict);
                if answer.is_some_and(|answer| sys::send_one(fd, answer, &source).is_err()) {
                    counts.unanswered += 1;
                }
                left.extend(rest(py, &verdict, data, source));
            }
            read += self.found.len();
            if self.found.len() < SLOTS {
                break;
            }
        }
        (left, counts.answered, counts.unanswered, counts.taken)
    }

    /// The same for one datagram that was read elsewhere; its answer, if any, comes first.
    fn digest(
        &mut self,
        py: Python<'_>,
        data: &[u8],
        address: (String, u16),
        now: (f64, f64),
    ) -> PyResult<(Option<Py<PyBytes>>, Harvest)> {
        let now = Now { monotonic: now.0, wall: now.1 };
        let source = plain(socket_address(&address.0, address.1)?);
        let mut data = data.to_vec();
        let verdict = self.inner.digest(&mut data, source, now);
        let mut counts = Counts::default();
        let answer = counts.note(&verdict).map(|answer| PyBytes::new(py, answer).unbind());
        let left = rest(py, &verdict, &data, source).into_iter().collect();
        Ok((answer, (left, counts.answered, 0, counts.taken)))
    }
}

impl Counts {
    /// Counts, and gives back what is to be sent.
    fn note<'a>(&mut self, verdict: &'a Verdict) -> Option<&'a [u8]> {
        match verdict {
            Verdict::Answer(answer) => {
                self.answered += 1;
                return Some(answer);
            }
            Verdict::Taken | Verdict::Opened(..) => self.taken += 1,
            Verdict::Other => {}
        }
        None
    }
}

/// What Python has to look at, if anything.
fn rest(py: Python<'_>, verdict: &Verdict, data: &[u8], source: SocketAddr) -> Option<Left> {
    let (data, id) = match *verdict {
        Verdict::Answer(_) | Verdict::Taken => return None,
        Verdict::Opened(id, length) => (&data[..length], id),
        Verdict::Other => (data, 0),
    };
    Some((PyBytes::new(py, data).unbind(), source.ip().to_string(), source.port(), id))
}

/// Without scope and flow, as what arrives is compared.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}
