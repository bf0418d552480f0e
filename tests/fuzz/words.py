"""Targets that read what a viewer's program sends over HTTP: offers, fragments, tokens."""

import base64
import functools
from datetime import UTC, datetime
from random import Random

from sightline_agent.errors import ProblemError
from sightline_agent.signaling.answer import Ours, build_answer, build_restart, choose
from sightline_agent.signaling.offer import parse_body
from sightline_agent.signaling.sdp import MAX_SDP_BYTES, SdpError, parse_fragment, parse_offer
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


class Offer:
    """An offer, and the answer to it: whatever is echoed stays on its line."""

    def feed(self, data: bytes, random: Random) -> None:
        text = data.decode("utf-8", "replace")
        try:
            offer = parse_offer(text)
            choice = choose(offer, random.choice(("", "42e01f", "64001f")))
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

TARGETS = (
    Target("offer", Offer, _SDP_TOKENS, 100_000),
    Target("fragment", Fragment, _SDP_TOKENS, 100_000),
    Target("json-offer", JsonOffer, (b"\\ud800", b"[" * 5000, b'"sdp":', b"1e999", b"\\u000a"), 150_000),
    Target("token", Token, _TOKEN_TOKENS, 6000),
)
