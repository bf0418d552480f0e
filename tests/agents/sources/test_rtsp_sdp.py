"""The video track in what cameras write."""

from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.sources.rtsp import sdp

SETS = "Z0LAHtsCgL/lwFqAgICgAAADACAAAAZR4sXU,aM48gA=="
CAMERA = f"""v=0
o=- 1 1 IN IP4 0.0.0.0
s=Session
a=control:rtsp://camera/cam/
m=audio 0 RTP/AVP 8
a=control:trackID=0
m=video 0 RTP/AVP 96
b=AS:4000
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1; profile-level-id=42C01E;sprop-parameter-sets={SETS}
a=control:trackID=1
m=application 0 RTP/AVP 107
a=control:trackID=2
"""


def test_a_camera_with_sound_and_metadata() -> None:
    description = sdp.parse(CAMERA.replace("\n", "\r\n"))
    track = description.best
    assert description.control == "rtsp://camera/cam/"
    assert track is not None
    assert (track.codec, track.payload_type, track.control) == ("H264", 96, "trackID=1")
    assert [nal[0] & 31 for nal in track.parameter_sets] == [7, 8]


H265 = "m=video 0 RTP/AVP 98\na=rtpmap:98 H265/90000\n"


def test_h265_with_its_sets() -> None:
    sets = "a=fmtp:98 sprop-vps=QAEMAf//AWA=;sprop-sps=QgEBAWA=; sprop-pps=RAHAcsA=\n"
    track = sdp.parse(H265 + sets).best
    assert track is not None
    assert track.codec == "H265"
    assert [nal[0] >> 1 for nal in track.parameter_sets] == [32, 33, 34]


def test_h265_out_of_order_is_not_taken() -> None:
    for words in ("sprop-max-don-diff=2", "tx-mode=MRST"):
        assert sdp.parse(f"{H265}a=fmtp:98 {words}\n").best is None
    assert sdp.parse(f"{H265}a=fmtp:98 sprop-max-don-diff=0;tx-mode=SRST\n").best is not None


def test_h264_is_preferred() -> None:
    track = sdp.parse(H265 + "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n").best
    assert track is not None
    assert track.codec == "H264"


def test_h264_is_found_behind_others() -> None:
    text = "m=video 0 RTP/AVP 26\nm=video 0 RTP/AVP 97 98\na=rtpmap:97 H265/90000\na=rtpmap:98 h264/90000\n"
    track = sdp.parse(text).best
    assert track is not None
    assert track.payload_type == 98
    assert [one.codec for one in sdp.parse(text).videos] == ["JPEG", "H264"]


def test_interleaved_packets_are_not_for_browsers() -> None:
    text = "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=2\n"
    assert sdp.parse(text).best is None


@given(st.text(max_size=300))
def test_noise_breaks_nothing(text: str) -> None:
    sdp.parse(text)
    sdp.parse("m=video 0 RTP/AVP 96\na=rtpmap:" + text + "\na=fmtp:" + text)
    sdp.parse("m=" + text)
