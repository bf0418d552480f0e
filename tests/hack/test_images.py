"""An image is built again when, and only when, something it is made of changed."""

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from hack.cluster import images
from hack.cluster.paths import ROOT
from hack.cluster.runtime import PAUSE_IMAGE, pause_archive


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(images, "ROOT", tmp_path)
    for name in ("model/a.py", "kube/a.py", "operator/a.py", "api/a.py", "agents/a.py", "web/dist/index.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def fingerprints() -> dict[str, str]:
    return {component: images.fingerprint(component) for component in images.COMPONENTS}


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        ("model/a.py", {"operator", "api", "agent"}),
        ("kube/new.py", {"operator", "api"}),
        ("agents/a.py", {"agent"}),
        ("web/dist/index.html", {"api"}),
        ("requirements/operator.txt", {"operator"}),
        ("Dockerfile", {"operator", "api", "agent"}),
        ("model/__pycache__/a.pyc", set()),
        ("docs/a.md", set()),
    ],
)
def test_change_rebuilds_what_holds_it(tree: Path, changed: str, rebuilt: set[str]) -> None:
    before, tag = fingerprints(), images.content_tag()

    (tree / changed).parent.mkdir(parents=True, exist_ok=True)
    (tree / changed).write_text("changed")

    after = fingerprints()
    assert {component for component in after if after[component] != before[component]} == rebuilt
    assert (images.content_tag() != tag) == bool(rebuilt)


def test_dockerfile_copies_the_folders_that_are_watched() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = {
        stage: set(re.findall(r"^COPY (\S+) /", body, re.MULTILINE))
        for stage, body in re.findall(r"FROM scratch AS sources-(\w+)\n(.*?)\n\n", text, re.DOTALL)
    }

    assert copied == {component: set(folders) for component, folders in images.COMPONENTS.items()}


def test_pause_image_is_a_valid_archive() -> None:
    with tarfile.open(fileobj=io.BytesIO(pause_archive(b"program"))) as archive:
        members = {name: file.read() for name in archive.getnames() if (file := archive.extractfile(name))}

    manifest = json.loads(members["manifest.json"])[0]
    config = json.loads(members[manifest["Config"]])
    digests = [hashlib.sha256(members[layer]).hexdigest() for layer in manifest["Layers"]]
    assert manifest["RepoTags"] == [PAUSE_IMAGE]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}" for digest in digests]
