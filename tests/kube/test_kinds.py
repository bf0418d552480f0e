"""Where each kind is served, and which kind an object is of."""

import pytest

from sightline_kube.kinds import CAMERA, CAMERA_CLASS, KINDS, POD, Kind, kind_of


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "path"),
    [
        (POD, None, None, "/api/v1/pods"),
        (POD, "a", None, "/api/v1/namespaces/a/pods"),
        (POD, "a", "b", "/api/v1/namespaces/a/pods/b"),
        (CAMERA, "a", "b", "/apis/sightline.dev/v1alpha1/namespaces/a/cameras/b"),
        (CAMERA_CLASS, "ignored", "b", "/apis/sightline.dev/v1alpha1/cameraclasses/b"),
    ],
)
def test_paths(kind: Kind, namespace: str | None, name: str | None, path: str) -> None:
    assert kind.path(namespace, name) == path


def test_a_kind_is_found_by_its_object() -> None:
    assert [kind_of({"apiVersion": kind.api_version, "kind": kind.kind}) for kind in KINDS] == list(KINDS)
    with pytest.raises(KeyError):
        kind_of({"apiVersion": "v1", "kind": "Camera"})
