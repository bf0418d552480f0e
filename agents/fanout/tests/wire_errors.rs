//! What the fan-out does with the wire: when the kernel refuses, by plan, and on several threads.
//!
//! Packets are looked at as they are on the wire: numbers and sizes are in clear.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use sightline_fanout::fanout::{Events, FanOut, Limits, TooLong};
use sightline_fanout::pace::Pace;
use sightline_fanout::ring::Chunk;
use sightline_fanout::srtcp::Sealer;
use sightline_fanout::srtp::{INDEX_END, Profile, Srtp};
use sightline_fanout::stream::{Rtx, Settings};
use sightline_fanout::wire::{Errno, Message, Method, Wire};

const LIMITS: Limits = Limits {
    ring_packets: 64,
    ring_bytes: 1 << 20,
    max_payload: 1200,
    resend_burst: 10.0,
    resend_share: 0.5,
    window: 32,
    segments: 8,
    threads: 1,
    shard_least: 1,
};

const PACE: Pace = Pace {
    rate: 20_000.0,
    slice_least: 4,
    slice_most: 8,
    tick_most: 10,
    stuck: 0.25,
    backlog: 40,
    skip: 16,
    refresh_step: 3000,
};

type Refuse<T> = Box<dyn FnMut(&T) -> Option<Errno>>;

/// Takes packets, but first asks whether it should; `calls` counts what a system would see.
struct Scripted {
    refuse_many: Refuse<Message>,
    refuse_one: Refuse<SocketAddr>,
    /// Messages that one call takes.
    room: usize,
    calls: Vec<&'static str>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

impl Default for Scripted {
    fn default() -> Self {
        Self {
            refuse_many: Box::new(|_| None),
            refuse_one: Box::new(|_| None),
            room: usize::MAX,
            calls: Vec::new(),
            sent: Vec::new(),
        }
    }
}

impl Wire for Scripted {
    fn batches(&self, _link: usize) -> bool {
        true
    }

    fn send_many(&mut self, _link: usize, buffer: &[u8], messages: &[Message]) -> Result<usize, Errno> {
        self.calls.push("many");
        let mut taken = 0;
        for message in messages.iter().take(self.room) {
            if let Some(error) = (self.refuse_many)(message) {
                return if taken == 0 { Err(error) } else { Ok(taken) };
            }
            let data = &buffer[message.offset..][..message.length];
            let packets: Vec<_> = data.chunks(usize::from(message.segment)).collect();
            assert_eq!(packets.len(), usize::from(message.packets));
            self.sent.extend(packets.into_iter().map(|packet| (message.address, packet.to_vec())));
            taken += 1;
        }
        Ok(taken)
    }

    fn send_one(&mut self, _link: usize, packet: &[u8], address: &SocketAddr) -> Result<(), Errno> {
        self.calls.push("one");
        if let Some(error) = (self.refuse_one)(address) {
            return Err(error);
        }
        self.sent.push((*address, packet.to_vec()));
        Ok(())
    }
}

impl Scripted {
    fn numbers(&self, of: SocketAddr) -> Vec<u16> {
        let to = self.sent.iter().filter(|(address, _)| *address == of);
        to.map(|(_, packet)| u16::from_be_bytes([packet[2], packet[3]])).collect()
    }
}

fn address(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

fn settings(port: u16, sequence: u64) -> Settings {
    Settings {
        link: 0,
        address: address(port),
        srtp: Srtp::new(Profile::Aes128Gcm, &[1; 16], &[2; 12]).unwrap(),
        reports: Sealer::new(Profile::Aes128Gcm, &[1; 16], &[2; 12]).unwrap(),
        ssrc: 1,
        payload_type: 96,
        rtx: Some(Rtx { ssrc: 2, payload_type: 97, next: 500 }),
        sequence,
        timestamp_offset: 0,
    }
}

fn chunk(sizes: &[usize], key: bool) -> Chunk {
    let mut chunk = Chunk::new(0, true, key);
    for &size in sizes {
        chunk.push(&vec![0; size]);
    }
    chunk
}

fn send(fanout: &mut FanOut, wire: &mut Scripted, sizes: &[usize], key: bool) -> Events {
    fanout.send(wire, 1, chunk(sizes, key), 1.0).unwrap()
}

#[test]
fn equal_packets_leave_together_and_the_last_may_be_shorter() {
    let mut sizes = Vec::new();
    let mut wire = Scripted::default();
    let (report, seen) = std::sync::mpsc::channel();
    wire.refuse_many = Box::new(move |message| {
        report.send((message.packets, message.segment)).unwrap();
        None
    });
    let mut fanout = FanOut::new(LIMITS, PACE, Method::Segments);
    fanout.add(settings(1, 0));
    send(&mut fanout, &mut wire, &[100, 100, 100, 40, 40, 200, 200], true);
    sizes.extend(seen.try_iter());
    assert_eq!(sizes, [(4, 128), (1, 68), (2, 228)]);
    // No more than the limit, whatever would fit.
    send(&mut fanout, &mut wire, &[100; 20], false);
    assert_eq!(seen.try_iter().map(|(packets, _)| packets).collect::<Vec<_>>(), [8, 8, 4]);
    assert_eq!(wire.numbers(address(1)), (0..27).collect::<Vec<_>>());
    assert_eq!(wire.calls, ["many", "many"]);
}

#[test]
fn a_path_without_segments_gets_single_packets_and_is_not_asked_again() {
    for error in [libc::EIO, libc::EINVAL, libc::EMSGSIZE, libc::EOPNOTSUPP] {
        let mut wire = Scripted {
            refuse_many: Box::new(move |m| (m.packets > 1 && m.address == address(1)).then_some(Errno(error))),
            ..Scripted::default()
        };
        let mut fanout = FanOut::new(LIMITS, PACE, Method::Segments);
        let handles = [fanout.add(settings(1, 0)), fanout.add(settings(2, 0))];
        send(&mut fanout, &mut wire, &[100, 100, 100], true);
        assert_eq!(wire.calls, ["many", "one", "one", "one", "many"]);
        wire.calls.clear();
        send(&mut fanout, &mut wire, &[100, 100, 100], false);
        assert_eq!(wire.calls, ["many"]);
        for (handle, port) in handles.into_iter().zip([1, 2]) {
            assert_eq!(wire.numbers(address(port)), (0..6).collect::<Vec<_>>());
            assert_eq!(fanout.stream(handle).unwrap().counters.dropped, 0);
        }
        // Another path may have them.
        wire.calls.clear();
        fanout.redirect(handles[0], 0, address(3));
        send(&mut fanout, &mut wire, &[100, 100, 100], false);
        assert_eq!(wire.calls, ["many"]);
        assert_eq!(fanout.method(), Method::Segments);
    }
}

#[test]
fn a_call_that_does_not_exist_is_not_tried_again() {
    let mut wire = Scripted { refuse_many: Box::new(|_| Some(Errno::NO_SUCH_CALL)), ..Scripted::default() };
    let mut fanout = FanOut::new(LIMITS, PACE, Method::Segments);
    fanout.add(settings(1, 0));
    send(&mut fanout, &mut wire, &[100, 100, 40], true);
    assert_eq!(wire.calls, ["many", "one", "one", "one"]);
    assert_eq!(fanout.method(), Method::Single);
    wire.calls.clear();
    send(&mut fanout, &mut wire, &[100, 100], false);
    assert_eq!(wire.calls, ["one", "one"]);
    assert_eq!(wire.numbers(address(1)), [0, 1, 2, 3, 4]);
}

#[test]
fn interruptions_are_nothing() {
    let mut again = 0;
    let mut interrupted = move || {
        again += 1;
        (again % 2 == 1).then_some(Errno::INTERRUPTED)
    };
    let mut once = interrupted;
    let mut wire = Scripted {
        refuse_many: Box::new(move |_| interrupted()),
        refuse_one: Box::new(move |_| once()),
        ..Scripted::default()
    };
    let mut fanout = FanOut::new(LIMITS, PACE, Method::Batches);
    let handle = fanout.add(settings(1, 0));
    send(&mut fanout, &mut wire, &[100], true);
    fanout.resend(&mut wire, handle, &[0]);
    assert_eq!(wire.calls, ["many", "many", "one", "one"]);
    assert_eq!((fanout.totals().packets, fanout.totals().resent), (2, 1));
}

#[test]
fn a_call_that_takes_part_is_repeated_for_the_rest() {
    let mut wire = Scripted { room: 2, ..Scripted::default() };
    let mut fanout = FanOut::new(LIMITS, PACE, Method::Batches);
    fanout.add(settings(1, 0));
    fanout.add(settings(2, 10));
    send(&mut fanout, &mut wire, &[1, 2, 3], true);
    assert_eq!(wire.calls, ["many"; 3]);
    assert_eq!(wire.numbers(address(1)), [0, 1, 2]);
    assert_eq!(wire.numbers(address(2)), [10, 11, 12]);
}

#[test]
fn an_error_pauses_its_viewers_until_a_key_frame_and_uses_no_number_twice() {
    for (method, error) in [(Method::Batches, libc::EPERM), (Method::Segments, libc::ENETUNREACH)] {
        let mut left = 3;
        let mut wire = Scripted {
            refuse_many: Box::new(move |m| {
                left -= i32::from(m.packets);
                (-9..0).contains(&left).then_some(Errno(error))
            }),
            ..Scripted::default()
        };
        let mut fanout = FanOut::new(LIMITS, PACE, method);
        let handles = [fanout.add(settings(1, 0)), fanout.add(settings(2, 0))];
        send(&mut fanout, &mut wire, &[10], true);
        send(&mut fanout, &mut wire, &[30, 20, 10, 40, 50], false);
        let dropped = fanout.totals().dropped;
        assert!(dropped >= 9);
        send(&mut fanout, &mut wire, &[10], false);
        assert_eq!(fanout.totals().dropped, dropped + 2);
        let before = wire.sent.len();
        // The script refuses a few more.
        for _ in 0..10 {
            send(&mut fanout, &mut wire, &[10], true);
        }
        assert!(wire.sent.len() > before);
        for (handle, port) in handles.into_iter().zip([1, 2]) {
            let numbers = wire.numbers(address(port));
            assert!(numbers.is_sorted());
            assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len());
            let counters = fanout.stream(handle).unwrap().counters;
            assert_eq!(counters.packets, numbers.len() as u64);
        }
        let octets: usize = wire.sent.iter().map(|(_, packet)| packet.len()).sum();
        assert_eq!(fanout.totals().octets, octets as u64);
    }
}

#[test]
fn a_wire_that_takes_nothing_is_full() {
    let mut wire = Scripted { room: 0, ..Scripted::default() };
    let mut fanout = FanOut::new(LIMITS, PACE, Method::Batches);
    fanout.add(settings(1, 0));
    assert_eq!(send(&mut fanout, &mut wire, &[1], true), Events::default());
    assert_eq!((fanout.totals().dropped, fanout.totals().delayed), (0, 1));
}

#[test]
fn a_viewer_whose_numbers_are_used_up_ends_and_says_so_once() {
    let mut wire = Scripted::default();
    let mut fanout = FanOut::new(LIMITS, PACE, Method::Segments);
    let handle = fanout.add(settings(1, INDEX_END - 2));
    let events = send(&mut fanout, &mut wire, &[9, 9, 9], true);
    assert_eq!(events, Events { started: vec![handle], failed: vec![handle] });
    assert_eq!(wire.numbers(address(1)), [0xfffe, 0xffff]);
    assert_eq!(send(&mut fanout, &mut wire, &[9], true), Events::default());
    fanout.resend(&mut wire, handle, &[0xffff]);
    assert_eq!(wire.sent.len(), 2);
    assert_eq!((fanout.totals().dropped, fanout.totals().refused), (2, 1));
}

#[test]
fn a_chunk_that_is_too_long_changes_nothing() {
    let mut wire = Scripted::default();
    let mut fanout = FanOut::new(LIMITS, PACE, Method::Segments);
    fanout.add(settings(1, 0));
    assert_eq!(fanout.send(&mut wire, 1, chunk(&[5, 1201], true), 0.0), Err(TooLong));
    send(&mut fanout, &mut wire, &[5], true);
    assert_eq!(wire.numbers(address(1)), [0]);
}

#[test]
fn large_frames_to_many_viewers_go_in_several_batches() {
    let mut wire = Scripted::default();
    let mut fanout = FanOut::new(Limits { ring_packets: 4096, ..LIMITS }, PACE, Method::Segments);
    for port in 1..=50 {
        fanout.add(settings(port, u64::from(port)));
    }
    // A frame larger than a lane is still one viewer's batch.
    for size in [20, 400] {
        send(&mut fanout, &mut wire, &vec![1200; size], true);
    }
    assert!(wire.calls.len() > 10);
    for port in 1..=50 {
        assert_eq!(wire.numbers(address(port)), (port..port + 420).collect::<Vec<_>>());
    }
}

fn indices(wire: &Scripted) -> Vec<usize> {
    wire.sent.iter().map(|(_, packet)| packet.len() - 28).collect()
}

#[test]
fn who_joins_late_gets_the_group_in_slices_and_then_the_rest() {
    let mut wire = Scripted::default();
    let mut fanout = FanOut::new(LIMITS, PACE, Method::Segments);
    send(&mut fanout, &mut wire, &[1, 2, 3], true);
    send(&mut fanout, &mut wire, &[4, 5, 6, 7, 8, 9], false);
    let handle = fanout.add(settings(1, 30));
    assert!(fanout.burst(handle, 0, 1.0));
    assert!(!fanout.burst(handle, 0, 1.0));
    let first = fanout.catch_up(&mut wire, Some(0), 1.0);
    assert_eq!(first.started, [handle]);
    assert_eq!(indices(&wire), [1, 2, 3, 4]);
    // What is live meanwhile has its turn.
    send(&mut fanout, &mut wire, &[10], false);
    assert_eq!(fanout.catch_up(&mut wire, Some(0), 1.0003), Events::default());
    assert!(!fanout.anybody_behind());
    send(&mut fanout, &mut wire, &[11], false);
    assert_eq!(indices(&wire), (1..=11).collect::<Vec<_>>());
    assert_eq!(wire.numbers(address(1)), (30..41).collect::<Vec<_>>());
    assert_eq!(wire.calls, ["many"; 3]);
}

#[test]
fn a_full_socket_delays_and_what_was_refused_comes_again_as_the_same_bytes() {
    for method in [Method::Segments, Method::Batches, Method::Single] {
        // The second packet is refused; a batch that was taken in part is asked about it twice.
        let (mut ones, mut many) = (0, 0);
        let mut wire = Scripted {
            refuse_one: Box::new(move |_| {
                ones += 1;
                (ones == 2).then_some(Errno(libc::EAGAIN))
            }),
            refuse_many: Box::new(move |_| {
                many += 1;
                (many == 2 || many == 3).then_some(Errno(libc::ENOBUFS))
            }),
            ..Scripted::default()
        };
        let mut fanout = FanOut::new(LIMITS, PACE, method);
        let handle = fanout.add(settings(1, 0));
        send(&mut fanout, &mut wire, &[1, 2, 3, 4], true);
        assert!(fanout.anybody_behind());
        assert!(!fanout.burst(handle, 0, 1.0));
        fanout.catch_up(&mut wire, None, 1.1);
        assert!(!fanout.anybody_behind());
        assert_eq!(indices(&wire), [1, 2, 3, 4]);
        assert_eq!(wire.numbers(address(1)), [0, 1, 2, 3]);
        let totals = fanout.totals();
        assert_eq!((totals.delayed, totals.dropped, totals.packets), (1, 0, 4));
    }
}

#[test]
fn numbers_run_out_in_the_middle_of_a_burst() {
    let mut wire = Scripted::default();
    let mut fanout = FanOut::new(LIMITS, PACE, Method::Segments);
    send(&mut fanout, &mut wire, &[1, 2, 3, 4], true);
    let handle = fanout.add(settings(1, INDEX_END - 2));
    assert!(fanout.burst(handle, 0, 0.0));
    let events = fanout.catch_up(&mut wire, Some(0), 0.0);
    assert_eq!(events, Events { started: vec![handle], failed: vec![handle] });
    assert!(!fanout.anybody_behind());
    assert_eq!(indices(&wire), [1, 2]);
    assert_eq!(fanout.totals().dropped, 2);
    assert!(!fanout.burst(handle, 0, 0.0));
}

/// Notes which thread sent how many packets to whom.
#[derive(Clone, Default)]
struct Threads(Arc<Mutex<Vec<(SocketAddr, ThreadId, u16)>>>);

impl Wire for Threads {
    fn batches(&self, _link: usize) -> bool {
        true
    }

    fn fork(&self) -> Option<Box<dyn Wire + Send>> {
        Some(Box::new(self.clone()))
    }

    fn send_many(&mut self, _link: usize, _buffer: &[u8], messages: &[Message]) -> Result<usize, Errno> {
        let me = thread::current().id();
        self.0.lock().unwrap().extend(messages.iter().map(|message| (message.address, me, message.packets)));
        Ok(messages.len())
    }

    fn send_one(&mut self, _link: usize, _packet: &[u8], _address: &SocketAddr) -> Result<(), Errno> {
        Err(Errno(libc::EIO))
    }
}

#[test]
fn many_viewers_are_divided_among_threads() {
    for (viewers, threads) in [(1, 1), (7, 1), (8, 2), (11, 2), (12, 3), (50, 3)] {
        let mut wire = Threads::default();
        let mut fanout = FanOut::new(Limits { threads: 3, shard_least: 4, ..LIMITS }, PACE, Method::Segments);
        for port in 1..=viewers {
            fanout.add(settings(port, u64::from(port)));
        }
        let events = fanout.send(&mut wire, 1, chunk(&[100, 100, 50], true), 0.0).unwrap();
        assert_eq!(events.started.len(), usize::from(viewers));
        assert_eq!(fanout.totals().packets, 3 * u64::from(viewers));
        let calls = wire.0.lock().unwrap().clone();
        let reached: HashSet<_> = calls.iter().map(|call| call.0).collect();
        assert_eq!(reached, (1..=viewers).map(address).collect());
        assert_eq!(calls.iter().map(|call| u64::from(call.2)).sum::<u64>(), 3 * u64::from(viewers));
        assert_eq!(calls.iter().map(|call| call.1).collect::<HashSet<_>>().len(), threads);
    }
}

#[test]
fn what_only_one_thread_may_send_stays_on_it() {
    let mut wire = Scripted::default();
    let mut fanout = FanOut::new(Limits { threads: 3, shard_least: 1, ..LIMITS }, PACE, Method::Segments);
    for port in 1..=9 {
        fanout.add(settings(port, u64::from(port)));
    }
    send(&mut fanout, &mut wire, &[100], true);
    assert_eq!(wire.sent.len(), 9);
}
