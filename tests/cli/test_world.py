"""The development cluster's first objects."""

from base64 import b64decode
from typing import Any

import pytest

from sightline_cli.dev import world
from sightline_model.camera import CameraSpec

RTSP = "rtsp://10.0.0.7/s1"
PASSWORD = {"username": "u", "password": "p@x"}


def made(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The camera's source, and what is in its Secret."""
    objects = world.objects((world.parse_camera(text),))
    camera = objects[-1]
    CameraSpec.model_validate(camera["spec"])
    secrets = [obj for obj in objects if obj["kind"] == "Secret"]
    data = {key: b64decode(value).decode() for obj in secrets for key, value in obj["data"].items()}
    return camera["spec"]["source"], data


@pytest.mark.parametrize(
    ("text", "source", "secret"),
    [
        (f"gate={RTSP}", {"rtsp": {"url": RTSP}}, {}),
        ("gate=rtsps://10.0.0.7/s1?a=b", {"rtsp": {"url": "rtsps://10.0.0.7/s1?a=b"}}, {}),
        ("gate=rtsp://u:p%40x@10.0.0.7/s1", {"rtsp": {"url": RTSP, "credentialsRef": {}}}, PASSWORD),
        ("gate=rtmp://u:p%40x@h/app/key", {"rtmp": {"url": "rtmp://h/app/key", "credentialsRef": {}}}, PASSWORD),
        ("gate=whep://h:8889/cam/whep", {"whep": {"url": "http://h:8889/cam/whep"}}, {}),
        ("gate=wheps://tok@h/live", {"whep": {"url": "https://h/live", "tokenRef": {}}}, {"token": "tok"}),
        (
            "gate=https://u:p%40x@h/cam/whep",
            {"whep": {"url": "https://h/cam/whep", "tokenRef": {}}},
            {"token": "u:p@x"},
        ),
        ("gate=https://h/live/index.m3u8?x=1", {"hls": {"url": "https://h/live/index.m3u8?x=1"}}, {}),
        ("gate=http://h/clip.mp4", {"file": {"url": "http://h/clip.mp4"}}, {}),
        ("gate=/srv/clip.mp4", {"file": {"path": "/srv/clip.mp4"}}, {}),
        ("gate=/dev/video0", {"v4l2": {"device": "/dev/video0"}}, {}),
    ],
)
def test_a_camera_is_read(text: str, source: dict[str, Any], secret: dict[str, str]) -> None:
    ((kind, expected),) = source.items()
    found, data = made(text)
    for reference in ("credentialsRef", "tokenRef"):
        if reference in expected:
            expected[reference] = {"name": "gate-credentials"}
    assert {name: found[kind][name] for name in expected} == expected
    assert data == secret
    assert bool(secret) == any(name.endswith("Ref") for name in found[kind])


def test_how_a_camera_is_reached_goes_along() -> None:
    assert made("gate=rtsps://h/s#fingerprint=AB")[0] == {"rtsp": {"url": "rtsps://h/s", "fingerprint": "AB"}}
    assert made("rtsp://h/s#transport=udp")[0] == {"rtsp": {"url": "rtsp://h/s", "transport": "UDP"}}


@pytest.mark.parametrize("texts", [["gate=test", f"gate={RTSP}"], [RTSP, RTSP], ["test-pattern=test"]])
def test_each_camera_has_a_name_of_its_own(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="another camera has the name"):
        world.parse_cameras(texts)
    assert [camera.name for camera in world.parse_cameras(["a=test", "b=test"])] == ["a", "b"]


def test_the_bare_address_and_the_pattern() -> None:
    assert world.parse_camera(f"{RTSP}?a=b").name == "camera"
    assert made("gate=testpattern://?width=640&height=360&fps=15")[0]["testPattern"]["width"] == 640
    assert list(made("gate=test")[0]) == ["testPattern"]


@pytest.mark.parametrize(
    "text",
    [
        f"Gate={RTSP}",
        "gate=ftp://h/x",
        "gate=",
        "x" * 60 + f"={RTSP}",
        "gate=rtsp:///x",
        "gate=rtsp://u:hunter2@/x",
        "gate=rtsp://u:hunter2@h:port/x",
        "gate=http://u:hunter2@h/index.m3u8",
        "gate=http://u:hunter2@h/clip.mp4",
        "gate=https://[hunter2/whep",
    ],
)
def test_what_is_no_camera_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="camera") as caught:
        world.parse_camera(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["rtsp://u:hunter2@h/x", "whep://hunter2@h/x", "rtmp://u:hunter2@h/a/b"])
def test_credentials_go_into_a_secret_and_nowhere_else(address: str) -> None:
    camera = world.parse_camera(f"gate={address}")
    assert "hunter2" not in repr(camera)
    objects = world.objects((camera,))
    assert [obj["kind"] for obj in objects] == ["CameraClass", "Camera", "Secret", "Camera"]
    assert "hunter2" not in str(objects)


def test_the_test_pattern_is_always_there() -> None:
    assert world.objects(())[1]["metadata"] == {"name": "test-pattern", "namespace": "default"}


def test_spare_agents_are_a_matter_of_the_class() -> None:
    without, wanted = (world.objects((), warm_agents=number)[0] for number in (0, 2))
    assert (without["spec"], wanted["spec"]) == ({}, {"warmAgents": 2})
