"""Encoding pictures that the agent makes or gets raw: x264 without delay, in the profile that every browser shows."""

from fractions import Fraction
from typing import Any, Protocol

GOP_SECONDS = 2
_BITS_PER_PIXEL = 0.054
"""At 30 fps: 1.5 Mbit/s for 1280x720."""
_MIN_BITRATE = 200_000
_MAX_BITRATE = 8_000_000


class Shape(Protocol):
    """What is encoded."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def fps(self) -> int: ...


def bitrate(shape: Shape) -> int:
    """Bits per second that keep the picture clear at this size."""
    wanted = shape.width * shape.height * shape.fps * _BITS_PER_PIXEL
    return round(min(max(wanted, _MIN_BITRATE), _MAX_BITRATE))


def encoder(shape: Shape) -> Any:
    """An encoder for frames in yuv420p; a frame with picture type I becomes a key frame."""
    import av

    made: Any = av.CodecContext.create("libx264", "w")
    made.width, made.height, made.pix_fmt = shape.width, shape.height, "yuv420p"
    made.time_base = Fraction(1, shape.fps)
    made.framerate = Fraction(shape.fps)
    made.bit_rate = bitrate(shape)
    made.gop_size = GOP_SECONDS * shape.fps
    made.thread_count = 1
    made.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "forced-idr": "1",
        "x264-params": f"scenecut=0:keyint={GOP_SECONDS * shape.fps}:min-keyint={GOP_SECONDS * shape.fps}"
        f":vbv-maxrate={bitrate(shape) // 1000}:vbv-bufsize={bitrate(shape) // 2000}",
    }
    return made


def as_key_frame(frame: Any, key: bool) -> None:
    """Make the encoder begin anew at this frame, or decide for itself, whatever the frame was where it came from."""
    import av

    frame.pict_type = int(av.video.frame.PictureType.I) if key else 0
