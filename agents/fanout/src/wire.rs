//! Ways to send, which of them this machine has, and what its errors mean.

#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use crate::sys;

/// How long a datagram to ourselves may take before the way it went is judged not to work.
const PROBE_TIMEOUT: Duration = Duration::from_millis(200);

/// An error number of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const INTERRUPTED: Self = Self(libc::EINTR);
    /// The call does not exist here: an old kernel, or a sandbox.
    pub const NO_SUCH_CALL: Self = Self(libc::ENOSYS);

    /// The socket's buffer is: nothing is wrong with the viewer, or with the packet.
    #[must_use]
    pub fn is_full(self) -> bool {
        matches!(self.0, libc::EAGAIN | libc::ENOBUFS)
    }

    /// What is said about a segmented datagram on a path that cannot have one: no checksum offload, IPsec, a smaller
    /// MTU, an old kernel. Some of it is also said of other things, so the packets are tried one by one then.
    #[must_use]
    pub fn refuses_segments(self) -> bool {
        matches!(self.0, libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP | libc::ENOPROTOOPT)
    }
}

/// Packets for one viewer that go to the kernel as one: all of the same size, but the last one may be shorter.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    pub offset: usize,
    pub length: usize,
    /// Bytes of each packet.
    pub segment: u16,
    pub packets: u16,
    /// Which viewer, by its place in the list that is being served.
    pub stream: usize,
    pub address: SocketAddr,
}

/// Where packets leave. Links are the sockets there are, by number; never blocks.
pub trait Wire {
    /// Whether a link takes batches and segments; otherwise it gets packets one by one.
    fn batches(&self, link: usize) -> bool;

    /// The same links for another thread; None where only one may send.
    fn fork(&self) -> Option<Box<dyn Wire + Send>> {
        None
    }

    /// Sends the first of these messages; how many were taken, at least one.
    ///
    /// # Errors
    /// What became of the first message.
    fn send_many(&mut self, link: usize, buffer: &[u8], messages: &[Message]) -> Result<usize, Errno>;

    /// Sends one packet.
    ///
    /// # Errors
    /// Why it was not sent.
    fn send_one(&mut self, link: usize, packet: &[u8], address: &SocketAddr) -> Result<(), Errno>;
}

/// How packets are handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Many messages per call, each of many packets.
    Segments,
    /// Many messages per call, each one packet.
    Batches,
    /// One packet per call.
    Single,
}

impl Method {
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Segments, Self::Batches, Self::Single].into_iter().find(|method| method.name() == name)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Segments => "gso",
            Self::Batches => "sendmmsg",
            Self::Single => "sendto",
        }
    }

    /// The best that works here, found out by sending to ourselves: some sandboxes accept what they then ignore.
    #[must_use]
    pub fn probe() -> Self {
        let Some((from, to)) = loopback() else { return Self::Batches };
        [Self::Segments, Self::Batches].into_iter().find(|method| method.works(&from, &to)).unwrap_or(Self::Single)
    }

    fn works(self, from: &UdpSocket, to: &UdpSocket) -> bool {
        let Ok(address) = to.local_addr() else { return false };
        let message = |offset, length, packets| Message { offset, length, segment: 4, packets, stream: 0, address };
        let data = *b"aaaabbb";
        let messages = match self {
            Self::Segments => vec![message(0, 7, 2)],
            Self::Batches | Self::Single => vec![message(0, 4, 1), message(4, 3, 1)],
        };
        if sys::send_many(from.as_raw_fd(), &data, &messages) != Ok(messages.len()) {
            return false;
        }
        let mut received = [0; 16];
        [&data[..4], &data[4..]]
            .into_iter()
            .all(|expected| to.recv(&mut received).is_ok_and(|length| received[..length] == *expected))
    }
}

fn loopback() -> Option<(UdpSocket, UdpSocket)> {
    let bind = |address: SocketAddr| -> std::io::Result<_> {
        let to = UdpSocket::bind(address)?;
        to.set_read_timeout(Some(PROBE_TIMEOUT))?;
        Ok((UdpSocket::bind(address)?, to))
    };
    bind((Ipv4Addr::LOCALHOST, 0).into()).or_else(|_| bind((Ipv6Addr::LOCALHOST, 0).into())).ok()
}

/// UDP sockets, by their descriptors.
#[derive(Clone)]
pub struct Sockets(pub Vec<RawFd>);

impl Sockets {
    fn descriptor(&self, link: usize) -> Result<RawFd, Errno> {
        self.0.get(link).copied().ok_or(Errno(libc::EBADF))
    }
}

impl Wire for Sockets {
    fn batches(&self, _link: usize) -> bool {
        true
    }

    fn fork(&self) -> Option<Box<dyn Wire + Send>> {
        Some(Box::new(self.clone()))
    }

    fn send_many(&mut self, link: usize, buffer: &[u8], messages: &[Message]) -> Result<usize, Errno> {
        sys::send_many(self.descriptor(link)?, buffer, messages)
    }

    fn send_one(&mut self, link: usize, packet: &[u8], address: &SocketAddr) -> Result<(), Errno> {
        sys::send_one(self.descriptor(link)?, packet, address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_methods() {
        for method in [Method::Segments, Method::Batches, Method::Single] {
            assert_eq!(Method::named(method.name()), Some(method));
        }
        assert_eq!(Method::named("carrier pigeon"), None);
    }

    fn pair(address: SocketAddr) -> Option<(UdpSocket, UdpSocket)> {
        let to = UdpSocket::bind(address).ok()?;
        to.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        Some((UdpSocket::bind(address).ok()?, to))
    }

    fn receive(to: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2000];
        let length = to.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    /// More than one call takes, over both families where both are there.
    #[test]
    fn many_messages_arrive_in_order() {
        for address in [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()] {
            let Some((from, to)) = pair(address) else { continue };
            let address = to.local_addr().unwrap();
            let data: Vec<u8> = (0..100).collect();
            let messages: Vec<_> = (0..100)
                .map(|offset| Message { offset, length: 1, segment: 1, packets: 1, stream: 0, address })
                .collect();
            let mut wire = Sockets(vec![from.as_raw_fd()]);
            let mut sent = 0;
            while sent < messages.len() {
                sent += wire.send_many(0, &data, &messages[sent..]).unwrap();
            }
            wire.send_one(0, b"end", &address).unwrap();
            let received: Vec<u8> = (0..100).flat_map(|_| receive(&to)).collect();
            assert_eq!(received, data);
            assert_eq!(receive(&to), b"end");
        }
    }

    #[test]
    fn errors_come_as_they_are() {
        let mut wire = Sockets(vec![-1]);
        let address = (Ipv4Addr::LOCALHOST, 9).into();
        let message = Message { offset: 0, length: 1, segment: 1, packets: 1, stream: 0, address };
        assert_eq!(wire.send_many(0, b"x", &[message]), Err(Errno(libc::EBADF)));
        assert_eq!(wire.send_one(0, b"x", &address), Err(Errno(libc::EBADF)));
        assert_eq!(wire.send_one(1, b"x", &address), Err(Errno(libc::EBADF)));
    }

    #[test]
    fn a_probe_finds_some_way() {
        // Which one depends on the machine.
        let found = Method::probe();
        let (from, to) = loopback().unwrap();
        assert!(found == Method::Single || found.works(&from, &to));
    }
}
