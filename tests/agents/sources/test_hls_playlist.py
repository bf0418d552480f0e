"""HLS playlists as values (RFC 8216)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.sources.hls.playlist import WHOLE, Key, Master, Media, Part, PlaylistError, parse

URL = "https://host.example/live/index.m3u8?token=x"


def media(text: str) -> Media:
    playlist = parse("#EXTM3U\n" + text, URL)
    assert isinstance(playlist, Media)
    return playlist


def test_a_live_playlist() -> None:
    found = media(
        "#EXT-X-TARGETDURATION:2\r\n#EXT-X-MEDIA-SEQUENCE:41\r\n#EXTINF:2.0,title\r\na.ts\r\n"
        "#EXT-X-DISCONTINUITY\r\n#EXTINF:1.5,\r\n/b.ts?x=1\r\n"
    )
    assert (found.target_seconds, found.ended) == (2.0, False)
    assert [(s.number, s.part.url, s.seconds, s.anew) for s in found.segments] == [
        (41, "https://host.example/live/a.ts", 2.0, False),
        (42, "https://host.example/b.ts?x=1", 1.5, True),
    ]


def test_byte_ranges_heads_and_keys() -> None:
    found = media(
        '#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI="init.mp4",BYTERANGE="100@7"\n'
        '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x0A\n'
        "#EXT-X-BYTERANGE:50@200\n#EXTINF:1,\nall.mp4\n#EXT-X-BYTERANGE:60\n#EXTINF:1,\nall.mp4\n"
        "#EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n"
    )
    assert found.ended
    all_ = "https://host.example/live/all.mp4"
    assert [s.part for s in found.segments][:2] == [Part(all_, 200, 50), Part(all_, 250, 60)]
    assert {s.head for s in found.segments} == {Part("https://host.example/live/init.mp4", 7, 100)}
    key = Key("https://host.example/live/k", bytes(15) + b"\x0a")
    assert [s.key for s in found.segments] == [key, key, None]


def test_the_best_playable_quality() -> None:
    found = parse(
        "#EXTM3U\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=900,CODECS="hvc1.1,mp4a.40.2"\nhevc.m3u8\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=500,CODECS="avc1.64001f,mp4a.40.2"\nhd.m3u8\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=100,CODECS="avc1.42c01e"\nsd.m3u8\n',
        URL,
    )
    assert isinstance(found, Master)
    best = found.best()
    assert best is not None
    assert best.url == "https://host.example/live/hd.m3u8"
    none = parse('#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9,CODECS="av01.0"\na.m3u8\n', URL)
    assert isinstance(none, Master)
    assert none.best() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "#EXTM3U\n",
        "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "#EXTM3U\n#EXTINF:1,\nhttp://[bad\n",
        '#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x"\n#EXTINF:1,\na.ts\n',
        '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0xzz\n#EXTINF:1,\na.ts\n',
        "#EXTM3U\n#EXT-X-BYTERANGE:x\n#EXTINF:1,\na.ts\n",
        "#EXTM3U\n" + "a.ts\n" * 20_001,
    ],
)
def test_what_is_no_playlist(text: str) -> None:
    with pytest.raises(PlaylistError) as caught:
        parse(text, URL)
    assert "token" not in str(caught.value)


@given(st.text(max_size=400) | st.lists(st.sampled_from(["#EXTINF:1,", "a.ts", "#EXT-X-MAP:URI=", "#EXT-X-KEY:"])))
def test_any_text_is_a_playlist_or_none(text: str | list[str]) -> None:
    whole = text if isinstance(text, str) else "\n".join(text)
    try:
        parse("#EXTM3U\n" + whole, URL)
    except PlaylistError:
        return


LOW_LATENCY = (
    "#EXT-X-TARGETDURATION:2\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0\n"
    '#EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI="init.mp4"\n'
    "#EXTINF:1,\ns7.mp4\n"
    '#EXT-X-PART:DURATION=0.5,URI="p8.0",INDEPENDENT=YES\n#EXT-X-PART:DURATION=0.5,URI="p8.1"\n#EXTINF:1,\ns8.mp4\n'
    '#EXT-X-PART:DURATION=0.5,URI="p9.0",INDEPENDENT=YES\n'
    '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p9.1"\n'
)


def test_parts_stand_in_place_of_their_segments() -> None:
    found = media(LOW_LATENCY)
    assert found.part_seconds == 0.5
    assert [(s.number, s.index, s.part.url.rpartition("/")[2]) for s in found.segments] == [
        (7, WHOLE, "s7.mp4"),
        (8, 0, "p8.0"),
        (8, 1, "p8.1"),
        (9, 0, "p9.0"),
    ]
    assert found.next_place == (9, 1)
    assert found.entry(3) == (8, -1)
    assert [s.place for s in found.segments if s.follows((8, -1))] == [(8, 0), (8, 1), (9, 0)]


def test_a_segment_whose_parts_were_played_is_not_played_again() -> None:
    (later,) = media("#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:8\n#EXTINF:1,\ns8.mp4\n").segments
    assert not later.follows((8, 1))
    assert later.follows((7, WHOLE))


@pytest.mark.parametrize(
    ("without", "instead"),
    [
        ("CAN-BLOCK-RELOAD=YES", "CAN-BLOCK-RELOAD=NO"),
        ("#EXT-X-PART-INF:PART-TARGET=0.5\n", ""),
        ('#EXT-X-MAP:URI="init.mp4"\n', ""),
        ('#EXT-X-MAP:URI="init.mp4"\n', '#EXT-X-MAP:URI="init.mp4"\n#EXT-X-KEY:METHOD=AES-128,URI="k"\n'),
    ],
)
def test_parts_that_cannot_be_used_are_passed_over(without: str, instead: str) -> None:
    found = media(LOW_LATENCY.replace(without, instead))
    assert found.part_seconds == 0.0
    assert [s.place for s in found.segments] == [(7, WHOLE), (8, WHOLE)]
    assert found.entry(3) == (6, WHOLE)


def test_without_key_frames_in_sight_whole_segments_are_the_way_in() -> None:
    assert media(LOW_LATENCY.replace(",INDEPENDENT=YES", "")).entry(3) == (6, WHOLE)
