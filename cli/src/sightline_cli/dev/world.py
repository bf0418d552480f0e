"""What the development cluster holds at its start, as plain objects.

Pure: options in, manifests out. Credentials in a camera's URL are split off into a Secret at once, as the schema
demands.
"""

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_model.base import API_VERSION, MAX_CAMERA_NAME, NAME_PATTERN

NAMESPACE = "default"
USER = "developer"


@dataclass(frozen=True, slots=True)
class DevCamera:
    """A camera that the user named; user name and password stay out of its repr."""

    name: str
    url: str
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


def parse_camera(text: str) -> DevCamera:
    """NAME=URL (or a bare URL, then the name is `camera`); ValueError says what is wrong."""
    name, separator, url = text.partition("=")
    if not separator or "://" in name:
        name, url = "camera", text
    if not re.match(NAME_PATTERN, name) or len(name) > MAX_CAMERA_NAME:
        raise ValueError(f"{name!r} is no camera name: lower-case letters, digits and '-', {MAX_CAMERA_NAME} at most")
    if url.startswith("/"):
        return DevCamera(name, url)
    parts = urlsplit(url)
    if parts.scheme not in {"rtsp", "http", "https"} or not parts.hostname:
        raise ValueError(f"camera {name}: give rtsp://host/path, http(s)://host/file.mp4 or /path/to/file")
    host = parts.netloc.rpartition("@")[2]
    clean = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    return DevCamera(name, clean, unquote(parts.username or ""), unquote(parts.password or ""))


def default_class() -> Obj:
    """The CameraClass of a fresh installation."""
    return {
        "apiVersion": API_VERSION,
        "kind": "CameraClass",
        "metadata": {"name": "default", "annotations": {names.DEFAULT_CLASS_ANNOTATION: "true"}},
        "spec": {},
    }


def objects(cameras: tuple[DevCamera, ...]) -> list[Obj]:
    """Everything to create, Secrets before the cameras that refer to them."""
    pattern = _camera("test-pattern", {"testPattern": {"text": "Sightline"}}, "Test pattern")
    made = [default_class(), pattern]
    for camera in cameras:
        if camera.username:
            made.append(_credentials(camera))
        made.append(_camera(camera.name, _source(camera), camera.name))
    return made


def _source(camera: DevCamera) -> Obj:
    if camera.url.startswith("/"):
        return {"file": {"path": camera.url}}
    if not camera.url.startswith("rtsp://"):
        return {"file": {"url": camera.url}}
    rtsp: Obj = {"url": camera.url}
    if camera.username:
        rtsp["credentialsRef"] = {"name": f"{camera.name}-credentials"}
    return {"rtsp": rtsp}


def _camera(name: str, source: Obj, title: str) -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"source": source, "access": {"owner": USER}, "presentation": {"title": title}},
    }


def _credentials(camera: DevCamera) -> Obj:
    data = {"username": camera.username, "password": camera.password}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{camera.name}-credentials", "namespace": NAMESPACE},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }
