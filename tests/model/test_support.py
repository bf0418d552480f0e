"""What this version refuses: every field of the kinds is either in use or named here."""

from typing import Any

import pytest

from sightline_model.camera import SOURCE_KINDS, CameraSpec
from sightline_model.cameraclass import CameraClassSpec
from sightline_model.session import StreamSessionSpec
from sightline_model.support import not_supported_yet

RTSP = {"rtsp": {"url": "rtsp://camera/1"}}


def camera(**fields: Any) -> list[str]:
    spec = CameraSpec.model_validate({"source": RTSP, **fields})
    return [line.partition(":")[0] for line in not_supported_yet(spec)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"source": {"rtsp": {"url": "rtsp://camera/1", "transport": "TCP", "credentialsRef": {"name": "a"}}}},
        {"source": {"testPattern": {"width": 640, "height": 360, "fps": 15, "text": "hello"}}},
        {"source": {"file": {"url": "http://host/clip.mp4", "loop": False}}},
        {"source": {"file": {"path": "/clips/a.mp4"}}},
        {"source": {"rtmp": {"url": "rtmp://host/app/key", "credentialsRef": {"name": "a"}}}},
        {"source": {"whep": {"url": "https://host/whep", "tokenRef": {"name": "a"}}}},
        {"source": {"hls": {"url": "https://host/a.m3u8"}}},
        {"profiles": [{"name": "sd", "source": RTSP}, {"name": "tiny", "source": {"testPattern": {}}}]},
        {"className": "edge", "audio": "None", "transcode": "Never"},
        {"lifecycle": {"start": "Always", "idleTimeout": "5m", "startTimeout": "3s", "scaleToZeroAfter": "Never"}},
        {"lifecycle": {"scaleToZeroAfter": "10m"}},
        {"audio": "Auto"},
        {"transcode": "Auto"},
        {"access": {"owner": "alice", "grants": [{"subjects": ["guest"], "roles": ["View"]}], "maxViewers": 3}},
        {"presentation": {"title": "Door", "description": "The door"}},
    ],
)
def test_what_works(fields: dict[str, Any]) -> None:
    assert camera(**fields) == []


SOURCES_TO_COME: dict[str, dict[str, Any]] = {
    "v4l2": {"device": "/dev/video0"},
    "push": {},
    "device": {},
    "external": {"webrtcUrl": "wss://robot/ws"},
}


@pytest.mark.parametrize("kind", SOURCES_TO_COME)
def test_sources_to_come(kind: str) -> None:
    assert camera(source={kind: SOURCES_TO_COME[kind]}) == [f"spec.source.{kind}"]


def test_every_source_is_either_here_or_to_come() -> None:
    assert set(SOURCES_TO_COME) | {"rtsp", "rtmp", "whep", "hls", "testPattern", "file"} == set(SOURCE_KINDS)


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"source": {"rtsp": {"url": "rtsps://camera/1"}}}, []),
        ({"source": {"rtsp": {"url": "rtsps://camera/1", "fingerprint": "AB:CD"}}}, []),
        ({"source": {"rtsp": {"url": "rtsp://camera/1", "transport": "UDP"}}}, []),
        ({"profiles": [{"name": "sd", "source": {"push": {}}}]}, ["spec.profiles[sd].source.push"]),
        ({"presentation": {"thumbnail": "https://host/a.jpg"}}, ["spec.presentation.thumbnail"]),
        ({"presentation": {"chat": {"enabled": True}}}, ["spec.presentation.chat"]),
        ({"outputs": [{"name": "a", "srt": {"url": "srt://host:1"}}]}, ["spec.outputs"]),
    ],
)
def test_fields_of_a_camera_to_come(fields: dict[str, Any], refused: list[str]) -> None:
    assert camera(**fields) == refused


def camera_class(**fields: Any) -> list[str]:
    return [line.partition(":")[0] for line in not_supported_yet(CameraClassSpec.model_validate(fields))]


def test_what_works_in_a_class() -> None:
    everything: dict[str, Any] = {
        "agent": {"image": "registry/agent:1", "pullPolicy": "Always", "pullSecrets": ["a"]},
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
        "scheduling": {
            "nodeSelector": {"a": "b"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
            "runtimeClassName": "runc",
        },
        "network": {
            "mode": "Relay",
            "advertise": ["192.0.2.1"],
            "portRange": {"first": 30000, "last": 30010},
            "iceServers": [{"urls": ["stun:host:3478"]}],
            "turn": {"urls": ["turn:host"], "secretRef": "a"},
        },
        "limits": {"maxViewers": 10},
        "warmAgents": 3,
        "defaults": {"connectTimeout": "5s"},
        "sessions": {"persist": "Always", "retention": "10s", "maxDuration": "1h"},
        "transports": {"simple": True},
    }
    assert camera_class() == []
    assert camera_class(**everything) == []


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"podTemplate": {"spec": {}}}, "spec.podTemplate"),
        ({"limits": {"publishPerUser": 2}}, "spec.limits.publishPerUser"),
        ({"warmAgents": 1, "network": {"mode": "NodePort"}}, "spec.warmAgents"),
        ({"sessions": {"persist": "OnDemand"}}, "spec.sessions.persist"),
        ({"transports": {"simple": False}}, "spec.transports.simple"),
    ],
)
def test_fields_of_a_class_to_come(fields: dict[str, Any], refused: str) -> None:
    assert camera_class(**fields) == [refused]


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({}, []),
        ({"expiresAt": "2030-01-01T00:00:00Z", "client": "curl"}, []),
        ({"role": "Publish", "transport": "WHIP"}, ["spec.role", "spec.transport"]),
        ({"transport": "HLS"}, ["spec.transport"]),
        ({"profile": "sd"}, []),
    ],
)
def test_sessions(fields: dict[str, Any], refused: list[str]) -> None:
    spec = StreamSessionSpec.model_validate({"cameraRef": {"name": "door"}, "user": "bob", **fields})
    assert [line.partition(":")[0] for line in not_supported_yet(spec)] == refused
