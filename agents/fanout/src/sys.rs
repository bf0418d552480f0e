//! The system calls, and the crate's only `unsafe` code: one datagram, or many datagrams in one call, out and in; and
//! what a thread needs that waits for them.
//!
//! From outside all of it is safe: buffers are slices, and what the kernel is given points into them or into this
//! function's own stack, and only for the time of the call. Nothing but `wait` blocks.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::wire::{Errno, Message};

/// Messages per call; what they need lies on the stack.
const BATCH: usize = 64;
/// Room for one control message of two bytes: 24 where `size_t` has 64 bits.
const CONTROL_BYTES: usize = 32;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// `sockaddr_in` or `sockaddr_in6`, whichever it is, with its length.
#[derive(Clone, Copy)]
struct Name {
    storage: libc::sockaddr_in6,
    length: libc::socklen_t,
}

impl Name {
    fn empty() -> Self {
        // SAFETY: sockaddr_in6 is plain integers, for which all zeros are valid.
        Self { storage: unsafe { zeroed() }, length: 0 }
    }

    fn new(address: &SocketAddr) -> Self {
        let mut name = Self::empty();
        match address {
            SocketAddr::V4(v4) => {
                let inet = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                const { assert!(size_of::<libc::sockaddr_in>() <= size_of::<libc::sockaddr_in6>()) };
                // SAFETY: the target is at least as large (asserted) and as aligned, and nobody else sees it.
                unsafe { (&raw mut name.storage).cast::<libc::sockaddr_in>().write(inet) };
                name.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                name.storage.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                name.storage.sin6_port = v6.port().to_be();
                name.storage.sin6_flowinfo = v6.flowinfo();
                name.storage.sin6_addr.s6_addr = v6.ip().octets();
                name.storage.sin6_scope_id = v6.scope_id();
                name.length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        name
    }

    /// Without scope and flow: two of the same address are the same.
    fn address(&self) -> Option<SocketAddr> {
        let port = u16::from_be(self.storage.sin6_port);
        match i32::from(self.storage.sin6_family) {
            libc::AF_INET => {
                // SAFETY: the storage is at least as large as (asserted in `new`) and as aligned as a sockaddr_in, and
                // integers of any value are valid.
                let inet = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in>().read() };
                let octets = inet.sin_addr.s_addr.to_ne_bytes();
                Some((Ipv4Addr::from(octets), u16::from_be(inet.sin_port)).into())
            }
            libc::AF_INET6 => Some((Ipv6Addr::from(self.storage.sin6_addr.s6_addr), port).into()),
            _ => None,
        }
    }
}

fn last_error() -> Errno {
    Errno(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Sends one datagram.
///
/// # Errors
/// What the kernel says; EAGAIN when the socket is full.
pub fn send_one(fd: RawFd, packet: &[u8], address: &SocketAddr) -> Result<(), Errno> {
    let name = Name::new(address);
    // SAFETY: packet and name live until the call returns, and their lengths are theirs; the kernel only reads them.
    let sent = unsafe {
        libc::sendto(
            fd,
            packet.as_ptr().cast(),
            packet.len(),
            libc::MSG_DONTWAIT,
            (&raw const name.storage).cast(),
            name.length,
        )
    };
    if sent < 0 { Err(last_error()) } else { Ok(()) }
}

/// Sends the first messages of many in one call; how many the kernel took, at least one.
///
/// A message of several packets leaves as one segmented datagram (UDP_SEGMENT).
///
/// # Errors
/// What the kernel says about the first message.
///
/// # Panics
/// When a message lies outside the buffer.
pub fn send_many(fd: RawFd, buffer: &[u8], messages: &[Message]) -> Result<usize, Errno> {
    let count = messages.len().min(BATCH);
    let mut names = [Name::empty(); BATCH];
    let mut controls = [Control([0; CONTROL_BYTES]); BATCH];
    // SAFETY: both are plain integers and pointers, for which all zeros are valid.
    let mut parts: [libc::iovec; BATCH] = unsafe { zeroed() };
    // SAFETY: the same.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    for (i, message) in messages[..count].iter().enumerate() {
        let data = &buffer[message.offset..message.offset + message.length];
        names[i] = Name::new(&message.address);
        parts[i] = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        let header = &mut headers[i].msg_hdr;
        header.msg_name = (&raw mut names[i].storage).cast();
        header.msg_namelen = names[i].length;
        header.msg_iov = &raw mut parts[i];
        header.msg_iovlen = 1;
        if message.packets > 1 {
            header.msg_control = controls[i].0.as_mut_ptr().cast();
            write_segment_size(header, message.segment);
        }
    }
    // SAFETY: `count` headers are filled in; what they point to (buffer, names, parts, controls) lives and stays where
    // it is until the call returns. The kernel writes nothing but the headers' msg_len.
    let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count as libc::c_uint, libc::MSG_DONTWAIT as _) };
    usize::try_from(sent).map_err(|_| last_error())
}

fn write_segment_size(header: &mut libc::msghdr, segment: u16) {
    let size = size_of::<u16>() as libc::c_uint;
    // SAFETY: CMSG_SPACE only calculates.
    let space = unsafe { libc::CMSG_SPACE(size) } as usize;
    debug_assert!(space <= CONTROL_BYTES);
    header.msg_controllen = space as _;
    // SAFETY: msg_control points to CONTROL_BYTES zeroed bytes aligned for a cmsghdr, and msg_controllen says that one
    // control message of two bytes fits; so CMSG_FIRSTHDR is not null and CMSG_DATA lies within.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        (*control).cmsg_level = libc::SOL_UDP;
        (*control).cmsg_type = libc::UDP_SEGMENT;
        (*control).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(control).cast::<u16>().write_unaligned(segment);
    }
}

/// Where a datagram came from, and how long it is: not longer than its slot.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    pub length: usize,
    pub source: SocketAddr,
}

/// Receives what is there, one datagram per slot of the buffer, as many as there are slots and at most `found` takes.
///
/// Datagrams from families other than IPv4 and IPv6 are left out.
///
/// # Errors
/// What the kernel says; EAGAIN when nothing is there.
pub fn receive_many(fd: RawFd, buffer: &mut [u8], slot: usize, found: &mut Vec<Option<Received>>) -> Result<(), Errno> {
    found.clear();
    let mut names = [Name::empty(); BATCH];
    // SAFETY: both are plain integers and pointers, for which all zeros are valid.
    let mut parts: [libc::iovec; BATCH] = unsafe { zeroed() };
    // SAFETY: the same.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let mut count = 0;
    for (i, piece) in buffer.chunks_exact_mut(slot).take(BATCH).enumerate() {
        parts[i] = libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: slot };
        let header = &mut headers[i].msg_hdr;
        header.msg_name = (&raw mut names[i].storage).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        header.msg_iov = &raw mut parts[i];
        header.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: `count` headers are filled in; what they point to (slots of the buffer that do not overlap, names, parts)
    // lives, stays where it is and is borrowed by nobody else until the call returns. Lengths are those of the slots.
    let received =
        unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _, std::ptr::null_mut()) };
    let received = usize::try_from(received).map_err(|_| last_error())?;
    for (header, name) in headers.iter().zip(&names).take(received) {
        let length = (header.msg_len as usize).min(slot);
        found.push(name.address().map(|source| Received { length, source }));
    }
    Ok(())
}

/// A descriptor that is readable from `ring` to `silence` (an eventfd), for those who wait for descriptors.
#[derive(Debug)]
pub struct Bell(File);

impl Bell {
    /// # Errors
    /// What the kernel says: no descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes integers only.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }.into()))
    }

    pub fn ring(&self) {
        // Fails where it has been rung 2^64 times, and then it rings.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    pub fn silence(&self) {
        // Fails where it does not ring.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The same socket by a descriptor of our own, which stays valid whatever becomes of the other.
///
/// # Errors
/// What the kernel says: it is none, or none is left.
pub fn duplicate(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Waits until something is to be read from some of these, or so many milliseconds; from which.
///
/// # Errors
/// What the kernel says; EINTR when a signal came.
pub fn wait(descriptors: &[BorrowedFd<'_>], milliseconds: Option<u16>) -> Result<Vec<bool>, Errno> {
    let wanted =
        |descriptor: &BorrowedFd<'_>| libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<_> = descriptors.iter().map(wanted).collect();
    let timeout = milliseconds.map_or(-1, libc::c_int::from);
    // SAFETY: the kernel writes `revents` of as many entries as there are, and only until the call returns.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
    if ready < 0 { Err(last_error()) } else { Ok(polled.iter().map(|entry| entry.revents != 0).collect()) }
}

/// Python's `time.monotonic()` and `time.time()`, in seconds.
#[must_use]
pub fn clocks() -> (f64, f64) {
    (clock(libc::CLOCK_MONOTONIC), clock(libc::CLOCK_REALTIME))
}

fn clock(which: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, and these clocks are always there.
    unsafe { libc::clock_gettime(which, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32).as_secs_f64()
}
