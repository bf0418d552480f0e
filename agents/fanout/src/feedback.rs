//! RTCP that tells nothing but how a stream arrives (RFC 3550 section 6.4).
//!
//! Which is nearly all that viewers send. A compound packet with anything in it that wants an answer, or with a flaw, is
//! left to the caller as a whole.

#![forbid(unsafe_code)]

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const NACK: u8 = 1;
const PLI: u8 = 1;
const FIR: u8 = 4;
const BLOCK_BYTES: usize = 24;
/// Taken from one compound packet.
const MAX_BLOCKS: usize = 64;

/// A report block, as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub ssrc: u32,
    /// Fraction lost since the report before (upper eight bits) and lost in all.
    pub lost: u32,
    pub highest_sequence: u32,
    pub jitter: u32,
    pub last_sender_report: u32,
    pub delay: u32,
}

/// The reports in a compound packet; None when there is more to it.
#[must_use]
pub fn reports(mut compound: &[u8]) -> Option<Vec<Report>> {
    let mut found = Vec::new();
    while !compound.is_empty() {
        let head = compound.get(..4)?;
        let (count, kind) = (head[0] & 31, head[1]);
        let end = 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
        let body = compound.get(4..end)?;
        if head[0] >> 6 != 2 {
            return None;
        }
        match (kind, count) {
            (RECEIVER_REPORT, _) => blocks(body.get(4..).unwrap_or_default(), count, &mut found)?,
            (SENDER_REPORT, _) => blocks(body.get(24..).unwrap_or_default(), count, &mut found)?,
            (BYE, _) | (TRANSPORT_FEEDBACK, NACK) | (PAYLOAD_FEEDBACK, PLI | FIR) => return None,
            _ => {}
        }
        compound = &compound[end..];
    }
    Some(found)
}

fn blocks(data: &[u8], count: u8, found: &mut Vec<Report>) -> Option<()> {
    let data = data.get(..usize::from(count) * BLOCK_BYTES)?;
    for block in data.chunks_exact(BLOCK_BYTES).take(MAX_BLOCKS - found.len()) {
        let word = |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        found.push(Report {
            ssrc: word(0),
            lost: word(4),
            highest_sequence: word(8),
            jitter: word(12),
            last_sender_report: word(16),
            delay: word(20),
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(count: u8, kind: u8, body: &[u8]) -> Vec<u8> {
        let words = (body.len() / 4) as u16;
        [&[0x80 | count, kind], &words.to_be_bytes()[..], body].concat()
    }

    fn block(ssrc: u8) -> Vec<u8> {
        let words = [u32::from(ssrc), 0x0800_0002, 30, 4, 5, 6];
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn reports_of_receivers_and_senders() {
        let receiver = packet(2, RECEIVER_REPORT, &[&[0; 4][..], &block(1), &block(2)].concat());
        let sender = packet(1, SENDER_REPORT, &[&[0; 24][..], &block(3)].concat());
        let description = packet(1, 202, &[0; 8]);
        let found = reports(&[receiver, sender, description].concat()).unwrap();
        assert_eq!(found.iter().map(|report| report.ssrc).collect::<Vec<_>>(), [1, 2, 3]);
        let first = found[0];
        assert_eq!((first.lost, first.highest_sequence, first.jitter), (0x0800_0002, 30, 4));
        assert_eq!((first.last_sender_report, first.delay), (5, 6));
        assert_eq!(reports(&packet(0, RECEIVER_REPORT, &[0; 4])), Some(vec![]));
    }

    #[test]
    fn what_wants_an_answer_is_left() {
        let report = packet(1, RECEIVER_REPORT, &[&[0; 4][..], &block(1)].concat());
        for (count, kind) in [(1, BYE), (NACK, TRANSPORT_FEEDBACK), (PLI, PAYLOAD_FEEDBACK), (FIR, PAYLOAD_FEEDBACK)] {
            assert!(reports(&[report.clone(), packet(count, kind, &[0; 12])].concat()).is_none());
        }
        // Congestion control that was not negotiated, and what is not known, says nothing here.
        for (count, kind) in [(15, TRANSPORT_FEEDBACK), (15, PAYLOAD_FEEDBACK), (0, 204), (0, 207)] {
            assert!(reports(&[report.clone(), packet(count, kind, &[0; 12])].concat()).is_some());
        }
    }

    #[test]
    fn flaws_are_left() {
        let report = packet(1, RECEIVER_REPORT, &[&[0; 4][..], &block(1)].concat());
        for at in 1..report.len() {
            assert!(reports(&report[..at]).is_none());
        }
        let mut wrong = report.clone();
        wrong[0] = 0x41;
        assert!(reports(&wrong).is_none());
        wrong[0] = 0x82;
        assert!(reports(&wrong).is_none(), "more blocks than there is room for");
    }

    #[test]
    fn blocks_are_bounded() {
        let many = packet(31, RECEIVER_REPORT, &[vec![0; 4], block(1).repeat(31)].concat());
        assert_eq!(reports(&many.repeat(3)).unwrap().len(), MAX_BLOCKS);
    }
}
