"""Targets that read what a camera sends: RTSP, its SDP, RTP, H.264, parameter sets."""

from random import Random

from sightline_agent.media import h264, rtp, sps
from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import MAX_PAYLOAD, Chunk
from sightline_agent.media.grammar import H264
from sightline_agent.media.runs import Run, runs
from sightline_agent.sources.rtsp import auth, messages, sdp
from sightline_agent.sources.rtsp.sound import plan
from sightline_agent.sources.rtsp.wire import MAX_BODY, MAX_HEAD, Item, Message, Splitter, WireError
from tests.fuzz.runner import Target

_URL = "rtsp://192.0.2.1:554/cam"
_RECORD = 3
_MAX_HELD_PAYLOADS = 200_000
"""Bytes of parameter sets that a stream may make us repeat in front of a key frame."""


class Rtsp:
    """A connection's bytes: in pieces as TCP delivers them, then everything that reads the messages."""

    def feed(self, data: bytes, random: Random) -> None:
        whole, pieces = Splitter(), Splitter()
        try:
            at_once = whole.feed(data)
        except WireError:
            at_once = []
        in_pieces: list[Item] = []
        position = 0
        try:
            while position < len(data):
                step = random.choice((1, 3, 50, 1400, 4000)) if len(data) < 400 else random.choice((50, 1400, 4000))
                in_pieces += pieces.feed(data[position : position + step])
                position += step
        except WireError:
            pass
        assert in_pieces[: len(at_once)] == at_once
        for item in at_once:
            if isinstance(item, Message):
                assert len(item.body) <= MAX_BODY
                assert len(item.start) <= MAX_HEAD
                _read(item)

    def check(self) -> None: ...

    def close(self) -> None: ...


def _read(message: Message) -> None:
    """What the client reads of a message."""
    status = messages.status(message)
    assert status is None or (100 <= status.code <= 999 or status.phrase.isprintable())
    number = messages.sequence(message)
    assert number is None or number >= 0
    session = messages.session(message.header("session"))
    assert session.id.isprintable()
    assert 2 <= session.timeout <= 3600
    transport = messages.transport(message.header("transport"))
    if transport is not None and transport.numbers is not None:
        assert 0 <= min(transport.numbers) <= max(transport.numbers) <= (0xFF if transport.interleaved else 0xFFFF)
    messages.methods(message.header("public"))
    auth.choose(message.all("www-authenticate"))
    for name in ("content-base", "content-location", "location"):
        _address(messages.join(_URL, message.header(name)))
    _describe(message.body.decode("utf-8", "replace"))


def _address(text: str) -> None:
    cleaned = messages.clean_url(text)
    assert cleaned is None or (cleaned.isprintable() and " " not in cleaned and '"' not in cleaned)
    if cleaned is not None:
        messages.request("SETUP", cleaned, 1)


def _describe(text: str) -> None:
    description = sdp.parse(text)
    _address(messages.join(_URL, description.control))
    for track in description.videos:
        _address(messages.join(_URL, track.control))
        Assembler(track.parameter_sets)
    found, problem = plan(description)
    assert found is None or not problem
    assert len(problem) < 200


class CameraSdp:
    """A camera's description by itself: more inputs reach it than through messages."""

    def feed(self, data: bytes, random: Random) -> None:
        _describe(data.decode("utf-8", "replace"))

    def check(self) -> None: ...

    def close(self) -> None: ...


def records(data: bytes) -> list[list[bytes]]:
    """Packets as they come, in records of two bytes of length, one of flags, and a packet; some come together."""
    found: list[list[bytes]] = [[]]
    position = 0
    while position + _RECORD <= len(data):
        size, flags = int.from_bytes(data[position : position + 2], "big"), data[position + 2]
        found[-1].append(data[position + _RECORD : position + _RECORD + size])
        position += _RECORD + size
        if flags & 1:
            found.append([])
    return found


class Stream:
    """RTP packets, in runs and each for itself: the same comes out."""

    def __init__(self) -> None:
        self._reorderer = rtp.Reorderer()
        self._assembler = Assembler()
        self._each = Assembler()

    def feed(self, data: bytes, random: Random) -> None:
        for packets in records(data):
            found, malformed = runs(packets, H264)
            assert malformed + sum(len(run.payloads) for run in found) == len(packets)
            for run in found:
                self._digest(run)
            chunks = self._assembler.take()
            assert chunks == self._each.take()
            self._check_chunks(chunks, len(data))

    def _digest(self, run: Run) -> None:
        usual = run.shape != 0 and self._reorderer.passes(run.sequence, run.ssrc, len(run.payloads))
        if usual:
            self._assembler.extend(run)
        for packet in run.packets():
            for ready, gap in [(packet, False)] if usual else self._reorderer.push(packet):
                if ready.payload:
                    self._each.push(ready.payload, ready.timestamp, ready.marker, gap)
                    if not usual:
                        self._assembler.push(ready.payload, ready.timestamp, ready.marker, gap)

    def _check_chunks(self, chunks: list[Chunk], size: int) -> None:
        for chunk in chunks:
            assert chunk.payloads
            assert all(0 < len(payload) <= MAX_PAYLOAD for payload in chunk.payloads)
            assert 0 <= chunk.timestamp < 1 << 32

    def check(self) -> None:
        assert len(self._reorderer._waiting) <= self._reorderer._window
        held = [*self._assembler._sets.values(), *self._assembler._pending.values()]
        assert sum(map(len, held)) <= _MAX_HELD_PAYLOADS
        assert not self._assembler._payloads
        assert not self._assembler._chunks

    def close(self) -> None: ...


class Payload:
    """One H.264 payload through every pure function on it."""

    def feed(self, data: bytes, random: Random) -> None:
        limit = random.choice((8, 100, MAX_PAYLOAD))
        parts = h264.resplit(data, limit)
        assert all(0 < len(part) <= limit for part in parts)
        if h264.nal_type(data) == h264.FU_A and len(data) > limit:
            assert b"".join(part[2:] for part in parts) == data[2:]
        elif 0 < h264.nal_type(data) < h264.STAP_A:
            assert h264.reassemble(parts) == [data]
        h264.starts_nal(data)
        nals = h264.stap_nals(data)
        assert sum(map(len, nals)) <= len(data)
        assert all(0 < len(part) <= MAX_PAYLOAD for part in h264.aggregate(nals))
        h264.split_annex_b(data)
        h264.parse_parameter_sets(data.decode("latin-1"))

    def check(self) -> None: ...

    def close(self) -> None: ...


class Sps:
    """A sequence parameter set."""

    def feed(self, data: bytes, random: Random) -> None:
        info = sps.parse(data)
        assert info is None or (0 < info.width <= 16384 and 0 < info.height <= 16384)
        number = sps.set_id(data)
        assert number is None or number >= 0

    def check(self) -> None: ...

    def close(self) -> None: ...


_RTSP_TOKENS = (
    b"RTSP/1.0 200 OK\r\n",
    b"RTSP/1.0 401 Unauthorized\r\n",
    b"CSeq: 1\r\n",
    b"Content-Length: ",
    b"Content-Base: rtsp://[",
    b"WWW-Authenticate: ",
    b'Digest realm="x", nonce="y"',
    b"Session: ",
    b"Transport: RTP/AVP/TCP;interleaved=0-1",
    b"$\0\0\x04",
    b"\r\n\r\n",
    b"SET_PARAMETER * RTSP/1.0\r\n",
    b"a=control:",
    b"rtsp://[::",
)
_SDP_TOKENS = (
    b"a=control:",
    b"rtsp://[",
    b"rtsp://\xe2\x84\x80/",
    b"m=video 0 RTP/AVP 96\r\n",
    b"a=rtpmap:96 H264/90000\r\n",
    b"a=fmtp:96 packetization-mode=1;sprop-parameter-sets=",
    b"H265",
    b",,",
    b"0000",
)
CAMERA_TOKENS = (
    bytes((24,)),
    bytes((28, 0x85)),
    bytes((28, 0x45)),
    bytes((28, 0x05)),
    bytes((0x67, 0x42, 0xC0, 0x1E)),
    bytes((0x68, 0xCE, 0x3C, 0x80)),
    bytes((0x65, 0x88)),
    bytes((9, 0x10)),
    b"\0\0\1",
    b"\0\0\3",
    b"\x80\xe0",
    b"\xff" * 1500,
)

TARGETS = (
    Target("rtsp", Rtsp, _RTSP_TOKENS, 200_000),
    Target("camera-sdp", CameraSdp, _SDP_TOKENS, 128 * 1024),
    Target("rtp", Stream, CAMERA_TOKENS, 65_000),
    Target("h264", Payload, CAMERA_TOKENS, 65_535),
    Target("sps", Sps, CAMERA_TOKENS, 5000),
)
