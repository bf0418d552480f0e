"""Targets that read what a viewer's program sends over HTTP: offers, fragments, tokens."""

import base64
import functools
import math
from datetime import UTC, datetime
from random import Random

from sightline_agent.errors import ProblemError
from sightline_agent.media.frames import VideoFormat
from sightline_agent.players import Players
from sightline_agent.signaling.answer import Ours, build_answer, build_restart, choose
from sightline_agent.signaling.layers import parse_selection
from sightline_agent.signaling.offer import parse_body
from sightline_agent.signaling.report import parse_report
from sightline_agent.signaling.sdp import MAX_SDP_BYTES, SdpError, parse_fragment, parse_offer
from sightline_model.agent import PlayerReport
from sightline_model.tokens import Signer, TokenError, generate_private_key_pem, verify
from tests.fuzz.runner import Target

AUDIENCE = "default/door/0d3c"
NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
_OURS = Ours(
    ufrag="ourufrag",
    password="p" * 32,
    fingerprint=":".join(["CD"] * 32),
    addresses=["192.0.2.1", "2001:db8::1"],
    port=5004,
    ssrc=1111,
    rtx_ssrc=2222,
    session_id=42,
)

_PROFILES = ("", "42e01f", "64001f", "1.0.93")
_FORMATS = tuple(VideoFormat(codec, profile) for codec in ("H264", "H265") for profile in _PROFILES)


class Offer:
    """An offer, and the answer to it: whatever is echoed stays on its line."""

    def feed(self, data: bytes, random: Random) -> None:
        text = data.decode("utf-8", "replace")
        try:
            offer = parse_offer(text)
            choice = choose(offer, random.choice(_FORMATS))
            answer = build_answer(offer, choice, _OURS)
            build_restart(choice.section, _OURS)
        except SdpError:
            return
        lines = answer.split("\r\n")
        assert lines.pop() == ""
        assert all(line.isascii() and line.isprintable() and line[1] == "=" for line in lines)
        assert sum(line.startswith("m=") for line in lines) == len(offer.sections)
        assert sum(line == "a=sendonly" for line in lines) == 1
        assert sum(line.startswith("a=fingerprint:") for line in lines) <= 2
        assert len(answer) <= MAX_SDP_BYTES * 2

    def check(self) -> None: ...

    def close(self) -> None: ...


class Fragment:
    """A trickle fragment."""

    def feed(self, data: bytes, random: Random) -> None:
        try:
            fragment = parse_fragment(data.decode("utf-8", "replace"))
        except SdpError:
            return
        assert fragment.ufrag.isascii()
        assert len(fragment.ufrag) <= 256

    def check(self) -> None: ...

    def close(self) -> None: ...


class JsonOffer:
    """The body of the JSON offer."""

    def feed(self, data: bytes, random: Random) -> None:
        try:
            parse_offer(parse_body(data.decode("utf-8", "surrogateescape")))
        except ProblemError:
            return

    def check(self) -> None: ...

    def close(self) -> None: ...


class Layer:
    """The choice of a quality; a name that nobody has is told again in a problem, so it must be text."""

    def feed(self, data: bytes, random: Random) -> None:
        try:
            name = parse_selection(data.decode("utf-8", random.choice(("replace", "surrogateescape"))), "0")
        except ProblemError as error:
            assert error.problem.model_dump_json()
            return
        assert name is None or (name.isprintable() and 0 < len(name.encode()) <= 64)

    def check(self) -> None: ...

    def close(self) -> None: ...


class PlayerReports:
    """Reports of one player after the other; however they lie, the sums stay within what time allows."""

    def __init__(self) -> None:
        self._players = Players()
        self._now = 0.0

    def feed(self, data: bytes, random: Random) -> None:
        self._now += random.random() * 4
        sid = f"s-{random.randrange(8)}"
        try:
            report = parse_report(data.decode("utf-8", "surrogateescape"))
        except ProblemError:
            return
        self._players.note(sid, report, self._now)
        shown = PlayerReport.model_validate_json(report.model_dump_json())
        assert shown == report
        assert report.decoder.isascii()

    def check(self) -> None:
        assert 0 <= self._players.frozen_seconds <= 8 * (60 + self._now)
        assert len(self._players._heard) <= 8
        assert math.isfinite(self._players.jitter_buffer.total + self._players.frame_rate.total)

    def close(self) -> None: ...


@functools.cache
def _signer() -> Signer:
    return Signer.from_pem(generate_private_key_pem())


class Token:
    """A media token. The corpus holds headers and claims as JSON with a line break between; here they are put together,
    often with a right signature, so that what comes after its check is reached."""

    def feed(self, data: bytes, random: Random) -> None:
        signer = _signer()
        header, _, claims = data.partition(b"\n")
        text = ".".join((_base64(header.replace(b"KEY", signer.key_id.encode())), _base64(claims)))
        signature = random.randbytes(64)
        if random.random() < 0.7:
            signature = signer._key.sign(text.encode())
        token = f"{text}.{_base64(signature)}"
        if random.random() < 0.3:
            token = data.decode("utf-8", random.choice(("replace", "surrogateescape")))
        try:
            verified = verify(token, [signer.public_jwk()], AUDIENCE, NOW)
        except TokenError as error:
            assert token not in str(error) or len(token) < 8
            return
        assert verified.audience == AUDIENCE
        assert verified.role in ("View", "Publish", "Control")

    def check(self) -> None: ...

    def close(self) -> None: ...


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_SDP_TOKENS = (
    b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n",
    b"m=audio 0 UDP/TLS/RTP/SAVPF 111\r\n",
    b"a=group:BUNDLE 0 1 2\r\n",
    b"a=mid:0\r\n",
    b"a=ice-lite\r\n",
    b"a=bundle-only\r\n",
    b"a=rtcp-mux\r\n",
    b"a=rtcp-fb:* nack\r\n",
    b"a=setup:active\r\n",
    b"a=ice-ufrag:abcd\r\n",
    b"a=ice-pwd:0123456789012345678901\r\n",
    b"a=fingerprint:sha-256 ",
    b"a=rtpmap:96 H264/90000\r\n",
    b"a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n",
    b"apt=96",
    b"\xc2\x85",
    b"\x0b",
    b"\x1c",
    b"\r",
)
_TOKEN_TOKENS = (
    b'"alg":"none"',
    b'"alg":"EdDSA"',
    b'"alg":"HS256"',
    b'"kid":"KEY"',
    b'"kid":["KEY"]',
    b'"crit":["b64"],"b64":false',
    b'"aud":["default/door/0d3c"]',
    b'"role":"Control"',
    b'"exp":1e999',
    b'"exp":NaN',
    b'"iat":true',
    b"null",
    b"[" * 2500,
    b'{"a":' * 400,
    b"\\ud800",
)

_REPORT_TOKENS = (
    b'"freezes":',
    b'"frozenSeconds":',
    b'"framesDropped":',
    b'"decoder":"',
    b"1e999",
    b"-0.0",
    b"NaN",
    b"null",
    b"\\ud800",
    b"\\u0000",
    b"[" * 500,
)

TARGETS = (
    Target("offer", Offer, _SDP_TOKENS, 100_000),
    Target("fragment", Fragment, _SDP_TOKENS, 100_000),
    Target("json-offer", JsonOffer, (b"\\ud800", b"[" * 5000, b'"sdp":', b"1e999", b"\\u000a"), 150_000),
    Target("layer", Layer, (b'"mediaId":', b'"encodingId":', b"null", b"\\ud800", b"\\u0000", b"[" * 2000), 8192),
    Target("player-report", PlayerReports, _REPORT_TOKENS, 4096),
    Target("token", Token, _TOKEN_TOKENS, 6000),
)
