"""What the development cluster holds at its start, as plain objects.

Pure: options in, manifests out. Credentials in a camera's URL are split off into a Secret at once, as the schema
demands.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sightline_agent.sources.address import AddressError, parse_address
from sightline_agent.sources.credentials import Credentials
from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_model.base import API_VERSION, MAX_CAMERA_NAME, NAME_PATTERN
from sightline_model.camera import Source

NAMESPACE = "default"
USER = "developer"
_PATTERN = "test-pattern"


@dataclass(frozen=True, slots=True)
class DevCamera:
    """A camera that the user named; credentials stay out of its repr."""

    name: str
    source: Source
    credentials: Credentials | None = None


def parse_cameras(texts: Sequence[str]) -> tuple[DevCamera, ...]:
    """Each as `parse_camera` reads it; ValueError, too, where two have one name."""
    cameras = tuple(parse_camera(text) for text in texts)
    taken = {_PATTERN}
    for camera in cameras:
        if camera.name in taken:
            raise ValueError(f"another camera has the name {camera.name} already; write NAME=URL with a new one")
        taken.add(camera.name)
    return cameras


def parse_camera(text: str) -> DevCamera:
    """NAME=URL (or a bare URL, then the name is `camera`); ValueError says what is wrong."""
    name, separator, url = text.partition("=")
    if not separator or "://" in name:
        name, url = "camera", text
    if not re.match(NAME_PATTERN, name) or len(name) > MAX_CAMERA_NAME:
        raise ValueError(f"a camera's name has lower-case letters, digits and '-', {MAX_CAMERA_NAME} at most")
    try:
        source, credentials = parse_address(url)
    except AddressError as error:
        raise ValueError(f"camera {name}: {error}") from None
    return DevCamera(name, source, credentials)


def default_class(warm_agents: int = 0) -> Obj:
    """The CameraClass of a fresh installation, with so many spare agents."""
    return {
        "apiVersion": API_VERSION,
        "kind": "CameraClass",
        "metadata": {"name": "default", "annotations": {names.DEFAULT_CLASS_ANNOTATION: "true"}},
        "spec": {"warmAgents": warm_agents} if warm_agents else {},
    }


def objects(cameras: tuple[DevCamera, ...], warm_agents: int = 0) -> list[Obj]:
    """Everything to create, Secrets before the cameras that refer to them."""
    pattern = _camera(_PATTERN, {"testPattern": {"text": "Sightline"}}, "Test pattern")
    made = [default_class(warm_agents), pattern]
    for camera in cameras:
        if camera.credentials is not None:
            made.append(_secret(camera.name, camera.credentials))
        made.append(_camera(camera.name, _source(camera), camera.name))
    return made


def _source(camera: DevCamera) -> Obj:
    """As a person would write it: without the defaults."""
    source = camera.source.model_dump(mode="json", exclude_unset=True)
    if camera.credentials is None:
        return source
    ((kind, described),) = source.items()
    reference = "tokenRef" if camera.credentials.token else "credentialsRef"
    return {kind: {**described, reference: {"name": _secret_name(camera.name)}}}


def _camera(name: str, source: Obj, title: str) -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"source": source, "access": {"owner": USER}, "presentation": {"title": title}},
    }


def _secret(camera: str, credentials: Credentials) -> Obj:
    given = {"username": credentials.username, "password": credentials.password, "token": credentials.token}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _secret_name(camera), "namespace": NAMESPACE},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in given.items() if value},
    }


def _secret_name(camera: str) -> str:
    return f"{camera}-credentials"
