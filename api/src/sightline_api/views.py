"""Objects of the cluster as bodies of the REST API: pure functions."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from sightline_api.cameras import CameraState
from sightline_api.problems import without_userinfo
from sightline_api.schemas import (
    CameraConfig,
    CameraStatusView,
    CameraSummary,
    IceServerView,
    ProfileState,
    SessionView,
    SourceState,
    SourceSummary,
)
from sightline_kube.cluster import Obj
from sightline_model.camera import ProfileStatus, Role, SourceStatus
from sightline_model.reasons import PENDING, ConditionStatus, ConditionType, SourceReason
from sightline_model.session import StreamSessionSpec, StreamSessionStatus

FOREIGN_ANNOTATIONS = "kubectl.kubernetes.io/"
"""kubectl keeps a copy of what it applied there: neither shown nor touched."""


def camera_path(namespace: str, name: str) -> str:
    """Where a camera is served."""
    return f"/v1/namespaces/{namespace}/cameras/{name}"


def summary(camera: CameraState, rights: list[Role]) -> CameraSummary:
    """A camera in the list."""
    source = camera.status.source or SourceStatus()
    reason, message = _source_reason(camera)
    return CameraSummary(
        namespace=camera.namespace,
        name=camera.name,
        title=camera.presentation.title or camera.name,
        description=camera.presentation.description,
        labels=dict(camera.labels),
        phase=camera.status.phase,
        ready=_is_true(camera, ConditionType.READY),
        message=_why_not_ready(camera),
        live=camera.status.live,
        viewers=camera.status.viewers,
        source=SourceSummary(
            reason=reason,
            message=message,
            video_codec=source.video_codec,
            width=source.width,
            height=source.height,
            fps=source.fps,
        ),
        rights=rights,
        whep=f"{camera_path(camera.namespace, camera.name)}/whep",
    )


def status(camera: CameraState, now: datetime) -> CameraStatusView:
    """How a camera is."""
    source = camera.status.source or SourceStatus()
    reason, message = _source_reason(camera)
    running = reason == SourceReason.STREAMING
    since = source.running_since if running else None
    return CameraStatusView(
        namespace=camera.namespace,
        name=camera.name,
        phase=camera.status.phase,
        ready=_is_true(camera, ConditionType.READY),
        running=running,
        viewers=camera.status.viewers,
        # Every viewer has one peer connection, and so has a publisher.
        peer_connections=camera.status.viewers + (camera.status.publisher is not None),
        uptime_seconds=max(0, int((now - since).total_seconds())) if since else 0,
        last_frame_time=source.last_frame_time,
        live=camera.status.live,
        source=_source(source, reason, message, since),
        profiles=[_profile(profile) for profile in camera.status.profiles],
        conditions=camera.status.conditions,
    )


def _source(source: SourceStatus, reason: str, message: str, since: datetime | None) -> SourceState:
    return SourceState(
        state=reason,
        message=message,
        video_codec=source.video_codec,
        audio_codec=source.audio_codec,
        width=source.width,
        height=source.height,
        fps=source.fps,
        bitrate=source.bitrate,
        reconnects=source.reconnects,
        running_since=since,
        last_error=without_userinfo(source.last_error),
    )


def _profile(profile: ProfileStatus) -> ProfileState:
    return ProfileState(
        name=profile.name,
        state=profile.state,
        video_codec=profile.video_codec,
        audio_codec=profile.audio_codec,
        width=profile.width,
        height=profile.height,
        last_error=without_userinfo(profile.last_error),
    )


def config(camera: CameraState) -> CameraConfig:
    """What a camera is described as."""
    metadata = camera.obj["metadata"]
    return CameraConfig(
        namespace=camera.namespace,
        name=camera.name,
        uid=camera.uid,
        generation=metadata.get("generation", 0),
        resource_version=metadata.get("resourceVersion", ""),
        created_at=metadata.get("creationTimestamp"),
        labels=dict(camera.labels),
        annotations=own_annotations(metadata.get("annotations") or {}),
        spec=_shown(camera.obj.get("spec") or {}),
    )


def own_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """Annotations that people see and set."""
    return {key: value for key, value in annotations.items() if not key.startswith(FOREIGN_ANNOTATIONS)}


def session(obj: Obj) -> SessionView | None:
    """A session as Kubernetes knows it; None if this version cannot read it."""
    metadata = obj["metadata"]
    try:
        spec = StreamSessionSpec.model_validate(obj.get("spec") or {})
        state = StreamSessionStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        return None
    return SessionView(
        id=metadata["name"],
        namespace=metadata.get("namespace", ""),
        camera=spec.camera_ref.name,
        user=spec.user,
        role=spec.role,
        transport=spec.transport,
        phase=state.phase,
        end_reason=state.end_reason,
        message=without_userinfo(state.message),
        endpoint=state.endpoint,
        created_at=metadata.get("creationTimestamp"),
        timestamps=state.timestamps,
    )


def link_headers(servers: list[IceServerView]) -> list[str]:
    """STUN and TURN servers as Link header lines (RFC 9725 section 4.6), one for each address."""
    lines = []
    for server in servers:
        parameters = ['rel="ice-server"']
        if server.username:
            secret = server.credential or ""
            parameters += [
                f'username="{_quoted(server.username)}"',
                f'credential="{_quoted(secret)}"',
                'credential-type="password"',
            ]
        lines += [f"<{url}>; {'; '.join(parameters)}" for url in server.urls]
    return lines


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _is_true(camera: CameraState, type_: ConditionType) -> bool:
    condition = camera.condition(type_)
    return condition is not None and condition.status is ConditionStatus.TRUE


def _why_not_ready(camera: CameraState) -> str:
    condition = camera.condition(ConditionType.READY)
    if condition is None or condition.status is ConditionStatus.TRUE:
        return ""
    return without_userinfo(condition.message)


def _source_reason(camera: CameraState) -> tuple[str, str]:
    condition = camera.condition(ConditionType.SOURCE_READY)
    return (condition.reason, without_userinfo(condition.message)) if condition else (PENDING, "")


def _shown(value: Any) -> Any:
    """`value` with user names and passwords taken out of URLs, should an object hold any in spite of its schema."""
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return without_userinfo(value) if isinstance(value, str) else value
