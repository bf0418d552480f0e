"""The API server that other tests build on: deletion follows owners, and nothing is left when it ends."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.helpers.apiserver import Apiserver, kube_binary, running_apiserver

pytestmark = pytest.mark.apiserver

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: owners.test.sightline.dev}
spec:
  group: test.sightline.dev
  names: {kind: Owner, plural: owners}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object}}
"""


def kubectl(server: Apiserver, *arguments: str, given: str = "") -> str:
    command = [str(kube_binary()), "kubectl", f"--kubeconfig={server.kubeconfig}", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_owned_object_goes_with_its_owner(tmp_path: Path) -> None:
    crds = tmp_path / "crds"
    crds.mkdir()
    (crds / "owner.yaml").write_text(CRD)
    with running_apiserver(tmp_path / "server", with_controller_manager=True, crds=crds) as server:
        owner = {"apiVersion": "test.sightline.dev/v1", "kind": "Owner", "metadata": {"name": "camera"}}
        made = json.loads(kubectl(server, "create", "-o=json", "-f=-", given=json.dumps(owner)))
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": "camera",
            "uid": made["metadata"]["uid"],
        }
        child = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "config", "ownerReferences": [reference]},
        }
        kubectl(server, "create", "-f=-", given=json.dumps(child))

        kubectl(server, "delete", "owner", "camera")

        kubectl(server, "wait", "configmap/config", "--for=delete", "--timeout=60s")


def test_processes_end_with_the_context(tmp_path: Path) -> None:
    with running_apiserver(tmp_path):
        pass

    running = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path) in _text(path)]
    assert running == []


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
