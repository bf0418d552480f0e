"""What is native, where it is built: the port with its receiver, its reading of RTCP, and what takes a camera's bytes
apart, against the Python one's."""

import importlib.util
from random import Random

from pylibsrtp import Error, Policy, Session

from sightline_agent.media.grammar import H264, H265
from sightline_agent.sources.rtsp.apart import Apart, native
from sightline_agent.transport import rtcp
from sightline_agent.transport.fanout import Address, SendKeys
from sightline_agent.transport.receiver import NativeReceiver
from sightline_agent.transport.srtp import PROFILES
from tests.fuzz.media import CAMERA_TOKENS, records
from tests.fuzz.runner import Target
from tests.fuzz.transport import RTCP_TOKENS, STUN_TOKENS, Mux

_HOME: Address = ("192.0.2.1", 1000)
_PROFILE = "SRTP_AEAD_AES_128_GCM"
_KEY, _SALT = bytes(16), bytes(12)


class Rtcp:
    """A viewer who is authenticated, and not trusted: what is taken without a word must be reports and nothing else."""

    def __init__(self) -> None:
        self._now = 100.0
        self._receiver = NativeReceiver(lambda: self._now)
        self._fresh()

    def _fresh(self) -> None:
        self._association = self._receiver.associate()
        self._association.unlock(SendKeys(_PROFILE, _KEY, _SALT))
        self._association.place(_HOME, "ufrag", b"password")
        policy = Policy(key=_KEY + _SALT, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[_PROFILE])
        self._session = Session(policy)

    def feed(self, data: bytes, random: Random) -> None:
        self._now += 1
        if random.random() < 0.1:
            # The stream of bytes itself, not sealed: never believed.
            answer, (left, (answered, *_)) = self._receiver.digest(data, _HOME, self._now)
            assert (answer, answered) == (None, 0)
            assert all(number == 0 for _, _, _, number in left)
            return
        try:
            sealed = self._session.protect_rtcp(data)
        except (Error, ValueError):
            return  # no RTCP that a peer could seal
        self._association.heard()
        _, (left, (_, _, taken, *_)) = self._receiver.digest(sealed, _HOME, self._now)
        if len(sealed) < 2 or sealed[1] not in range(192, 224) or not 128 <= sealed[0] <= 191:
            assert not taken  # the mux's business
            return
        assert taken == 1
        plain = data
        if left:
            assert left == [(plain, *_HOME, self._association.id)]
            return
        heard, read = self._association.heard(), rtcp.parse(plain)
        if self._association.times()[1] < self._now:  # from one sender too many
            assert not heard
            return
        assert (read.malformed, read.lost, read.key_frame_wanted, read.bye) == (False, {}, set(), set())
        newest = {report.ssrc: report for report in read.reports}
        assert all(newest[one.report.ssrc] == one.report for one in heard)
        assert sum(one.count for one in heard) <= len(read.reports)

    def check(self) -> None:
        # Streams and senders of one association are bounded; a new one listens again.
        assert len(self._association._counts) <= 8
        self._association.close()
        self._fresh()

    def close(self) -> None:
        self._association.close()


class CameraBytes:
    """What a camera sends, taken apart: interleaved frames and datagrams."""

    def __init__(self) -> None:
        self._native, self._reference = native(), Apart()

    def feed(self, data: bytes, random: Random) -> None:
        codec = random.choice((H264, H265))
        for packets in records(data):
            assert self._native.runs(packets, codec) == self._reference.runs(packets, codec)
        frames = b"".join(
            b"$" + bytes((random.randrange(2),)) + len(packet).to_bytes(2, "big") + packet
            for packets in records(data)
            for packet in packets
        )
        for found in (data, frames, frames[: random.randrange(len(frames) + 1)]):
            assert self._native.cut(found, 0) == self._reference.cut(found, 0)
            assert self._native.reader(0, codec)(found, 0) == self._reference.reader(0, codec)(found, 0)

    def check(self) -> None: ...

    def close(self) -> None: ...


_INSTALLED = importlib.util.find_spec("sightline_fanout") is not None
TARGETS = (
    (
        Target("native-mux", lambda: Mux(NativeReceiver()), STUN_TOKENS, 2048),
        Target("native-rtcp", Rtcp, RTCP_TOKENS, 1900),
        Target("native-camera", CameraBytes, CAMERA_TOKENS, 8000),
    )
    if _INSTALLED
    else ()
)
