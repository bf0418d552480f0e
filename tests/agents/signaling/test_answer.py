"""Answers: what they say to which offer, and that real programs accept them."""

import re
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc import sdp as aiortc_sdp
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.frames import VideoFormat
from sightline_agent.signaling.answer import Ours, build_answer, build_restart, choose, offered, order_addresses
from sightline_agent.signaling.sdp import SdpError, parse_offer
from sightline_model.problems import ProblemCode

CHROMIUM = (Path(__file__).parent / "chromium_offer.sdp").read_text()
FINGERPRINT = ":".join(["AB"] * 32)
OURS = Ours(
    ufrag="ourufrag",
    password="p" * 32,
    fingerprint=":".join(["CD"] * 32),
    addresses=["192.0.2.1", "10.0.0.1", "2001:db8::1"],
    port=5004,
    ssrc=1111,
    rtx_ssrc=2222,
    session_id=42,
)
VIDEO = [
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
    "a=mid:v",
    "a=recvonly",
    "a=rtcp-mux",
    "a=setup:actpass",
    "a=ice-ufrag:abcd",
    "a=ice-pwd:0123456789012345678901",
    f"a=fingerprint:sha-256 {FINGERPRINT}",
    "a=rtpmap:96 H264/90000",
    "a=fmtp:96 packetization-mode=1;profile-level-id=42e01f",
    "a=rtpmap:97 rtx/90000",
    "a=fmtp:97 apt=96",
]
AUDIO = ["m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:a", "a=rtpmap:111 opus/48000/2"]


def offer_of(*sections: list[str], session: tuple[str, ...] = ()) -> str:
    return "\r\n".join(["v=0", *session, *(line for section in sections for line in section), ""])


def changed(old: str, *new: str) -> list[str]:
    """VIDEO with a line replaced or, without `new`, missing."""
    assert old in VIDEO
    return [line for known in VIDEO for line in (new if known == old else (known,))]


def answer_to(text: str, profile: str = "42e01f") -> str:
    offer = parse_offer(text)
    return build_answer(offer, choose(offer, VideoFormat("H264", profile)), OURS)


def sections_of(answer: str) -> list[list[str]]:
    """The session's lines, then each section's."""
    assert answer.endswith("\r\n")
    parts: list[list[str]] = [[]]
    for line in answer.removesuffix("\r\n").split("\r\n"):
        if line.startswith("m="):
            parts.append([])
        parts[-1].append(line)
    return parts


def problem_of(text: str) -> ProblemCode:
    with pytest.raises(SdpError) as caught:
        answer_to(text)
    return caught.value.problem.code


def test_the_whole_answer_to_a_small_offer() -> None:
    # Written out, because each line and the order of some matter to some player.
    expected = f"""v=0
o=- 42 1 IN IP4 127.0.0.1
s=-
t=0 0
a=ice-lite
a=ice-options:trickle ice2
a=group:BUNDLE v
a=msid-semantic: WMS *
m=video 5004 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 192.0.2.1
a=mid:v
a=sendonly
a=rtcp-mux
a=rtcp-mux-only
a=ice-ufrag:ourufrag
a=ice-pwd:{"p" * 32}
a=candidate:1 1 udp 2130706431 192.0.2.1 5004 typ host
a=candidate:2 1 udp 2130706175 10.0.0.1 5004 typ host
a=candidate:3 1 udp 2130705919 2001:db8::1 5004 typ host
a=end-of-candidates
a=fingerprint:sha-256 {OURS.fingerprint}
a=setup:passive
a=rtpmap:96 H264/90000
a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=ssrc-group:FID 1111 2222
a=msid:sightline video
a=ssrc:1111 cname:sightline
a=ssrc:2222 cname:sightline
"""
    assert answer_to(offer_of(VIDEO, session=("a=group:BUNDLE v",))) == expected.replace("\n", "\r\n")


def test_chromium_gets_video_an_inactive_audio_and_no_data() -> None:
    session, audio, video, data = sections_of(answer_to(CHROMIUM))
    assert "a=group:BUNDLE 0 1" in session
    assert "a=ice-lite" in session
    assert audio[0] == "m=audio 5004 UDP/TLS/RTP/SAVPF 111"
    assert "a=inactive" in audio
    assert "a=rtpmap:111 OPUS/48000/2" in audio
    assert video[0] == "m=video 5004 UDP/TLS/RTP/SAVPF 108 109"
    assert "a=sendonly" in video
    assert [line for line in video if "rtcp-fb" in line] == [
        "a=rtcp-fb:108 nack",
        "a=rtcp-fb:108 nack pli",
        "a=rtcp-fb:108 ccm fir",
    ]
    for section in (audio, video):
        for line in ("a=rtcp-mux", "a=rtcp-mux-only", "a=rtcp-rsize", "a=setup:passive", "a=end-of-candidates"):
            assert line in section
        assert next(line for line in section if line.startswith("a=candidate")).endswith("192.0.2.1 5004 typ host")
    assert data[0] == "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"
    assert data[2] == "a=mid:2"
    # FFmpeg takes no longer answers.
    assert len(answer_to(CHROMIUM)) < 8192


@pytest.mark.parametrize(
    ("profile", "payload_type"), [("42e028", 108), ("42001f", 102), ("4d0028", 116), ("640028", 41), ("", 108)]
)
def test_the_codec_follows_the_source(profile: str, payload_type: int) -> None:
    choice = choose(parse_offer(CHROMIUM), VideoFormat("H264", profile))
    assert choice.codec.payload_type == payload_type
    assert choice.rtx is not None
    assert choice.rtx.parameters["apt"] == str(payload_type)


H265 = [
    *(line for line in VIDEO if not line.startswith(("m=", "a=rtpmap", "a=fmtp", "a=rtcp-fb"))),
    "a=rtpmap:98 H265/90000",
    "a=fmtp:98 level-id=150;profile-id=2;tier-flag=0;tx-mode=SRST",
    "a=rtpmap:99 H265/90000",
    "a=fmtp:99 level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST;x=y z",
    "a=rtcp-fb:99 nack pli",
    "a=rtpmap:100 rtx/90000",
    "a=fmtp:100 apt=99",
]
H265.insert(0, "m=video 9 UDP/TLS/RTP/SAVPF 98 99 100")


def test_h265_is_answered_as_it_was_offered() -> None:
    offer = parse_offer(offer_of(H265))
    assert offered(offer) == {"H265", "H265.2"}
    answer = build_answer(offer, choose(offer, VideoFormat("H265", "1.0.93")), OURS)
    assert "a=rtpmap:99 H265/90000\r\n" in answer
    assert "a=fmtp:99 level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST\r\n" in answer
    assert "a=fmtp:100 apt=99\r\n" in answer
    assert choose(offer, VideoFormat("H265", "2.0.120")).codec.payload_type == 98


def test_h265_without_parameters_is_main() -> None:
    offer = parse_offer(offer_of([line for line in H265 if "a=fmtp:98" not in line]))
    answer = build_answer(offer, choose(offer, VideoFormat("H265", "1.0.93")), OURS)
    assert "a=rtpmap:98 H265/90000\r\n" in answer
    assert "a=fmtp:98" not in answer


def test_who_offers_another_codec_gets_nothing() -> None:
    with pytest.raises(SdpError, match="no H264 with packetization-mode=1"):
        choose(parse_offer(offer_of(H265)), VideoFormat("H264", "42e01f"))
    with pytest.raises(SdpError, match="no H265"):
        choose(parse_offer(offer_of(VIDEO)), VideoFormat("H265", "1.0.93"))
    assert offered(parse_offer(offer_of(VIDEO))) == {"H264"}


def test_the_primary_ssrc_comes_first() -> None:
    answer = answer_to(CHROMIUM)
    assert re.findall(r"a=ssrc:(\d+)", answer) == ["1111", "2222"]
    assert len(set(re.findall(r"a=msid:(\S+)", answer))) == 1


def test_without_rtx() -> None:
    text = offer_of([line for line in VIDEO if "97 " not in line or line.startswith("m=")])
    answer = answer_to(text)
    assert "rtx" not in answer
    assert "FID" not in answer
    assert "2222" not in answer


@pytest.mark.parametrize(("setup", "expected"), [("actpass", "passive"), ("active", "passive"), ("passive", "active")])
def test_dtls_roles(setup: str, expected: str) -> None:
    assert f"a=setup:{expected}" in answer_to(offer_of(changed("a=setup:actpass", f"a=setup:{setup}")))


def test_roles_are_ours_to_choose_when_the_offer_is_silent() -> None:
    assert "a=setup:passive" in answer_to(offer_of(changed("a=setup:actpass")))


def test_a_lone_section_without_mid_and_bundle() -> None:
    answer = answer_to(offer_of(changed("a=mid:v")))
    assert "BUNDLE" not in answer
    assert "a=mid" not in answer


def test_audio_outside_of_the_bundle_is_refused() -> None:
    for session in ((), ("a=group:BUNDLE v",)):
        _, audio, video = sections_of(answer_to(offer_of(AUDIO, VIDEO, session=session)))
        assert audio[0] == "m=audio 0 UDP/TLS/RTP/SAVPF 111"
        assert video[0].startswith("m=video 5004")


def test_sections_that_are_switched_off_stay_off() -> None:
    off = ["m=video 0 UDP/TLS/RTP/SAVPF 96", "a=mid:off"]
    _, first, second = sections_of(answer_to(offer_of(off, VIDEO, session=("a=group:BUNDLE off v",))))
    assert first[0] == "m=video 0 UDP/TLS/RTP/SAVPF 96"
    assert second[0].startswith("m=video 5004")


@pytest.mark.parametrize("direction", ["recvonly", "sendrecv"])
def test_directions_that_receive(direction: str) -> None:
    assert "a=sendonly" in answer_to(offer_of(changed("a=recvonly", f"a={direction}")))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (offer_of(changed("a=recvonly", "a=sendonly")), ProblemCode.INVALID_SDP),
        (offer_of(changed("a=recvonly", "a=inactive")), ProblemCode.INVALID_SDP),
        (offer_of(changed("a=rtcp-mux")), ProblemCode.INVALID_SDP),
        (offer_of(changed("a=ice-ufrag:abcd")), ProblemCode.INVALID_SDP),
        (offer_of(changed("a=ice-pwd:0123456789012345678901")), ProblemCode.INVALID_SDP),
        (offer_of(changed(f"a=fingerprint:sha-256 {FINGERPRINT}")), ProblemCode.INVALID_SDP),
        (
            offer_of(changed(f"a=fingerprint:sha-256 {FINGERPRINT}", "a=fingerprint:md5 AB")),
            ProblemCode.INVALID_SDP,
        ),
        (offer_of(changed(VIDEO[0], "m=video 9 RTP/AVP 96 97")), ProblemCode.INVALID_SDP),
        (offer_of(VIDEO, session=("a=ice-lite",)), ProblemCode.INVALID_SDP),
        (offer_of(), ProblemCode.CODEC_NOT_OFFERED),
        (offer_of(AUDIO), ProblemCode.CODEC_NOT_OFFERED),
        (offer_of(changed(VIDEO[8], "a=rtpmap:96 VP8/90000")), ProblemCode.CODEC_NOT_OFFERED),
        (offer_of(changed(VIDEO[9], "a=fmtp:96 packetization-mode=0")), ProblemCode.CODEC_NOT_OFFERED),
        (offer_of(changed(VIDEO[9])), ProblemCode.CODEC_NOT_OFFERED),
        (
            offer_of(changed(VIDEO[9], "a=fmtp:96 packetization-mode=1;profile-level-id=4\x0bx")),
            ProblemCode.CODEC_NOT_OFFERED,
        ),
        (offer_of(VIDEO, VIDEO), ProblemCode.NOT_SUPPORTED_YET),
        (offer_of(AUDIO, AUDIO, VIDEO), ProblemCode.NOT_SUPPORTED_YET),
    ],
)
def test_offers_without_an_answer(text: str, code: ProblemCode) -> None:
    assert problem_of(text) is code


@pytest.mark.parametrize("code", [ProblemCode.CODEC_NOT_OFFERED, ProblemCode.NOT_SUPPORTED_YET])
def test_what_cannot_be_served_is_unprocessable(code: ProblemCode) -> None:
    from sightline_model.problems import Problem

    assert Problem(code=code).status == 422


@pytest.mark.parametrize(
    ("advertised", "own", "expected"),
    [
        (["203.0.113.9"], ["10.0.0.1"], ["203.0.113.9", "10.0.0.1"]),
        (
            ["2001:db8::9", "203.0.113.9"],
            ["fd00::1", "10.0.0.1"],
            ["203.0.113.9", "10.0.0.1", "2001:db8::9", "fd00::1"],
        ),
        (["10.0.0.1", " 10.0.0.1 "], ["10.0.0.1"], ["10.0.0.1"]),
        (["nonsense", "0.0.0.0", "224.0.0.1", "::"], ["127.0.0.1"], ["127.0.0.1"]),
        ([], [], []),
    ],
)
def test_the_order_of_addresses(advertised: list[str], own: list[str], expected: list[str]) -> None:
    assert order_addresses(advertised, own) == expected


def test_an_ice_restart_names_the_section_and_the_new_credentials() -> None:
    text = build_restart(parse_offer(CHROMIUM).sections[1], OURS)
    assert text.startswith("a=ice-lite\r\na=ice-options:trickle ice2\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n")
    assert "a=ice-ufrag:ourufrag\r\n" in text
    assert text.endswith("a=end-of-candidates\r\n")


def test_our_password_is_not_shown() -> None:
    assert OURS.password not in repr(OURS)


async def test_aiortc_accepts_the_answer_to_its_own_offer() -> None:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        connection.addTransceiver("audio", direction="recvonly")
        connection.addTransceiver("video", direction="recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        answer = answer_to(connection.localDescription.sdp)
        parsed = aiortc_sdp.SessionDescription.parse(answer)
        assert [media.direction for media in parsed.media] == ["inactive", "sendonly"]
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        assert connection.signalingState == "stable"
    finally:
        await connection.close()


LINES = CHROMIUM.splitlines()


@given(st.data())
def test_no_offer_writes_lines_into_an_answer(data: st.DataObject) -> None:
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        name, separator, value = lines[at].partition(data.draw(st.sampled_from([":", " ", "="])))
        lines[at] = name + separator + data.draw(st.text(max_size=12)) + value
    try:
        answer = answer_to("\r\n".join(lines))
    except SdpError:
        return
    assert answer.isascii()
    assert answer.isprintable() or {c for c in answer if not c.isprintable()} <= {"\r", "\n"}
    assert answer.count("\r\n") == answer.count("\n") == answer.count("\r")
    assert all(re.fullmatch(r"[a-z]=.*", line) for line in answer.removesuffix("\r\n").split("\r\n"))
