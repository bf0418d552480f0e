"""What this version cannot do yet, of everything that the kinds have a place for.

A field whose behaviour comes later is refused by name (`Accepted=False`, reason `NotSupportedYet`) and never ignored:
a camera that plays, but not as its description says, would be worse than one that says why it does not. The operator
and the front door call `not_supported_yet`; an empty answer means that every field has its behaviour.
"""

from collections.abc import Iterator

from sightline_model.camera import CameraSpec, Presentation, Source
from sightline_model.cameraclass import CameraClassSpec, NetworkMode, Persistence
from sightline_model.session import SessionRole, StreamSessionSpec, Transport

_USE_INSTEAD = "use rtsp, rtmp, whep, hls, testPattern or file"
_SOURCES_TO_COME = {
    # A pod that may open a device of its node needs a hostPath, which Pod Security's `restricted` profile forbids.
    "v4l2": "serve the device by RTSP or WHEP at its node, and use rtsp or whep",
    "push": _USE_INSTEAD,
    "device": _USE_INSTEAD,
    "external": _USE_INSTEAD,
}


def not_supported_yet(spec: CameraSpec | CameraClassSpec | StreamSessionSpec) -> list[str]:
    """A line for each field that this version has no behaviour for: its path on the wire and what to do instead."""
    if isinstance(spec, CameraSpec):
        return list(_camera(spec))
    if isinstance(spec, CameraClassSpec):
        return list(_camera_class(spec))
    return list(_session(spec))


def _camera(spec: CameraSpec) -> Iterator[str]:
    yield from _source(spec.source)
    for profile in spec.profiles:
        yield from _source(profile.source, f"spec.profiles[{profile.name}].source")
    yield from _presentation(spec.presentation)
    if spec.outputs:
        yield "spec.outputs: leave it out"


def _source(source: Source, path: str = "spec.source") -> Iterator[str]:
    for name, instead in _SOURCES_TO_COME.items():
        if getattr(source, name) is not None:
            yield f"{path}.{name}: {instead}"


def _presentation(presentation: Presentation) -> Iterator[str]:
    if presentation.thumbnail is not None:
        yield "spec.presentation.thumbnail: leave it out"
    if presentation.chat is not None:
        yield "spec.presentation.chat: leave it out"


def _camera_class(spec: CameraClassSpec) -> Iterator[str]:
    if spec.pod_template is not None:
        yield "spec.podTemplate: use scheduling and resources"
    if spec.limits.publish_per_user != 1:
        yield "spec.limits.publishPerUser: only 1"
    if spec.warm_agents and spec.network.mode is NetworkMode.NODE_PORT:
        # The port is a Service's, which would have to change hands as well.
        yield "spec.warmAgents: only 0 where network.mode is NodePort"
    if spec.sessions.persist is not Persistence.ALWAYS:
        yield "spec.sessions.persist: only Always"
    if not spec.transports.simple:
        yield "spec.transports.simple: only true, WebRTC is all that is served"


def _session(spec: StreamSessionSpec) -> Iterator[str]:
    if spec.role is not SessionRole.VIEW:
        yield "spec.role: only View"
    if spec.transport is not Transport.WHEP:
        yield "spec.transport: only WHEP"
