//! The receiver for Python: what viewers send in, and what Python has to look at out.
//!
//! Python's objects are made when no lock is held: making one may run anything, and want the lock.

#![allow(clippy::needless_pass_by_value)] // what Python passes is taken apart into owned values

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::check::Credentials;
use crate::port::{self, Digested, Port, Shared};
use crate::python::socket_address;
use crate::receive::Now;
use crate::srtcp::Srtcp;
use crate::srtp::Profile;

/// A datagram, host and port that it came from, and the association whose RTCP it is in clear; 0 for one as it came.
type Left = (Py<PyBytes>, String, u16, u64);
/// Checks that were answered, those that could not be, RTCP that was taken, what found the inbox full, defects.
type Counts = (u64, u64, u64, u64, u64);
type Harvest = (Vec<Left>, Counts);
/// Stream, count, lost, highest sequence number, jitter, last sender report, delay, time by the wall clock.
type Noted = (u32, u64, u32, u32, u32, u32, u32, f64);

/// What viewers send.
#[pyclass(frozen)]
pub struct Receiver {
    shared: Arc<Shared>,
    port: Mutex<Option<Port>>,
}

#[pymethods]
impl Receiver {
    /// `inbox`: so many datagrams wait for `collect` at most.
    #[new]
    fn new(inbox: usize) -> PyResult<Self> {
        Ok(Self { shared: Arc::new(Shared::new(inbox)?), port: Mutex::default() })
    }

    fn open(&self) -> u64 {
        self.shared.receiver().open()
    }

    fn close(&self, id: u64) {
        self.shared.receiver().close(id);
    }

    /// Master key and salt of the peer's direction. Raises ValueError where they do not fit the profile.
    fn unlock(&self, id: u64, profile: &str, key: &[u8], salt: &[u8]) -> PyResult<()> {
        let refused = || PyValueError::new_err("these keys fit no profile");
        let profile = Profile::named(profile).ok_or_else(refused)?;
        let keys = Srtcp::new(profile, key, salt).map_err(|_| refused())?;
        self.shared.receiver().unlock(id, keys);
        Ok(())
    }

    fn place(&self, id: u64, address: (String, u16), ufrag: &[u8], password: &[u8]) -> PyResult<()> {
        let address = plain(socket_address(&address.0, address.1)?);
        let credentials = Credentials::new(ufrag, password);
        self.shared.receiver().place(id, address, credentials);
        Ok(())
    }

    /// When this has returned, nothing more is digested or answered for the association.
    fn lift(&self, id: u64) {
        self.shared.receiver().lift(id);
    }

    fn unprotect<'py>(&self, py: Python<'py>, id: u64, data: &[u8]) -> Option<Bound<'py, PyBytes>> {
        let mut packet = data.to_vec();
        let length = self.shared.receiver().unprotect(id, &mut packet)?.len();
        Some(PyBytes::new(py, &packet[..length]))
    }

    /// When a check was answered and when RTCP was authentic (monotonic; None: never).
    fn times(&self, id: u64) -> (Option<f64>, Option<f64>) {
        let receiver = self.shared.receiver();
        receiver.news(id).map_or((None, None), |news| (news.checked, news.reported))
    }

    /// What was reported last.
    fn heard(&self, id: u64) -> Vec<Noted> {
        let receiver = self.shared.receiver();
        let Some(news) = receiver.news(id) else { return Vec::new() };
        let noted = news.noted.iter().map(|noted| {
            let report = noted.report;
            let place = (report.highest_sequence, report.jitter, report.last_sender_report, report.delay);
            (report.ssrc, noted.count, report.lost, place.0, place.1, place.2, place.3, noted.wall)
        });
        noted.collect()
    }

    /// Has a thread read these sockets until `stop`. The descriptor that is readable while something is to be collected.
    fn listen(&self, sockets: Vec<RawFd>) -> PyResult<RawFd> {
        let mut port = self.port();
        if port.is_some() {
            return Err(PyRuntimeError::new_err("it listens already"));
        }
        *port = Some(Port::open(&self.shared, &sockets)?);
        Ok(self.shared.bell().as_raw_fd())
    }

    /// Ends the thread: afterwards nobody reads the sockets. What it left is to be collected all the same.
    fn stop(&self) {
        let port = self.port().take();
        drop(port); // joins, which takes no longer than some datagrams: the thread never waits for the interpreter
    }

    /// The oldest of what is left, and what was counted since the last time.
    fn collect(&self, py: Python<'_>, most: usize) -> Harvest {
        let (left, counts) = self.shared.collect(most);
        (left.into_iter().map(|left| handed(py, left)).collect(), numbers(&counts))
    }

    /// Digests one datagram that was read elsewhere; its answer, if any, comes first.
    fn digest(
        &self,
        py: Python<'_>,
        data: &[u8],
        address: (String, u16),
        now: (f64, f64),
    ) -> PyResult<(Option<Py<PyBytes>>, Harvest)> {
        let now = Now { monotonic: now.0, wall: now.1 };
        let source = plain(socket_address(&address.0, address.1)?);
        let (mut data, mut answer) = (data.to_vec(), None);
        let Digested { left, counts } = self.shared.digest(&mut data, source, now, |bytes| {
            answer = Some(bytes.to_vec());
            true
        });
        let answer = answer.map(|answer| PyBytes::new(py, &answer).unbind());
        Ok((answer, (left.into_iter().map(|left| handed(py, left)).collect(), numbers(&counts))))
    }
}

impl Receiver {
    fn port(&self) -> std::sync::MutexGuard<'_, Option<Port>> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn handed(py: Python<'_>, left: port::Left) -> Left {
    let bytes = PyBytes::new(py, &left.data).unbind();
    (bytes, left.source.ip().to_string(), left.source.port(), left.association)
}

fn numbers(counts: &port::Counts) -> Counts {
    (counts.answered, counts.unanswered, counts.taken, counts.dropped, counts.failed)
}

/// Without scope and flow, as what arrives is compared.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}
