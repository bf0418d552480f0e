//! The module for Python: takes the objects of `sightline_agent.transport.fanout` apart, and lets go of the interpreter.

#![allow(clippy::needless_pass_by_value)] // what Python passes is taken apart into owned values

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::RawFd;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::fanout::{self, Events, Limits, TooLong};
use crate::pace::Pace;
use crate::python_interleaved::{frames, read, runs};
use crate::python_receive::Receiver;
use crate::reports::Moment;
use crate::ring::Chunk;
use crate::srtcp::Sealer;
use crate::srtp::{Profile, Srtp};
use crate::stream::{Rtx, Settings, Stream};
use crate::wire::{Errno, Message, Method, Sockets, Wire};

/// Grows with each change that the Python side has to know.
const INTERFACE: u32 = 9;

#[derive(FromPyObject)]
struct PyLimits {
    ring_packets: u64,
    ring_bytes: usize,
    max_payload: usize,
    resend_burst: f64,
    resend_share: f64,
    window: u64,
    segments: u16,
    threads: usize,
    shard_least: usize,
}

#[derive(FromPyObject)]
struct PyPace {
    rate: f64,
    slice_least: usize,
    slice_most: usize,
    tick_most: usize,
    stuck: f64,
    backlog: u64,
    skip: u64,
    refresh_step: u32,
}

#[derive(FromPyObject)]
struct PyKeys<'py> {
    profile: String,
    key: Bound<'py, PyBytes>,
    salt: Bound<'py, PyBytes>,
}

#[derive(FromPyObject)]
struct PyViewer<'py> {
    address: (String, u16),
    keys: PyKeys<'py>,
    ssrc: u32,
    payload_type: u8,
    rtx_ssrc: u32,
    rtx_payload_type: u8,
}

#[derive(FromPyObject)]
struct PyChunk<'py> {
    payloads: Bound<'py, PyTuple>,
    timestamp: u32,
    last: bool,
    key: bool,
}

/// A socket's descriptor, or something that is called like `socket.sendto`.
#[derive(FromPyObject)]
enum Link {
    Descriptor(RawFd),
    Callable(Py<PyAny>),
}

/// The links of one call.
struct Outlets {
    links: Vec<Link>,
    sockets: Sockets,
    /// What a callable raised that is no OSError.
    error: Option<PyErr>,
}

impl Outlets {
    fn new(links: Vec<Link>) -> Self {
        let descriptor = |link: &Link| match link {
            Link::Descriptor(descriptor) => *descriptor,
            Link::Callable(_) => -1,
        };
        let sockets = Sockets(links.iter().map(descriptor).collect());
        Self { links, sockets, error: None }
    }

    fn finish(self) -> PyResult<()> {
        self.error.map_or(Ok(()), Err)
    }
}

impl Wire for Outlets {
    fn batches(&self, link: usize) -> bool {
        matches!(self.links.get(link), Some(Link::Descriptor(_)))
    }

    fn fork(&self) -> Option<Box<dyn Wire + Send>> {
        let only_sockets = self.links.iter().all(|link| matches!(link, Link::Descriptor(_)));
        only_sockets.then(|| self.sockets.fork()).flatten()
    }

    fn send_many(&mut self, link: usize, buffer: &[u8], messages: &[Message]) -> Result<usize, Errno> {
        self.sockets.send_many(link, buffer, messages)
    }

    fn send_one(&mut self, link: usize, packet: &[u8], address: &SocketAddr) -> Result<(), Errno> {
        let Some(Link::Callable(sendto)) = self.links.get(link) else {
            return self.sockets.send_one(link, packet, address);
        };
        Python::attach(|py| {
            let to = (address.ip().to_string(), address.port());
            let Err(error) = sendto.call1(py, (PyBytes::new(py, packet), to)) else { return Ok(()) };
            let number = error.value(py).getattr("errno").and_then(|number| number.extract::<Option<i32>>());
            let Ok(number) = number else {
                self.error.get_or_insert(error);
                return Err(Errno(libc::EIO));
            };
            // BlockingIOError raised without a number has none.
            Err(Errno(number.unwrap_or(libc::EAGAIN)))
        })
    }
}

pub(crate) fn socket_address(host: &str, port: u16) -> PyResult<SocketAddr> {
    let wrong = || PyValueError::new_err("not an IP address");
    if let Some((host, scope)) = host.split_once('%') {
        let scope = scope.parse().map_err(|_| wrong())?;
        return Ok(SocketAddrV6::new(host.parse().map_err(|_| wrong())?, port, 0, scope).into());
    }
    Ok((host.parse::<IpAddr>().map_err(|_| wrong())?, port).into())
}

/// A viewer on its way from one fan-out to another.
#[pyclass]
struct Carried(Option<Stream>);

/// Encrypts and sends each chunk to every viewer. Not thread-safe: a second call meanwhile raises RuntimeError.
#[pyclass]
struct FanOut(fanout::FanOut);

#[pymethods]
impl FanOut {
    /// `method`: `gso`, `sendmmsg` or `sendto`; the best that works here when it is None.
    #[new]
    #[pyo3(signature = (limits, pace, method = None))]
    fn new(limits: PyLimits, pace: PyPace, method: Option<&str>) -> PyResult<Self> {
        let method = match method {
            None => Method::probe(),
            Some(name) => Method::named(name).ok_or_else(|| PyValueError::new_err("no such method"))?,
        };
        let limits = Limits {
            ring_packets: limits.ring_packets,
            ring_bytes: limits.ring_bytes,
            max_payload: limits.max_payload,
            resend_burst: limits.resend_burst,
            resend_share: limits.resend_share,
            window: limits.window,
            segments: limits.segments,
            threads: limits.threads,
            shard_least: limits.shard_least,
        };
        let pace = Pace {
            rate: pace.rate,
            slice_least: pace.slice_least,
            slice_most: pace.slice_most,
            tick_most: pace.tick_most,
            stuck: pace.stuck,
            backlog: pace.backlog,
            skip: pace.skip,
            refresh_step: pace.refresh_step,
        };
        Ok(Self(fanout::FanOut::new(limits, pace, method)))
    }

    #[getter]
    fn method(&self) -> &'static str {
        self.0.method().name()
    }

    /// `numbers`: first sequence number, first one of RTX, what is added to timestamps. Raises ValueError for keys that
    /// do not fit their profile and for addresses that are none.
    fn add(&mut self, viewer: PyViewer<'_>, link: usize, numbers: (u64, u64, u32)) -> PyResult<u64> {
        let refused = || PyValueError::new_err("these keys fit no profile");
        let keys = viewer.keys;
        let profile = Profile::named(&keys.profile).ok_or_else(refused)?;
        let (key, salt) = (keys.key.as_bytes(), keys.salt.as_bytes());
        let rtx = (viewer.rtx_payload_type != 0).then_some(Rtx {
            ssrc: viewer.rtx_ssrc,
            payload_type: viewer.rtx_payload_type,
            next: numbers.1,
        });
        if rtx.is_some() && viewer.rtx_ssrc == viewer.ssrc {
            // Two counters over one SSRC would use indices twice.
            return Err(PyValueError::new_err("RTX needs an SSRC of its own"));
        }
        let (host, port) = viewer.address;
        Ok(self.0.add(Settings {
            link,
            address: socket_address(&host, port)?,
            srtp: Srtp::new(profile, key, salt).map_err(|_| refused())?,
            reports: Sealer::new(profile, key, salt).map_err(|_| refused())?,
            ssrc: viewer.ssrc,
            payload_type: viewer.payload_type,
            rtx,
            sequence: numbers.0,
            timestamp_offset: numbers.2,
        }))
    }

    fn remove(&mut self, handle: u64) {
        self.0.remove(handle);
    }

    #[pyo3(name = "move")]
    fn redirect(&mut self, handle: u64, address: (String, u16), link: usize) -> PyResult<()> {
        self.0.redirect(handle, link, socket_address(&address.0, address.1)?);
        Ok(())
    }

    /// Takes a viewer out; None for unknown handles.
    fn release(&mut self, handle: u64) -> Option<Carried> {
        self.0.release(handle).map(|stream| Carried(Some(stream)))
    }

    /// Takes in what another fan-out released, once.
    fn adopt(&mut self, carried: &mut Carried, link: usize, clock_rate: f64, now: f64) -> PyResult<u64> {
        let stream = carried.0.take().ok_or_else(|| PyValueError::new_err("this viewer was adopted before"))?;
        Ok(self.0.adopt(stream, link, clock_rate, now))
    }

    fn is_behind(&self, handle: u64) -> bool {
        self.0.is_behind(handle)
    }

    /// Lets a viewer begin again at a packet of the ring, by its index; whether that is possible.
    fn burst(&mut self, handle: u64, index: u64, now: f64) -> bool {
        self.0.burst(handle, index, now)
    }

    /// A slice for each viewer who is behind; `group` is where the newest group of pictures begins, if there is one.
    fn catch_up(&mut self, py: Python<'_>, links: Vec<Link>, group: Option<u64>, now: f64) -> PyResult<Report> {
        let mut wire = Outlets::new(links);
        let events = py.detach(|| self.0.catch_up(&mut wire, group, now));
        wire.finish()?;
        Ok(self.outcome(events))
    }

    /// Sends a chunk to all who are neither waiting for a key frame nor behind.
    fn send(&mut self, py: Python<'_>, chunk: PyChunk<'_>, links: Vec<Link>, now: f64) -> PyResult<Report> {
        let mut packets = Chunk::new(chunk.timestamp, chunk.last, chunk.key);
        let mut bytes = 0;
        for payload in chunk.payloads.iter_borrowed() {
            bytes += payload.cast::<PyBytes>()?.as_bytes().len();
        }
        packets.reserve(bytes, chunk.payloads.len());
        for payload in chunk.payloads.iter_borrowed() {
            packets.push(payload.cast::<PyBytes>()?.as_bytes());
        }
        let count = links.len();
        let mut wire = Outlets::new(links);
        let events = py
            .detach(|| self.0.send(&mut wire, count, packets, now))
            .map_err(|TooLong| PyValueError::new_err("a payload is longer than a packet can be"))?;
        wire.finish()?;
        Ok(self.outcome(events))
    }

    fn resend(&mut self, py: Python<'_>, handle: u64, numbers: Vec<u16>, links: Vec<Link>) -> PyResult<()> {
        let mut wire = Outlets::new(links);
        py.detach(|| self.0.resend(&mut wire, handle, &numbers));
        wire.finish()
    }

    /// Sends a sender report; how many bytes of payload the viewer was sent, None where that is nothing. `moment`: the
    /// clock that `send` has, and the wall clock's time as in RTCP.
    fn report(
        &mut self,
        handle: u64,
        cname: &str,
        moment: (f64, u64),
        clock_rate: f64,
        correction: i64,
        links: Vec<Link>,
    ) -> PyResult<Option<u64>> {
        let mut wire = Outlets::new(links);
        let (now, ntp) = moment;
        let octets = self.0.report(&mut wire, handle, cname, &Moment { now, ntp, clock_rate, correction });
        wire.finish()?;
        Ok(octets)
    }

    /// Packets, octets, last timestamp, resent, dropped, when the last one was sent; None for unknown handles.
    fn stats(&self, handle: u64) -> Option<(u64, u64, u32, u64, u64, f64)> {
        let counters = self.0.stream(handle)?.counters;
        Some((
            counters.packets,
            counters.octets,
            counters.last_timestamp,
            counters.resent,
            counters.dropped,
            counters.last_sent,
        ))
    }

    /// Packets, octets, resent, dropped, refused, bursts, delayed, skipped.
    fn totals(&self) -> (u64, u64, u64, u64, u64, u64, u64, u64) {
        let totals = self.0.totals();
        (
            totals.packets,
            totals.octets,
            totals.resent,
            totals.dropped,
            totals.refused,
            totals.bursts,
            totals.delayed,
            totals.skipped,
        )
    }
}

/// Handles of those who got their first packet, and of those who never get one again; whether anybody is behind.
type Report = (Vec<u64>, Vec<u64>, bool);

impl FanOut {
    fn outcome(&self, events: Events) -> Report {
        (events.started, events.failed, self.0.anybody_behind())
    }
}

#[pymodule]
fn sightline_fanout(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("INTERFACE", INTERFACE)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Carried>()?;
    module.add_class::<FanOut>()?;
    module.add_class::<Receiver>()?;
    module.add_function(wrap_pyfunction!(frames, module)?)?;
    module.add_function(wrap_pyfunction!(read, module)?)?;
    module.add_function(wrap_pyfunction!(runs, module)?)
}
