//! The thread that reads the media port: its life, its inbox, and that `lift` is a barrier.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use aws_lc_rs::hmac;
use sightline_fanout::check::Credentials;
use sightline_fanout::port::{Counts, Left, Port, Shared};
use sightline_fanout::receive::Now;
use sightline_fanout::sys;

const UFRAG: &[u8] = b"ours";
const PASSWORD: &[u8] = b"a password of ours";

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), &(value.len() as u16).to_be_bytes(), value].concat()
}

/// A check that is answered where the credentials were placed.
fn check() -> Vec<u8> {
    let attributes = [attribute(0x0006, b"ours:one"), attribute(0x0024, &[0; 4]), attribute(0x802A, &[0; 8])].concat();
    let length = (attributes.len() + 24) as u16;
    let head = [&[0, 1], &length.to_be_bytes()[..], &0x2112_A442_u32.to_be_bytes(), &[7; 12]].concat();
    let covered = [head, attributes].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, PASSWORD);
    [&covered[..], &attribute(0x0008, hmac::sign(&key, &covered).as_ref())].concat()
}

/// Rings it now?
fn rings(shared: &Shared) -> bool {
    sys::wait(&[shared.bell()], Some(0)).unwrap()[0]
}

/// The port, and somebody who writes to it.
struct Stage {
    socket: UdpSocket,
    sender: UdpSocket,
    shared: Arc<Shared>,
    port: Option<Port>,
}

impl Stage {
    fn new(most: usize) -> Self {
        let [socket, sender] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        sender.connect(socket.local_addr().unwrap()).unwrap();
        sender.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let shared = Arc::new(Shared::new(most).unwrap());
        let port = Some(Port::open(&shared, &[socket.as_raw_fd()]).unwrap());
        Self { socket, sender, shared, port }
    }

    /// What was counted once it satisfies.
    fn counts(&self, enough: impl Fn(&Counts) -> bool) -> Counts {
        let mut all = Counts::default();
        while !enough(&all) {
            let (left, counts) = self.shared.collect(0);
            assert!(left.is_empty());
            all.add(&counts);
            thread::yield_now();
        }
        all
    }

    fn collect(&self, most: usize) -> Vec<u8> {
        self.shared.collect(most).0.iter().map(|left| left.data[0]).collect()
    }
}

#[test]
fn what_is_left_waits_in_order_and_a_full_inbox_takes_nothing_more() {
    let stage = Stage::new(4);
    assert!(!rings(&stage.shared));
    for number in 0..10 {
        stage.sender.send(&[number]).unwrap();
    }
    assert_eq!(stage.counts(|counts| counts.dropped == 6), Counts { dropped: 6, ..Counts::default() });
    assert_eq!(stage.collect(3), [0, 1, 2]);
    assert!(rings(&stage.shared));
    assert_eq!(stage.collect(3), [3]);
    assert!(!rings(&stage.shared));
    stage.sender.send(&[99]).unwrap();
    assert!(sys::wait(&[stage.shared.bell()], None).unwrap()[0], "it rings again");
    let (left, _) = stage.shared.collect(1);
    let source = stage.sender.local_addr().unwrap();
    assert_eq!(left, [Left { data: vec![99], source, association: 0 }]);
}

#[test]
fn a_check_is_answered_and_rings_nothing() {
    let stage = Stage::new(4);
    let id = stage.shared.receiver().open();
    stage.shared.receiver().place(id, stage.sender.local_addr().unwrap(), Credentials::new(UFRAG, PASSWORD));
    stage.sender.send(&check()).unwrap();
    let mut answer = [0; 200];
    let length = stage.sender.recv(&mut answer).unwrap();
    assert_eq!((&answer[..2], &answer[8..20], length), (&[1, 1][..], &[7; 12][..], 64));
    assert_eq!(stage.counts(|counts| counts.answered > 0), Counts { answered: 1, ..Counts::default() });
    assert!(!rings(&stage.shared));
    assert!(stage.shared.receiver().news(id).unwrap().checked.unwrap() <= sys::clocks().0);
}

#[test]
fn after_its_end_the_sockets_are_the_callers_alone() {
    let mut stage = Stage::new(4);
    let mut data = [0; 9];
    for round in 0..20 {
        stage.port = None;
        stage.sender.send(&[round]).unwrap();
        assert_eq!(stage.socket.recv(&mut data).unwrap(), 1);
        stage.port = Some(Port::open(&stage.shared, &[stage.socket.as_raw_fd()]).unwrap());
    }
    assert_eq!(stage.shared.collect(9), (vec![], Counts::default()));
    let address = stage.socket.local_addr().unwrap();
    let Stage { socket, port, .. } = stage;
    drop(port);
    drop(socket);
    UdpSocket::bind(address).unwrap();
}

#[test]
fn a_socket_that_is_none_is_refused() {
    let shared = Arc::new(Shared::new(1).unwrap());
    assert!(Port::open(&shared, &[-1]).is_err());
}

#[test]
fn nothing_is_answered_once_lift_has_returned() {
    let shared = Shared::new(0).unwrap();
    let home: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    let id = shared.receiver().open();
    let (tried, sent, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let digest = || {
        while !over.load(Ordering::SeqCst) {
            shared.digest(&mut check(), home, Now::default(), |_| {
                thread::yield_now(); // the answer takes its time
                sent.fetch_add(1, Ordering::SeqCst);
                true
            });
            tried.fetch_add(1, Ordering::SeqCst);
        }
    };
    let until = |counter: &AtomicUsize, more: usize| {
        let wanted = counter.load(Ordering::SeqCst) + more;
        while counter.load(Ordering::SeqCst) < wanted {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(digest);
        }
        let held = (0..100).all(|_| {
            shared.receiver().place(id, home, Credentials::new(UFRAG, PASSWORD));
            until(&sent, 3);
            shared.receiver().lift(id);
            let before = sent.load(Ordering::SeqCst);
            until(&tried, 12);
            sent.load(Ordering::SeqCst) == before
        });
        over.store(true, Ordering::SeqCst);
        assert!(held);
    });
}

#[test]
fn a_defect_with_one_datagram_leaves_the_others_theirs() {
    let shared = Shared::new(4).unwrap();
    let home: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    let id = shared.receiver().open();
    shared.receiver().place(id, home, Credentials::new(UFRAG, PASSWORD));
    let broken = || shared.digest(&mut check(), home, Now::default(), |_| panic!("on purpose")).counts;
    assert!(catch_unwind(AssertUnwindSafe(broken)).is_err());
    let counts = shared.digest(&mut check(), home, Now::default(), |_| false).counts;
    assert_eq!((counts.answered, counts.unanswered), (1, 1));
}
