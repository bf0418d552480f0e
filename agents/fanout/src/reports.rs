//! Sender reports in clear: what a stream's clock shows at a moment, and what was sent (RFC 3550 section 6.4.1).

#![forbid(unsafe_code)]

use crate::stream::Counters;

const SENDER_REPORT: [u8; 4] = [0x80, 200, 0, 6];
const ONE_DESCRIPTION: [u8; 2] = [0x81, 202];
const CNAME: u8 = 1;

/// One moment on both clocks, and what to make of it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The clock that packets were sent by, in seconds.
    pub now: f64,
    /// The wall clock (RFC 3550 section 4).
    pub ntp: u64,
    /// Of the stream, per second.
    pub clock_rate: f64,
    /// Ticks that are added.
    pub correction: i64,
}

/// So many seconds on a clock of that rate; none where they lie ahead.
#[must_use]
pub fn ticks(seconds: f64, clock_rate: f64) -> u32 {
    (seconds.max(0.0) * clock_rate).round() as i64 as u32
}

/// SR, and SDES with the CNAME, as section 6.1 wants them in each compound packet. A name has at most 255 bytes.
#[must_use]
pub fn sender_report(ssrc: u32, sent: &Counters, cname: &str, at: &Moment) -> Vec<u8> {
    let shown = sent.last_timestamp.wrapping_add(ticks(at.now - sent.last_sent, at.clock_rate));
    let timestamp = shown.wrapping_add(at.correction as u32);
    let name = &cname.as_bytes()[..cname.len().min(255)];
    // One zero at least ends the description's items.
    let chunk = 4 + (2 + name.len()) / 4 * 4 + 4;
    let mut packet = Vec::with_capacity(32 + chunk);
    packet.extend_from_slice(&SENDER_REPORT);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&at.ntp.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&(sent.packets as u32).to_be_bytes());
    packet.extend_from_slice(&(sent.octets as u32).to_be_bytes());
    packet.extend_from_slice(&ONE_DESCRIPTION);
    packet.extend_from_slice(&((chunk / 4) as u16).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[CNAME, name.len() as u8]);
    packet.extend_from_slice(name);
    packet.resize(32 + chunk, 0);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Counters =
        Counters { packets: 7, octets: 700, last_timestamp: 1_000, resent: 0, dropped: 0, last_sent: 50.0 };

    fn at(now: f64, correction: i64) -> Moment {
        Moment { now, ntp: 9 << 32, clock_rate: 48_000.0, correction }
    }

    #[test]
    fn it_says_what_the_clock_shows_now() {
        for (now, correction, expected) in [
            (50.0, 0, 1_000),
            (50.5, 0, 25_000),
            (50.5, -30_000, u32::MAX - 4_999),
            (49.9, 0, 1_000), // the packet was sent after the clock was read
        ] {
            let packet = sender_report(0xabcd, &SENT, "x", &at(now, correction));
            assert_eq!(packet[16..20], u32::to_be_bytes(expected));
        }
    }

    #[test]
    fn names_of_any_length_end_with_a_zero_on_a_word() {
        for length in 0..300 {
            let name = "n".repeat(length);
            let packet = sender_report(1, &SENT, &name, &at(50.0, 0));
            let told = usize::from(u16::from_be_bytes([packet[30], packet[31]]));
            assert_eq!(packet.len(), 28 + 4 + 4 * told);
            let kept = length.min(255);
            assert_eq!(usize::from(packet[37]), kept);
            assert!((1..=4).contains(&(packet.len() - 38 - kept)));
            assert_eq!(packet.last(), Some(&0));
        }
    }
}
