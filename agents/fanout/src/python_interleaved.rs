//! What a camera sends, for Python: bytes in, and what is in them as Python's own sources would give it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::interleaved::{self, Cut, cut};
use crate::slices::{Codec, fit};

type Frame = (u8, Py<PyBytes>);
/// Channels and data of the frames, where they end, and how many bytes are wanted for the one that begins there.
type Frames = (Vec<Frame>, usize, usize);
/// Payload type, marker, sequence number, timestamp, SSRC, payloads, the same made to fit, shape.
type Run = (u8, bool, u16, u32, u32, Py<PyTuple>, Py<PyTuple>, u8);
/// Runs and malformed packets of one channel, frames of others, where they end, what is wanted.
type Taken = (Vec<Run>, usize, Vec<Frame>, usize, usize);

/// Cuts binary frames off a connection's bytes: see `wire.cut`.
#[pyfunction]
pub fn frames(py: Python<'_>, data: &[u8], start: usize) -> Frames {
    let found = cut(data, start);
    let frames = found.frames.into_iter().map(|(channel, at)| (channel, PyBytes::new(py, &data[at]).unbind()));
    (frames.collect(), found.end, found.wanted)
}

/// Takes packets apart, and says how many were none: see `runs.runs`.
#[pyfunction]
pub fn runs(py: Python<'_>, packets: &Bound<'_, PyList>, codec: &str, limit: usize) -> PyResult<(Vec<Run>, usize)> {
    let objects = packets.iter().map(|packet| Ok(packet.cast_into::<PyBytes>()?)).collect::<PyResult<Vec<_>>>()?;
    take_apart(py, objects.iter().map(PyBytesMethods::as_bytes), codec, limit)
}

/// Cuts binary frames off, and takes those of one channel apart: see `apart.read`.
#[pyfunction]
pub fn read(py: Python<'_>, data: &[u8], start: usize, channel: u8, codec: &str, limit: usize) -> PyResult<Taken> {
    let Cut { frames, end, wanted } = cut(data, start);
    let ours = frames.iter().filter(|frame| frame.0 == channel).map(|frame| &data[frame.1.clone()]);
    let (found, malformed) = take_apart(py, ours, codec, limit)?;
    let others = frames.iter().filter(|frame| frame.0 != channel);
    let others = others.map(|frame| (frame.0, PyBytes::new(py, &data[frame.1.clone()]).unbind())).collect();
    Ok((found, malformed, others, end, wanted))
}

fn take_apart<'a>(
    py: Python<'_>,
    packets: impl Iterator<Item = &'a [u8]>,
    codec: &str,
    limit: usize,
) -> PyResult<(Vec<Run>, usize)> {
    let codec = Codec::named(codec).ok_or_else(|| PyValueError::new_err("no such codec"))?;
    let (found, malformed) = interleaved::runs(codec, packets);
    let found = found.iter().map(|run| {
        let payloads = PyTuple::new(py, run.payloads.iter().map(|payload| PyBytes::new(py, payload)))?;
        let fitting = if run.shape == 0 {
            PyTuple::empty(py)
        } else if run.payloads.iter().all(|payload| payload.len() <= limit) {
            payloads.clone()
        } else {
            let mut pieces = Vec::new();
            run.payloads
                .iter()
                .for_each(|payload| fit(codec, payload, limit, |piece| pieces.push(PyBytes::new(py, piece))));
            PyTuple::new(py, pieces)?
        };
        let (payloads, fitting) = (payloads.unbind(), fitting.unbind());
        Ok((run.payload_type, run.marker, run.sequence, run.timestamp, run.ssrc, payloads, fitting, run.shape))
    });
    Ok((found.collect::<PyResult<_>>()?, malformed))
}
