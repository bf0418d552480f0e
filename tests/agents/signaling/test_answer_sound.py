"""The sound's section of an answer: who gets which, and who gets pictures alone."""

from pathlib import Path

import pytest

from sightline_agent.media.frames import AudioFormat, VideoFormat
from sightline_agent.media.sound import OPUS, PCMA, PCMU
from sightline_agent.signaling.answer import Ours, build_answer, choose
from sightline_agent.signaling.sdp import parse_offer

CHROMIUM = (Path(__file__).parent / "chromium_offer.sdp").read_text().replace("\r\n", "\n")
OURS = Ours("ufrag", "p" * 32, ":".join(["CD"] * 32), ["192.0.2.1"], 5004, 1111, 2222, 42, sound_ssrc=3333)


def sound_of(offer: str, audio: AudioFormat | None) -> list[str]:
    """The lines of the answer's section of sound."""
    parsed = parse_offer(offer)
    answer = build_answer(parsed, choose(parsed, VideoFormat("H264", "42e01f"), audio), OURS)
    section = answer[answer.index("m=audio") :]
    return section[: section.find("m=", 2)].splitlines() if "m=" in section[2:] else section.splitlines()


@pytest.mark.parametrize(
    ("audio", "number", "name"),
    [(OPUS, 111, "opus/48000/2"), (PCMU, 0, "PCMU/8000"), (PCMA, 8, "PCMA/8000")],
)
def test_chromium_hears_what_the_source_has(audio: AudioFormat, number: int, name: str) -> None:
    lines = sound_of(CHROMIUM, audio)
    assert lines[0] == f"m=audio 5004 UDP/TLS/RTP/SAVPF {number}"
    assert "a=sendonly" in lines
    assert f"a=rtpmap:{number} {name}" in lines
    # The same stream as the pictures', else browsers do not keep lips in step.
    assert "a=msid:sightline audio" in lines
    assert "a=ssrc:3333 cname:sightline" in lines
    assert "a=setup:passive" in lines


def test_static_payload_types_need_no_name() -> None:
    bare = "\n".join(line for line in CHROMIUM.split("\n") if not line.startswith(("a=rtpmap:0 ", "a=rtpmap:8 ")))
    assert "a=rtpmap:8 PCMA/8000" in sound_of(bare, PCMA)


def test_a_camera_without_sound() -> None:
    lines = sound_of(CHROMIUM, None)
    assert "a=inactive" in lines
    assert not any("3333" in line for line in lines)


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("a=rtpmap:111 opus/48000/2", "a=rtpmap:111 speex/16000"),
        ("a=rtpmap:111 opus/48000/2", "a=rtpmap:111 opus/16000"),
    ],
)
def test_who_does_not_know_the_codec_gets_pictures_alone(line: str, instead: str) -> None:
    assert line in CHROMIUM
    assert "a=inactive" in sound_of(CHROMIUM.replace(line, instead), OPUS)


def test_who_would_only_send_hears_nothing() -> None:
    head, video = CHROMIUM.split("m=video")
    assert "a=recvonly" in head
    assert "a=inactive" in sound_of(head.replace("a=recvonly", "a=sendonly") + "m=video" + video, OPUS)


def test_sound_of_its_own_transport_is_refused() -> None:
    alone = CHROMIUM.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 1")
    assert alone != CHROMIUM
    assert sound_of(alone, OPUS)[0].startswith("m=audio 0 ")
