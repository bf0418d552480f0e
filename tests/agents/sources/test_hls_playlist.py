"""HLS playlists as values (RFC 8216)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.sources.hls.playlist import Key, Master, Media, Part, PlaylistError, parse

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
