//! What a camera sends, for Python: bytes in, and what is in them as Python's own sources would give it.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::interleaved::{RTP_HEADER, cut, following, parse};

/// Channels and data of the frames, where they end, and how many bytes are wanted for the one that begins there.
type Frames = (Vec<(u8, Py<PyBytes>)>, usize, usize);
/// Payload type, marker, sequence number, timestamp, SSRC, payload.
type Packet = (u8, bool, u16, u32, u32, Py<PyBytes>);
/// A packet, and the payloads of those that follow it.
type Run = (Packet, Vec<Py<PyBytes>>);

/// Cuts binary frames off a connection's bytes: see `wire.cut`.
#[pyfunction]
pub fn frames(py: Python<'_>, data: &[u8], start: usize) -> Frames {
    let found = cut(data, start);
    let frames = found.frames.into_iter().map(|(channel, at)| (channel, PyBytes::new(py, &data[at]).unbind()));
    (frames.collect(), found.end, found.wanted)
}

/// Takes packets apart, and says how many were none: see `rtp.runs`.
#[pyfunction]
pub fn runs(py: Python<'_>, packets: &Bound<'_, PyList>) -> PyResult<(Vec<Run>, usize)> {
    let objects = packets.iter().map(|packet| Ok(packet.cast_into::<PyBytes>()?)).collect::<PyResult<Vec<_>>>()?;
    let data: Vec<&[u8]> = objects.iter().map(PyBytesMethods::as_bytes).collect();
    let bytes = |part: &[u8]| PyBytes::new(py, part).unbind();
    let (mut found, mut malformed, mut at) = (Vec::new(), 0, 0);
    while let Some((first, rest)) = data[at..].split_first() {
        let count = following(first, rest.iter().copied());
        at += 1 + count;
        let Some(packet) = parse(first) else {
            malformed += 1;
            continue;
        };
        let payload = bytes(&first[packet.payload]);
        let head = (packet.payload_type, packet.marker, packet.sequence, packet.timestamp, packet.ssrc, payload);
        found.push((head, rest[..count].iter().map(|data| bytes(&data[RTP_HEADER..])).collect()));
    }
    Ok((found, malformed))
}
