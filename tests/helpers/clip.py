"""A clip that decodes and moves: NAL units of each picture, for a camera of `rtsp_server` to play in a circle."""

from fractions import Fraction
from functools import cache

import av
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from sightline_agent.media import h264

RATE = 30


@cache
def encoded(width: int, height: int, seconds: int, gop: int, bit_rate: int) -> tuple[tuple[bytes, ...], ...]:
    """H.264, constrained baseline, a key frame every `gop` pictures; noise makes the bit rate real."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.framerate, context.time_base = Fraction(RATE), Fraction(1, RATE)
    context.bit_rate, context.gop_size, context.max_b_frames = bit_rate, gop, 0
    keys = f"keyint={gop}:min-keyint={gop}:scenecut=0"
    context.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "maxrate": str(bit_rate),
        "bufsize": str(bit_rate // 4),
        "x264-params": f"slices=1:sliced-threads=0:repeat-headers=1:{keys}",
    }
    graph = Graph()
    source = graph.add("testsrc2", f"size={width}x{height}:rate={RATE}:duration={seconds}")
    noise, pixels = graph.add("noise", "alls=6:allf=t"), graph.add("format", "pix_fmts=yuv420p")
    sink = graph.add("buffersink")
    graph.link_nodes(source, noise, pixels, sink).configure()
    units = []
    for number in range(RATE * seconds):
        picture = sink.pull()
        assert isinstance(picture, VideoFrame)
        picture.pts, picture.time_base, picture.pict_type = number, Fraction(1, RATE), PictureType.NONE
        units += [tuple(h264.split_annex_b(bytes(packet))) for packet in context.encode(picture)]
    return tuple(units)
