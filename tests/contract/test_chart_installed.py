"""The Helm chart in a real API server: what Helm, RBAC and Pod Security make of it there. Nothing runs its pods."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest
from helm_python import Chart
from helm_python.config import Config

from sightline_kube.errors import ForbiddenError, InvalidError
from sightline_kube.kinds import SECRET
from sightline_kube.real import RealCluster
from sightline_model.names import (
    AGENT_SECRET_TYPE,
    OPERATOR_FIELD_MANAGER,
    SPARE_ADOPTED,
    SPARE_LABEL,
    agent_labels,
    spare_labels,
)
from tests.helpers.apiserver import Apiserver, kube_binary, running_apiserver
from tests.helpers.chart import CHART, NAMESPACE, Obj, pick, pod_specs, render
from tests.helpers.kubectl import Kubectl, KubectlError

pytestmark = pytest.mark.apiserver

OPERATOR = f"system:serviceaccount:{NAMESPACE}:sightline-operator"
FRONT_DOOR = f"system:serviceaccount:{NAMESPACE}:sightline-api"
CLASS_JOB = f"system:serviceaccount:{NAMESPACE}:sightline-class"
# Who, verbs, resource: everything that the programs call, and beside it what they must not be able to.
MAY = [
    (OPERATOR, "get list watch", "cameras.sightline.dev"),
    (OPERATOR, "get list watch", "cameraclasses.sightline.dev"),
    (OPERATOR, "get list watch delete", "streamsessions.sightline.dev"),
    (OPERATOR, "update", "cameras.sightline.dev/status"),
    (OPERATOR, "update", "cameraclasses.sightline.dev/status"),
    (OPERATOR, "update", "streamsessions.sightline.dev/status"),
    (OPERATOR, "update", "cameras.sightline.dev/finalizers"),
    *[(OPERATOR, "get list watch create patch delete", kind) for kind in ("pods", "services")],
    (OPERATOR, "create patch", "secrets"),
    (OPERATOR, "list watch", "nodes"),
    (OPERATOR, "create", "leases.coordination.k8s.io"),
    (OPERATOR, "get update", "leases.coordination.k8s.io/sightline-operator"),
    (FRONT_DOOR, "get list watch create update delete", "cameras.sightline.dev"),
    (FRONT_DOOR, "get list create delete", "streamsessions.sightline.dev"),
    (FRONT_DOOR, "create", "tokenreviews.authentication.k8s.io"),
    (FRONT_DOOR, "create", "subjectaccessreviews.authorization.k8s.io"),
    (CLASS_JOB, "create", "cameraclasses.sightline.dev"),
    (CLASS_JOB, "patch", "cameraclasses.sightline.dev/default"),
]
MAY_NOT = [
    (OPERATOR, "create update patch delete", "cameras.sightline.dev"),
    (OPERATOR, "create update patch", "streamsessions.sightline.dev"),
    (OPERATOR, "create update patch delete", "cameraclasses.sightline.dev"),
    (OPERATOR, "get list watch update delete deletecollection", "secrets"),
    (OPERATOR, "list watch patch delete", "leases.coordination.k8s.io/sightline-operator"),
    (OPERATOR, "get update", "leases.coordination.k8s.io/other"),
    (OPERATOR, "deletecollection update", "pods"),
    (OPERATOR, "create", "pods/exec"),
    (OPERATOR, "get create update patch delete", "nodes"),
    (FRONT_DOOR, "get list watch", "secrets"),
    (FRONT_DOOR, "get list create", "pods"),
    (FRONT_DOOR, "patch deletecollection", "cameras.sightline.dev"),
    (FRONT_DOOR, "update patch", "cameras.sightline.dev/status"),
    (FRONT_DOOR, "update patch", "streamsessions.sightline.dev"),
    (FRONT_DOOR, "impersonate", "users"),
    (CLASS_JOB, "patch", "cameraclasses.sightline.dev/other"),
    (CLASS_JOB, "get", "secrets"),
]


@pytest.fixture(scope="module")
def chart() -> Iterator[Chart]:
    with Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    with running_apiserver(tmp_path_factory.mktemp("chart")) as running:
        yield running


@pytest.fixture(scope="module")
def kubectl(server: Apiserver) -> Kubectl:
    built = kube_binary().parent / "bin" / "kubectl"
    return Kubectl(built if built.exists() else Path(shutil.which("kubectl") or "kubectl"), server.kubeconfig)


@pytest.fixture(scope="module")
def release(server: Apiserver, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """The chart in an empty cluster. No kubelet is there to run the Job, so a test runs its program."""
    with pytest.MonkeyPatch.context() as patch, Chart.load(CHART) as loaded:
        for part in ("CACHE", "CONFIG", "DATA"):
            patch.setenv(f"HELM_{part}_HOME", str(tmp_path_factory.mktemp("helm")))
        with Config(kubeconfig_path=server.kubeconfig, namespace=NAMESPACE) as config:
            config.install(
                loaded,
                "sightline",
                {"defaultClass": {"create": False}},
                namespace=NAMESPACE,
                create_namespace=True,
            )
            for kind in ("ClusterRole", "ClusterRoleBinding"):
                kubectl.apply(pick(render(loaded), kind, "sightline-class"))
            yield config


def as_account(kubectl: Kubectl, account: str, directory: Path) -> Path:
    """A kubeconfig with a token of a service account of the release."""
    token = kubectl("create", "token", account, f"--namespace={NAMESPACE}").strip()
    content = json.loads(kubectl("config", "view", "--raw", "--output=json"))
    for user in content["users"]:
        user["user"] = {"token": token}
    path = directory / f"{account}.json"
    path.write_text(json.dumps(content))
    return path


def run_file(name: str, kubeconfig: Path, *arguments: str) -> None:
    """Run a program of the chart's, as its Job would."""
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    command = [sys.executable, str(CHART / "files" / name), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


async def refused(call: Awaitable[object]) -> bool:
    """Whether the API server refuses the call."""
    try:
        await call
    except (ForbiddenError, InvalidError):
        return True
    return False


def allowed(kubectl: Kubectl, questions: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Those of (who, verb, resource) to which the API server says yes."""
    split = [(who, verb, resource) for who, verbs, resource in questions for verb in verbs.split()]
    reviews = {"apiVersion": "v1", "kind": "List", "items": [access_review(*question) for question in split]}
    answers = kubectl("create", '-o=jsonpath={.status.allowed}{" "}', "-f", "-", manifest=reviews).split()
    assert len(answers) == len(split)
    return [asked for asked, answer in zip(split, answers, strict=True) if answer == "true"]


def may_end_pods(kubectl: Kubectl, account: str, namespace: str) -> bool:
    """Whether a service account of the release may."""
    user = f"--as=system:serviceaccount:{NAMESPACE}:{account}"
    try:
        return kubectl("auth", "can-i", "delete", "pods", f"--namespace={namespace}", user).strip() == "yes"
    except KubectlError:
        return False


def access_review(who: str, verb: str, resource: str) -> Obj:
    kind, _, part = resource.partition("/")
    plural, _, group = kind.partition(".")
    namespace = NAMESPACE if plural == "leases" else "anywhere"
    attributes = {"verb": verb, "group": group, "resource": plural, "namespace": namespace}
    # What follows the slash is a class or a Lease, of other kinds a subresource.
    named = plural in {"cameraclasses", "leases"} and part != "status"
    attributes["name" if named else "subresource"] = part
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "metadata": {},
        "spec": {"user": who, "resourceAttributes": attributes},
    }


@pytest.mark.usefixtures("release")
class TestInstalled:
    def test_crds_and_programs_are_there(self, kubectl: Kubectl) -> None:
        kubectl("wait", "--for=condition=Established", "--timeout=90s", "crd", "--all")
        for name in ("sightline-operator", "sightline-api"):
            kubectl.get("deployment", name, NAMESPACE)
        assert kubectl.get("service", "sightline-api", NAMESPACE)["spec"]["ports"][0]["name"] == "http"

    def test_the_default_class_is_applied(
        self, chart: Chart, server: Apiserver, kubectl: Kubectl, tmp_path: Path
    ) -> None:
        path = tmp_path / "class.json"
        path.write_text(pick(render(chart), "ConfigMap", "sightline-class")["data"]["class.json"])
        for _ in range(2):
            run_file("apply_class.py", server.kubeconfig, str(path))
        found = kubectl.get("cameraclass", "default")
        assert found["metadata"]["annotations"]["sightline.dev/is-default-class"] == "true"
        assert found["metadata"]["generation"] == 1

    def test_what_the_programs_may(self, kubectl: Kubectl) -> None:
        wanted = [(who, verb, resource) for who, verbs, resource in MAY for verb in verbs.split()]
        assert allowed(kubectl, MAY) == wanted

    def test_what_they_may_not(self, kubectl: Kubectl) -> None:
        assert allowed(kubectl, MAY_NOT) == []

    async def test_the_operator_reaches_no_secret_but_its_own(self, kubectl: Kubectl, tmp_path: Path) -> None:
        theirs: Obj = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "camera-x", "namespace": "default"}}
        kubectl("create", "-f", "-", manifest={**theirs, "stringData": {"password": "hunter2"}})
        ours = {**theirs, "metadata": {**theirs["metadata"], "name": "camera-y"}, "type": AGENT_SECRET_TYPE}
        cluster = await RealCluster.from_kubeconfig(str(as_account(kubectl, "sightline-operator", tmp_path)))
        try:
            async with asyncio.timeout(90):  # policies take effect some moments after they were made
                while not await refused(cluster.merge_patch(SECRET, "default", "camera-x", {})):
                    await asyncio.sleep(0.1)
            taken = {**ours, "metadata": theirs["metadata"]}
            for attempt in (taken, {**theirs, "data": {"password": "eA=="}}):
                assert await refused(cluster.apply(attempt, field_manager=OPERATOR_FIELD_MANAGER))
            assert await refused(cluster.create({**theirs, "metadata": {"name": "other", "namespace": "default"}}))
            for _ in range(2):
                await cluster.apply(ours, field_manager=OPERATOR_FIELD_MANAGER)
            assert await refused(cluster.get(SECRET, "default", "camera-y"))
            assert await refused(cluster.list(SECRET, "default"))
        finally:
            await cluster.close()

    def test_pods_pass_the_restricted_standard(self, chart: Chart, kubectl: Kubectl) -> None:
        enforce = "pod-security.kubernetes.io/enforce=restricted"
        kubectl("create", "namespace", "restricted")
        kubectl("label", "namespace", "restricted", enforce)
        kubectl("create", "serviceaccount", "default", "--namespace=restricted")
        for name, spec in pod_specs(render(chart)):
            spec["serviceAccountName"] = "default"
            metadata = {"name": name, "namespace": "restricted"}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            kubectl("create", "--dry-run=server", "-f", "-", manifest=pod)

    def test_an_upgrade_keeps_the_key(self, release: Config, kubectl: Kubectl) -> None:
        before = kubectl.get("secret", "sightline-keys", NAMESPACE)["data"]
        values = {"defaultClass": {"create": False}, "api": {"replicas": 2}}
        with Chart.load(CHART) as loaded:
            release.upgrade(loaded, "sightline", values, namespace=NAMESPACE)
        assert kubectl.get("deployment", "sightline-api", NAMESPACE)["spec"]["replicas"] == 2
        assert kubectl.get("secret", "sightline-keys", NAMESPACE)["data"] == before

    async def test_spares_end_with_the_release_and_no_other_pod_does(
        self, chart: Chart, kubectl: Kubectl, tmp_path: Path
    ) -> None:
        """No kubelet is there to run the Job, so its program is run here, with the rights of its account."""
        kubectl("create", "namespace", "doors")
        objects = render(chart, {"warmAgents": {"namespaces": ["doors"]}})
        for kind in ("ServiceAccount", "Role", "RoleBinding"):
            kubectl.apply(pick(objects, kind, "sightline-spares"))
        waiting, adopted = spare_labels("default"), {**agent_labels("gate", "default"), SPARE_LABEL: SPARE_ADOPTED}
        for name, labels in (("one", waiting), ("two", waiting), ("watched", adopted)):
            spec = {"containers": [{"name": "agent", "image": "registry.example/agent"}]}
            metadata = {"name": name, "namespace": "doors", "labels": labels}
            kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        async with asyncio.timeout(30):  # rights take effect some moments after they were given
            while not may_end_pods(kubectl, "sightline-spares", "doors"):
                await asyncio.sleep(0.1)
        run_file("end_spares.py", as_account(kubectl, "sightline-spares", tmp_path), "doors")
        assert [pod["metadata"]["name"] for pod in kubectl.list("pods", namespace="doors")] == ["watched"]

    def test_uninstalling_leaves_cameras_and_the_key_that_agents_trust(self, release: Config, kubectl: Kubectl) -> None:
        camera = {
            "apiVersion": "sightline.dev/v1alpha1",
            "kind": "Camera",
            "metadata": {"name": "kept"},
            "spec": {"source": {"testPattern": {}}},
        }
        kubectl.apply(camera)
        before = kubectl.get("secret", "sightline-keys", NAMESPACE)["data"]
        release.uninstall("sightline")
        assert kubectl.get("camera", "kept")["spec"]["source"]
        assert kubectl.list("deployments", namespace=NAMESPACE) == []
        assert kubectl.get("secret", "sightline-keys", NAMESPACE)["data"] == before
        # A release that comes back has it, too.
        with Chart.load(CHART) as loaded:
            release.install(loaded, "sightline", {"defaultClass": {"create": False}}, namespace=NAMESPACE)
        assert kubectl.list("deployments", namespace=NAMESPACE)
        assert kubectl.get("secret", "sightline-keys", NAMESPACE)["data"] == before
