//! The native fan-out: each packet of a stream gets a header of its own for every viewer, is encrypted and sent.
//!
//! The rules are those of the pure-Python fan-out and one suite of tests holds both to them. What is gained here: the
//! packets of many viewers go to the kernel in one call, runs of equal size as one segmented datagram each, and the
//! interpreter is free meanwhile.
//!
//! * `sys`: the system calls, and all that is `unsafe`.
//! * `wire`: what they make possible, as a trait; which errors mean what.
//! * `srtp`: encryption and key derivation.
//! * `ring`: the last packets as plaintext, for all viewers.
//! * `stream`: one viewer's numbers, keys and counters; `reports`: what it is told about them.
//! * `lane`: the buffer in which packets are built, and the way from there to the wire.
//! * `shards`: a chunk for all viewers, on several threads where that pays.
//! * `fanout`: all viewers; `books`: what is counted about them.
//! * `turn`: a slice for a viewer who is behind the stream; `pace`: how large.
//! * `receive`: what viewers send while nothing changes; `check`, `srtcp` and `feedback` read it.
//! * `port`: the thread that reads the media port.
//! * `interleaved`: what a camera sends, taken apart; `slices`: what its payloads are.
//! * `python`, `python_interleaved` and `python_receive`: the module that Python imports; off unless the feature `python`
//!   is on.

#![deny(unsafe_code)]

mod books;
pub mod check;
pub mod fanout;
pub mod feedback;
pub mod interleaved;
pub mod lane;
pub mod pace;
pub mod port;
#[cfg(feature = "python")]
mod python;
#[cfg(feature = "python")]
mod python_interleaved;
#[cfg(feature = "python")]
mod python_receive;
pub mod receive;
pub mod reports;
pub mod ring;
pub mod shards;
pub mod slices;
pub mod srtcp;
pub mod srtp;
pub mod stream;
#[allow(unsafe_code)]
pub mod sys;
mod turn;
pub mod wire;
