"""The chart's admission policies on a real API server: each rule met and broken, by people who lack one right each."""

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from helm_python import Chart

from tests.helpers.apiserver import ROOT, Apiserver, kube_binary, running_apiserver
from tests.helpers.chart import CHART, NAMESPACE, Obj, render
from tests.helpers.given_away import CASES, DELETE, PUBLISH, UPDATE, VIEW, Case, Spec
from tests.helpers.kubectl import Kubectl, KubectlError

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.skipif(not kube_binary().exists(), reason="the API server was not built: make cluster-build"),
]

FRONT_DOOR = f"system:serviceaccount:{NAMESPACE}:sightline-api"
SECRETS = "secrets"
GROUP = "sightline.dev"
RIGHTS: dict[str, Obj] = {
    SECRETS: {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    VIEW: {"apiGroups": [GROUP], "resources": ["cameras/view"], "verbs": ["get"]},
    PUBLISH: {"apiGroups": [GROUP], "resources": ["cameras/publish"], "verbs": ["create"]},
    UPDATE: {"apiGroups": [GROUP], "resources": ["cameras"], "verbs": ["update"]},
    DELETE: {"apiGroups": [GROUP], "resources": ["cameras"], "verbs": ["delete"]},
}
WRITING: Obj = {"apiGroups": [GROUP], "resources": ["cameras", "streamsessions"], "verbs": ["get", "create"]}
PEOPLE: dict[str, list[Obj]] = {
    "everything": [WRITING, *RIGHTS.values()],
    **{f"no-{lacking}": [WRITING, *(RIGHTS[name] for name in RIGHTS if name != lacking)] for lacking in RIGHTS},
    "one-secret": [WRITING, RIGHTS[UPDATE], {**RIGHTS[SECRETS], "resourceNames": ["mine"]}],
    "one-camera": [WRITING, {**RIGHTS[VIEW], "resourceNames": ["gate"]}],
    "stand-in": [WRITING, RIGHTS[VIEW], RIGHTS[PUBLISH]],
}
IMPERSONATING: Obj = {"apiGroups": [""], "resources": ["users"], "resourceNames": ["ann"], "verbs": ["impersonate"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    with running_apiserver(tmp_path_factory.mktemp("admission"), crds=ROOT / "crds") as running:
        yield running


@pytest.fixture(scope="module")
def kubectl(server: Apiserver) -> Kubectl:
    built = kube_binary().parent / "bin" / "kubectl"
    cluster = Kubectl(built if built.exists() else Path("kubectl"), server.kubeconfig)
    kinds = ("ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    with Chart.load(CHART) as chart:
        objects = [obj for obj in render(chart) if obj["kind"] in kinds]
    many(cluster, "create", [*objects, *(part for name in PEOPLE for part in bound(name, PEOPLE[name]))])
    cluster.apply(cluster_role("impersonating", [IMPERSONATING]))
    cluster("create", "clusterrolebinding", "stand-in", "--clusterrole=impersonating", "--user=stand-in")
    stolen = camera("probe", {"source": {"rtsp": {"url": "rtsp://a.lan/s", "credentialsRef": {"name": "x"}}}})
    # Rights and policies take effect some moments after they were made; the session's is the second of the two.
    patience = time.monotonic() + 60
    while not (
        denied(cluster, "no-secrets", stolen)
        and denied(cluster, "stand-in", session("probe", "bob"))
        and many(cluster, "create", [session("probe", "ann")], "--dry-run=server", "--as=stand-in")[0]
    ):
        assert time.monotonic() < patience
    return cluster


def bound(user: str, rules: Sequence[Obj]) -> list[Obj]:
    """A user with these rights in the namespace `default`."""
    rbac = "rbac.authorization.k8s.io"
    named = {"metadata": {"name": user, "namespace": "default"}, "apiVersion": f"{rbac}/v1"}
    subjects = [{"kind": "User", "name": user, "apiGroup": rbac}]
    reference = {"kind": "Role", "name": user, "apiGroup": rbac}
    return [
        {**named, "kind": "Role", "rules": [*rules]},
        {**named, "kind": "RoleBinding", "subjects": subjects, "roleRef": reference},
    ]


def cluster_role(name: str, rules: Sequence[Obj]) -> Obj:
    version = "rbac.authorization.k8s.io/v1"
    return {"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": [*rules]}


def camera(name: str, spec: Spec) -> Obj:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": f"{GROUP}/v1alpha1", "kind": "Camera", "metadata": metadata, "spec": spec}


def session(name: str, user: str, labels: Obj | None = None, **spec: object) -> Obj:
    metadata = {"name": name, "namespace": "default", "labels": labels or {}}
    wanted = {"cameraRef": {"name": "gate"}, "user": user, **spec}
    return {"apiVersion": f"{GROUP}/v1alpha1", "kind": "StreamSession", "metadata": metadata, "spec": wanted}


def many(kubectl: Kubectl, verb: str, objects: Sequence[Obj], *options: str) -> tuple[set[str], str]:
    """The names of those that the API server took, and what was said of the others."""
    listed = {"apiVersion": "v1", "kind": "List", "items": [*objects]}
    try:
        said = kubectl(verb, "-f", "-", *options, manifest=listed)
    except KubectlError as error:
        said = str(error)
    return set(re.findall(rf"^\S+/(\S+) {verb}d", said, re.MULTILINE)), said


def refused(kubectl: Kubectl, user: str, obj: Obj, verb: str = "create") -> str:
    """What the policy says to that user about it; nothing where it is taken."""
    taken, said = many(kubectl, verb, [obj], "--dry-run=server", f"--as={user}")
    assert taken or "denied request" in said, said
    return "" if taken else said


def denied(kubectl: Kubectl, user: str, obj: Obj) -> bool:
    """Whether that user may write such objects by now, but a policy keeps this one out."""
    return "denied request" in many(kubectl, "create", [obj], "--dry-run=server", f"--as={user}")[1]


def needed(case: Case) -> set[str]:
    return case.actions | ({SECRETS} if case.secrets else set())


def slug(case: Case) -> str:
    return re.sub(r"[^a-z]+", "-", case.name)


@pytest.fixture(scope="module")
def cameras(kubectl: Kubectl) -> None:
    """Those that the cases change."""
    present = [camera(slug(case), case.before) for case in CASES if case.before is not None]
    taken, said = many(kubectl, "create", present)
    assert len(taken) == len(present), said


@pytest.mark.usefixtures("cameras")
@pytest.mark.parametrize("lacking", ["", *RIGHTS])
def test_who_writes_a_camera_has_what_it_gives_away(kubectl: Kubectl, lacking: str) -> None:
    """The same cases as for the front door."""
    user = f"no-{lacking}" if lacking else "everything"
    for verb, cases in (
        ("create", [case for case in CASES if case.before is None]),
        ("replace", [case for case in CASES if case.before is not None]),
    ):
        if (verb, lacking) == ("replace", UPDATE):
            continue  # RBAC's business
        objects = [camera(slug(case), case.after) for case in cases]
        taken, said = many(kubectl, verb, objects, "--dry-run=server", f"--as={user}")
        assert taken == {slug(case) for case in cases if lacking not in needed(case)}, said


def test_one_secret_may_be_used_and_another_not(kubectl: Kubectl) -> None:
    def using(secret: str) -> Obj:
        return camera("x", {"source": {"rtsp": {"url": "rtsp://a.lan/s", "credentialsRef": {"name": secret}}}})

    assert refused(kubectl, "one-secret", using("mine")) == ""
    assert "The Secret theirs would be sent where this camera says" in refused(kubectl, "one-secret", using("theirs"))


def test_the_largest_camera_is_within_the_policy_s_budget(kubectl: Kubectl) -> None:
    """Each question to the authorizer costs; a policy that runs out of its budget refuses."""

    def source(number: int) -> Spec:
        return {"rtsp": {"url": f"rtsp://{number}.lan/s", "credentialsRef": {"name": f"s{number}"}}}

    grants = [{"subjects": [f"user:u{number}"], "roles": ["View", "Publish", "Manage"]} for number in range(64)]
    largest: Spec = {
        "source": source(0),
        "profiles": [{"name": f"p{number}", "source": source(number)} for number in range(1, 9)],
        "outputs": [
            {"name": f"o{number}", "srt": {"url": "srt://a.lan:1", "credentialsRef": {"name": f"s{number}"}}}
            for number in range(9, 17)
        ],
        "access": {"owner": "ann", "grants": grants},
    }
    assert refused(kubectl, "everything", camera("largest", largest)) == ""
    last = refused(kubectl, "no-secrets", camera("largest", largest))
    assert all(f"Secret s{number} " in last for number in (0, 16)) or "Secret s0 " in last


def test_the_front_door_asks_itself(kubectl: Kubectl) -> None:
    """It has no right to any Secret, and is let through: it has asked about its user."""
    spec: Spec = {
        "source": {"rtsp": {"url": "rtsp://a.lan/s", "credentialsRef": {"name": "x"}}},
        "access": {"owner": "ann"},
    }
    assert refused(kubectl, FRONT_DOOR, camera("x", spec)) == ""
    assert refused(kubectl, FRONT_DOOR, session("s-x", "ann", {"sightline.dev/user": "0" * 32})) == ""


@pytest.mark.parametrize(
    ("user", "wanted", "words"),
    [
        ("everything", session("s", "everything"), ""),
        ("everything", session("s", "ann"), "put everything into spec.user"),
        ("stand-in", session("s", "ann"), ""),
        ("stand-in", session("s", "bob"), "have the right to impersonate bob"),
        ("no-view", session("s", "no-view"), "the right get on cameras/view"),
        ("no-view", session("s", "no-view", role="Publish", transport="WHIP"), ""),
        ("no-publish", session("s", "no-publish"), ""),
        (
            "no-publish",
            session("s", "no-publish", role="Publish", transport="WHIP"),
            "the right create on cameras/publish",
        ),
        ("one-camera", session("s", "one-camera"), ""),
        ("one-camera", session("s", "one-camera", cameraRef={"name": "door"}), "the right get on cameras/view"),
        ("everything", session("s", "everything", {"sightline.dev/user": "x"}), "The label sightline.dev/user"),
    ],
)
def test_a_session_is_its_own_user_s(kubectl: Kubectl, user: str, wanted: Obj, words: str) -> None:
    said = refused(kubectl, user, wanted)
    assert words in said if words else said == ""


def test_a_session_does_not_become_the_front_door_s(kubectl: Kubectl) -> None:
    kubectl.apply(session("s-label", "admin", {"sightline.dev/user": ""}))
    with pytest.raises(KubectlError, match=r"The label sightline\.dev/user is the front door's"):
        kubectl("label", "streamsession", "s-label", "sightline.dev/user=x", "--overwrite", "--dry-run=server")
    kubectl("label", "streamsession", "s-label", "team=x", "--dry-run=server")
    kubectl(
        "patch", "streamsession", "s-label", "--type=merge", "--subresource=status", '--patch={"status":{"node":"n"}}'
    )
