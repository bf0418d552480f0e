"""The development cluster's first objects."""

import pytest

from sightline_cli.dev import world


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gate=rtsp://10.0.0.7/s1", world.DevCamera("gate", "rtsp://10.0.0.7/s1")),
        ("rtsp://10.0.0.7/s1?a=b", world.DevCamera("camera", "rtsp://10.0.0.7/s1?a=b")),
        ("gate=rtsp://u:p%40x@10.0.0.7:554/s1", world.DevCamera("gate", "rtsp://10.0.0.7:554/s1", "u", "p@x")),
        ("clip=/srv/clip.mp4", world.DevCamera("clip", "/srv/clip.mp4")),
        ("clip=http://host/clip.mp4", world.DevCamera("clip", "http://host/clip.mp4")),
    ],
)
def test_a_camera_is_read(text: str, expected: world.DevCamera) -> None:
    assert world.parse_camera(text) == expected


@pytest.mark.parametrize(
    "text", ["Gate=rtsp://h/x", "gate=ftp://h/x", "gate=", "x" * 60 + "=rtsp://h/x", "gate=rtsp:///x"]
)
def test_what_is_no_camera_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"camera"):
        world.parse_camera(text)


def test_a_password_goes_into_a_secret_and_nowhere_else() -> None:
    camera = world.parse_camera("gate=rtsp://u:hunter2@10.0.0.7/s1")
    assert "hunter2" not in repr(camera)
    made = world.objects((camera,))
    assert [obj["kind"] for obj in made] == ["CameraClass", "Camera", "Secret", "Camera"]
    assert made[3]["spec"]["source"] == {
        "rtsp": {"url": "rtsp://10.0.0.7/s1", "credentialsRef": {"name": "gate-credentials"}}
    }
    assert "hunter2" not in str(made)


def test_the_test_pattern_is_always_there() -> None:
    assert world.objects(())[1]["metadata"] == {"name": "test-pattern", "namespace": "default"}
