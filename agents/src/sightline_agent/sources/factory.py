"""From a camera's source description to something that runs.

The one place that knows which kinds there are. Implementations are imported where they are needed, so an
agent for an RTSP camera never loads PyAV.
"""

from collections import Counter
from collections.abc import Callable

from sightline_agent.sources.base import Source, SourceError
from sightline_agent.sources.credentials import ReadCredentials
from sightline_agent.sources.sound.process import Drop
from sightline_model.camera import Source as SourceSpec
from sightline_model.reasons import SourceReason

MakeSource = Callable[[SourceSpec], Source]


def source_factory(
    read_credentials: ReadCredentials,
    wants_sound: Callable[[], bool] = lambda: True,
    sound_dropped: "Callable[[], Counter[Drop] | None]" = lambda: None,
) -> MakeSource:
    """A factory whose sources use what is in the Secret that they name, and carry sound or not, as it is when made."""

    def make(spec: SourceSpec) -> Source:
        if spec.rtsp is not None:
            from sightline_agent.sources.rtsp.source import RtspSource

            return RtspSource(spec.rtsp, read_credentials(spec.secret), wants_sound(), sound_dropped())
        if spec.test_pattern is not None:
            from sightline_agent.sources.test_pattern import TestPattern

            return TestPattern(spec.test_pattern, sound=wants_sound())
        if spec.file is not None:
            from sightline_agent.sources.file import ClipFile

            return ClipFile(spec.file, sound=wants_sound())
        if spec.hls is not None:
            from sightline_agent.sources.hls.source import HlsSource

            return HlsSource(spec.hls, wants_sound(), sound_dropped())
        if spec.rtmp is not None:
            from sightline_agent.sources.rtmp.source import RtmpSource

            return RtmpSource(spec.rtmp, read_credentials(spec.secret), wants_sound(), sound_dropped())
        if spec.whep is not None:
            from sightline_agent.sources.whep.source import WhepSource

            return WhepSource(spec.whep, read_credentials(spec.secret), wants_sound())
        if spec.v4l2 is not None:
            from sightline_agent.sources.v4l2 import V4l2Source

            return V4l2Source(spec.v4l2)
        kind = spec.kind or "none"
        raise SourceError(SourceReason.PROTOCOL_ERROR, f"this version of the agent has no source of kind {kind}")

    return make
