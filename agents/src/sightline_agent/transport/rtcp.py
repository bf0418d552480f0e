"""RTCP as a sender needs it: read what receivers report, write sender reports.

Pure. `parse` takes the decrypted compound packet of a peer that is authenticated but not trusted: it never raises,
takes what is well-formed up to the first flaw and says that there was one. Formats: RFC 3550 section 6, RFC 4585
section 6, RFC 5104 section 4.3.1.
"""

from dataclasses import dataclass, field
from struct import Struct

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
BYE = 203
TRANSPORT_FEEDBACK = 205
PAYLOAD_FEEDBACK = 206
_NACK = 1
_PLI = 1
_FIR = 4

CNAME = "sightline"
"""What ties the tracks of one viewer together (RFC 3550 section 6.5.1)."""
MAX_LOST = 1024
"""Sequence numbers taken from one compound packet."""
MAX_BLOCKS = 64
"""Report blocks, key frame requests and farewells taken from one compound packet."""

_NTP_EPOCH = 2_208_988_800
_BLOCK_BYTES = 24
_BLOCK = Struct("!IIIIII")
_SENDER_REPORT = Struct("!BBHIQIII")


@dataclass(frozen=True, slots=True)
class ReceptionReport:
    """How one of our streams arrives (RFC 3550 section 6.4.1)."""

    ssrc: int
    fraction_lost: float
    """Since the report before, 0 to 1."""
    packets_lost: int
    """Since the beginning; negative with duplicates."""
    highest_sequence: int
    jitter: int
    """In RTP clock ticks."""
    last_sender_report: int
    delay: int
    """Since that sender report, in 1/65536 s."""


@dataclass(slots=True)
class Feedback:
    """Everything in one compound packet that a sender acts on."""

    reports: list[ReceptionReport] = field(default_factory=list)
    lost: dict[int, list[int]] = field(default_factory=dict)
    """NACKed sequence numbers by the SSRC they belong to."""
    key_frame_wanted: set[int] = field(default_factory=set)
    """SSRCs by PLI or FIR."""
    bye: set[int] = field(default_factory=set)
    """SSRCs that the peer stopped using."""
    malformed: bool = False


def parse(data: bytes) -> Feedback:
    """Read a compound packet."""
    feedback = Feedback()
    position = 0
    while position < len(data):
        if position + 4 > len(data) or data[position] >> 6 != 2:
            feedback.malformed = True
            break
        end = position + 4 + 4 * int.from_bytes(data[position + 2 : position + 4], "big")
        if end > len(data):
            feedback.malformed = True
            break
        _packet(feedback, data[position + 1], data[position] & 31, data[position + 4 : end])
        position = end
    return feedback


def _packet(feedback: Feedback, kind: int, count: int, body: bytes) -> None:
    if kind == RECEIVER_REPORT:
        _reports(feedback, count, body[4:])
    elif kind == SENDER_REPORT:
        _reports(feedback, count, body[24:])
    elif kind == TRANSPORT_FEEDBACK and count == _NACK:
        _nack(feedback, body)
    elif kind == PAYLOAD_FEEDBACK and count == _PLI:
        _want(feedback, body[4:8])
    elif kind == PAYLOAD_FEEDBACK and count == _FIR:
        for at in range(8, min(len(body) - 7, 8 + 8 * MAX_BLOCKS), 8):
            _want(feedback, body[at : at + 4])
    elif kind == BYE:
        if len(body) < 4 * count:
            feedback.malformed = True
        else:
            feedback.bye.update(int.from_bytes(body[at : at + 4], "big") for at in range(0, 4 * count, 4))


def _reports(feedback: Feedback, count: int, blocks: bytes) -> None:
    if len(blocks) < count * _BLOCK_BYTES:
        feedback.malformed = True
        return
    for at in range(0, count * _BLOCK_BYTES, _BLOCK_BYTES):
        if len(feedback.reports) >= MAX_BLOCKS:
            return
        feedback.reports.append(reception_report(_BLOCK.unpack_from(blocks, at)))


def reception_report(block: tuple[int, ...]) -> ReceptionReport:
    """From the six words of a report block."""
    ssrc, lost, highest, jitter, last, delay = block
    total = lost & 0xFFFFFF
    return ReceptionReport(
        ssrc=ssrc,
        fraction_lost=(lost >> 24) / 256,
        packets_lost=total - 0x1000000 if total & 0x800000 else total,
        highest_sequence=highest,
        jitter=jitter,
        last_sender_report=last,
        delay=delay,
    )


def _nack(feedback: Feedback, body: bytes) -> None:
    """Pairs of a sequence number and a bit mask of the sixteen after it (RFC 4585 section 6.2.1)."""
    if len(body) < 12:
        feedback.malformed = True
        return
    lost = feedback.lost.setdefault(int.from_bytes(body[4:8], "big"), [])
    room = MAX_LOST - sum(map(len, feedback.lost.values()))
    for at in range(8, len(body) - 3, 4):
        first, mask = int.from_bytes(body[at : at + 2], "big"), int.from_bytes(body[at + 2 : at + 4], "big")
        numbers = [first, *((first + bit + 1) & 0xFFFF for bit in range(16) if mask >> bit & 1)]
        lost.extend(numbers[:room])
        room -= len(numbers)
        if room <= 0:
            return


def _want(feedback: Feedback, ssrc: bytes) -> None:
    if len(ssrc) < 4:
        feedback.malformed = True
    elif len(feedback.key_frame_wanted) < MAX_BLOCKS:
        feedback.key_frame_wanted.add(int.from_bytes(ssrc, "big"))


def ntp_time(unix_time: float) -> int:
    """64-bit NTP timestamp (RFC 3550 section 4)."""
    seconds = int(unix_time)
    fraction = int((unix_time - seconds) * (1 << 32))
    return ((seconds + _NTP_EPOCH) & 0xFFFFFFFF) << 32 | fraction


def round_trip(report: ReceptionReport, now_ntp: int) -> float | None:
    """Seconds to the peer and back; None before it has seen a sender report, or when its numbers make no sense."""
    if report.last_sender_report == 0:
        return None
    elapsed = ((now_ntp >> 16) - report.last_sender_report - report.delay) & 0xFFFFFFFF
    return elapsed / 65536 if elapsed < 0x80000000 else None


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What we tell about our stream."""

    ssrc: int
    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int
    cname: str


def build_sender_report(report: SenderReport) -> bytes:
    """SR and SDES with the CNAME, as RFC 3550 section 6.1 wants them in each compound packet."""
    mask = 0xFFFFFFFF
    sender = _SENDER_REPORT.pack(
        0x80,
        SENDER_REPORT,
        6,
        report.ssrc,
        report.ntp,
        report.rtp_timestamp & mask,
        report.packets & mask,
        report.octets & mask,
    )
    name = report.cname.encode()[:255]
    chunk = report.ssrc.to_bytes(4, "big") + bytes((1, len(name))) + name
    chunk += bytes(4 - len(chunk) % 4)
    description = bytes((0x81, SOURCE_DESCRIPTION)) + (len(chunk) // 4).to_bytes(2, "big") + chunk
    return sender + description
