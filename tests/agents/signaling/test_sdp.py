"""Offers: read from real programs, refused when wrong, and never a surprise."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.signaling.sdp import MAX_SDP_BYTES, Fragment, SdpError, parse_fragment, parse_offer
from sightline_model.problems import ProblemCode

CHROMIUM = (Path(__file__).parent / "chromium_offer.sdp").read_text()
FINGERPRINT = ":".join(["AB"] * 32)


def test_chromium() -> None:
    offer = parse_offer(CHROMIUM)
    assert [section.kind for section in offer.sections] == ["audio", "video", "application"]
    assert offer.bundle == ["0", "1", "2"]
    assert not offer.ice_lite
    video = offer.sections[1]
    assert (video.mid, video.direction, video.rtcp_mux, video.rtcp_rsize) == ("1", "recvonly", True, True)
    assert (video.transport.setup, len(video.transport.fingerprints)) == ("actpass", 1)
    codec = video.codecs[108]
    assert (codec.name, codec.clock_rate) == ("H264", 90000)
    assert codec.parameters["profile-level-id"] == "42e01f"
    assert {"nack", "nack pli", "ccm fir"} <= codec.feedback
    assert video.codecs[109].parameters == {"apt": "108"}


def test_sections_inherit_from_the_session() -> None:
    offer = parse_offer(
        "v=0\na=recvonly\na=ice-ufrag:abcd\na=ice-pwd:0123456789012345678901\na=setup:active\n"
        f"a=fingerprint:SHA-256 {FINGERPRINT.lower()}\nm=video 9 UDP/TLS/RTP/SAVPF 96\na=setup:passive\n"
        "m=audio 9 UDP/TLS/RTP/SAVPF 0\na=sendrecv\n"
    )
    video, audio = offer.sections
    assert (video.transport.ufrag, video.transport.setup, video.direction) == ("abcd", "passive", "recvonly")
    assert (audio.transport.setup, audio.direction) == ("active", "sendrecv")
    assert video.transport.fingerprints == [("sha-256", FINGERPRINT)]


def test_feedback_for_all_and_parameters_in_odd_form() -> None:
    offer = parse_offer(
        "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 h264/90000\r\n"
        "a=rtcp-fb:* NACK PLI\r\na=fmtp:96 Packetization-Mode = 1 ; profile-level-id=42E01F;;x\r\n"
        "a=rtpmap:98 VP8/90000\r\na=fmtp:98 x=y\r\na=rtcp-fb:98 nack\r\na=rtpmap:nonsense\r\n"
    )
    codecs = offer.sections[0].codecs
    assert set(codecs) == {96, 97}
    assert codecs[96].name == "H264"
    assert codecs[96].parameters["packetization-mode"] == "1"
    assert codecs[96].parameters["profile-level-id"] == "42E01F"
    assert codecs[97].feedback == {"nack pli"}


def test_disabled_and_bundle_only_sections() -> None:
    off, only = parse_offer(
        "v=0\nm=video 0 UDP/TLS/RTP/SAVPF 96\nm=video 0 UDP/TLS/RTP/SAVPF 96\na=bundle-only\n"
    ).sections
    assert not off.enabled
    assert only.enabled


@pytest.mark.parametrize(
    "line",
    [
        "m=video 9 UDP/TLS/RTP/SAVPF",
        "m=video 99999 UDP/TLS/RTP/SAVPF 96",
        "m=video 9 UDP/TLS/RTP/SAVPF 128",
        "m=video 9 UDP/TLS/RTP/SAVPF x",
        "m=video 9 UDP/TLS/RTP/SAVPF \u0663",
        "m=video 9 UDP/TLS/RTP/SAVPF " + "96 " * 129,
        "m=",
        "nonsense",
        "A=x",
        "a=setup:holdconn",
        "a=ice-ufrag:a b",
        "a=ice-pwd:x",
        "a=fingerprint:sha-256 AB:CD",
        f"a=fingerprint:sha-512 {FINGERPRINT}",
        "m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:a b",
        "m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:",
        "m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:" + "x" * 65,
        "\n".join(["m=video 9 UDP/TLS/RTP/SAVPF 96"] * 33),
        "\n".join([f"a=fingerprint:sha-256 {FINGERPRINT}"] * 65),
    ],
)
def test_malformed(line: str) -> None:
    with pytest.raises(SdpError) as caught:
        parse_offer(f"v=0\n{line}\n")
    assert caught.value.problem.code is ProblemCode.INVALID_SDP
    assert caught.value.problem.detail


@pytest.mark.parametrize("text", ["", "\n", "v=1\n", "o=-\nv=0\n", "{}"])
def test_what_is_no_sdp_at_all(text: str) -> None:
    with pytest.raises(SdpError):
        parse_offer(text)


@pytest.mark.parametrize("text", ["v=0\n" + "a=x\n" * 20000, "v=0\na=" + "\u20ac" * (MAX_SDP_BYTES // 2)])
def test_too_long(text: str) -> None:
    with pytest.raises(SdpError) as caught:
        parse_offer(text)
    assert caught.value.problem.code is ProblemCode.BODY_TOO_LARGE


def test_passwords_are_not_shown() -> None:
    assert "BI2KN" not in repr(parse_offer("v=0\na=ice-pwd:BI2KNUwnzHYO6ZT+hiOWk6Hl\nm=video 9 X 96\n"))


@given(st.text(max_size=500))
def test_any_text_is_an_offer_or_an_sdp_error(text: str) -> None:
    for candidate in (text, "v=0\n" + text, "v=0\nm=video 9 UDP/TLS/RTP/SAVPF 96\n" + text):
        try:
            parse_offer(candidate)
        except SdpError:
            continue


LINES = CHROMIUM.splitlines()


@given(st.data())
def test_any_damage_to_a_real_offer(data: st.DataObject) -> None:
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        cut = data.draw(st.integers(0, len(line)))
        lines[at] = line[:cut] + data.draw(st.text(max_size=6)) + line[data.draw(st.integers(cut, len(line))) :]
    try:
        parse_offer("\r\n".join(lines))
    except SdpError:
        return


@given(st.sampled_from(LINES), st.text(max_size=20))
def test_any_value_of_a_known_attribute(line: str, value: str) -> None:
    name = line.partition(":")[0]
    for separator in (":", " "):
        try:
            parse_offer(f"v=0\nm=video 9 UDP/TLS/RTP/SAVPF 96\n{name}{separator}{value}\n")
        except SdpError:
            continue


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=ice-ufrag:abcd\r\na=ice-pwd:x\r\nm=video 9 RTP/AVP 0\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n", 1),
        ("a=ice-ufrag:abcd\na=candidate:x\na=candidate:" + "y" * 100 + "\na=end-of-candidates\n", 2),
        ("a=ice-ufrag:abcd\n", 0),
    ],
)
def test_fragments(text: str, expected: int) -> None:
    assert parse_fragment(text) == Fragment("abcd", expected)


def test_a_fragment_without_a_name() -> None:
    assert parse_fragment("") == Fragment("", 0)


@pytest.mark.parametrize("text", ["nonsense", "a=ice-ufrag:x", "a=x\n" * 20000])
def test_malformed_fragments(text: str) -> None:
    with pytest.raises(SdpError):
        parse_fragment(text)


@given(st.text(max_size=300))
def test_any_text_is_a_fragment_or_an_sdp_error(text: str) -> None:
    try:
        parse_fragment(text)
    except SdpError:
        return
