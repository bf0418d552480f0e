"""The CRDs against the API server: what is accepted, what is refused and how, what a person sees.

The same examples run against `sightline_model.crd.validate`, so the in-memory cluster says what the real one says, word
for word. The tests that need the real one carry the marker `apiserver`.
"""

import json
import re
import shutil
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline_model import crd, reasons, reference
from sightline_model.camera import CameraSpec
from sightline_model.cameraclass import CameraClassSpec
from sightline_model.reasons import ConditionType
from sightline_model.rules import SCHEMA_KEY, Rule
from sightline_model.schema import Schema
from sightline_model.support import not_supported_yet
from tests.helpers.apiserver import ROOT, Apiserver, kube_binary
from tests.helpers.kubectl import Kubectl, KubectlError

FOLDERS = (ROOT / "crds", ROOT / "charts/sightline/files/crds")
PATTERN: dict[str, Any] = {"testPattern": {}}


def obj(kind: str, spec: dict[str, Any] | None, name: str = "door") -> dict[str, Any]:
    metadata = {"name": name} if kind == "CameraClass" else {"name": name, "namespace": "default"}
    made: dict[str, Any] = {"apiVersion": "sightline.dev/v1alpha1", "kind": kind, "metadata": metadata}
    return made if spec is None else {**made, "spec": spec}


def camera(name: str = "door", **fields: Any) -> dict[str, Any]:
    return obj("Camera", {"source": PATTERN, **fields}, name)


def rtsp(url: str, **fields: Any) -> dict[str, Any]:
    return camera(source={"rtsp": {"url": url, **fields}})


def grant(**fields: Any) -> dict[str, Any]:
    return camera(access={"grants": [{"subjects": ["user:bob"], "roles": ["View"], **fields}]})


def camera_class(**fields: Any) -> dict[str, Any]:
    return obj("CameraClass", fields)


def session(**fields: Any) -> dict[str, Any]:
    return obj("StreamSession", {"cameraRef": {"name": "door"}, "user": "bob", **fields}, "s-1")


GOOD: dict[str, dict[str, Any]] = {
    "least": camera(),
    "longest name": camera("a" * 52),
    "rtsp with a port": rtsp("rtsp://camera.lan:8554/stream?channel=1&user=a@b"),
    "rtsp by address": rtsp("rtsp://192.0.2.7"),
    "rtsp by IPv6 address": rtsp("rtsp://[2001:db8::7]:554/1"),
    "rtsps with a fingerprint": rtsp("rtsps://camera/1", fingerprint="AB:CD"),
    "every other source": camera(
        profiles=[
            {"name": "a", "source": {"rtmp": {"url": "rtmps://host/app/key", "credentialsRef": {"name": "a.b"}}}},
            {"name": "b", "source": {"whep": {"url": "https://host/whep", "tokenRef": {"name": "t"}}}},
            {"name": "c", "source": {"hls": {"url": "http://host/a.m3u8"}}},
            {"name": "d", "source": {"v4l2": {"device": "/dev/video0"}}},
            {"name": "e", "source": {"file": {"path": "/clips/a.mp4"}}},
            {"name": "f", "source": {"push": {"protocols": ["WHIP", "RTMP"]}}},
            {"name": "g", "source": {"device": {"delivery": "Direct"}}},
            {
                "name": "h",
                "source": {
                    "external": {"webrtcUrl": "wss://robot/ws", "fallback": {"rtsp": {"url": "rtsp://robot/1"}}}
                },
            },
        ]
    ),
    "durations": camera(lifecycle={"idleTimeout": "1h30m", "startTimeout": "500ms", "scaleToZeroAfter": "Never"}),
    "scale to zero": camera(lifecycle={"scaleToZeroAfter": "10m"}),
    "booking": grant(**{"from": "2026-01-01T10:00:00Z", "until": "2026-01-01T13:00:00+01:00"}),
    "subjects": grant(subjects=["guest", "authenticated", "user:a@b", "group:system:masters"]),
    "outputs": camera(outputs=[{"name": "a", "srt": {"url": "srt://host:9000"}}]),
    "class with nothing": obj("CameraClass", None),
    "class": camera_class(
        scheduling={"tolerations": [{"key": "a", "operator": "Exists"}], "affinity": {"nodeAffinity": {}}},
        network={"portRange": {"first": 30000, "last": 30000}, "iceServers": [{"urls": ["stun:host:3478"]}]},
        podTemplate={"spec": {"anything": 1}},
    ),
    "session": session(expiresAt="2026-01-01T00:00:00Z", role="View", client="Firefox"),
}

ONE_SOURCE = (
    "spec.source: Invalid value: set exactly one of "
    "rtsp, rtmp, whep, hls, v4l2, testPattern, file, push, device, external"
)
RTSP_URL = (
    "spec.source.rtsp.url: Invalid value: write rtsp://host[:port]/path or rtsps://host[:port]/path, without spaces"
)
CREDENTIALS = "spec.source.rtsp.url: Invalid value: put user name and password into credentialsRef, not into the url"


def duration(path: str, value: str, shortest: str, longest: str, start: str = "write a duration") -> str:
    example = "for example 30s, 5m or 1h30m"
    return f'{path}: Invalid value: "{value}": {start} from {shortest} to {longest}, {example}'


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "two sources": (camera(source={**PATTERN, "rtsp": {"url": "rtsp://camera/1"}}), [ONE_SOURCE]),
    "no source": (camera(source={}), [ONE_SOURCE]),
    "two sources of a profile": (
        camera(profiles=[{"name": "sd", "source": {**PATTERN, "push": {}}}]),
        [ONE_SOURCE.replace("spec.source", "spec.profiles[0].source")],
    ),
    "unknown field": (camera(sauce=1), ['unknown field "spec.sauce"']),
    "unknown field deep inside": (rtsp("rtsp://camera/1", url2="x"), ['unknown field "spec.source.rtsp.url2"']),
    "long name": (
        camera("a" * 70),
        ["<nil>: Invalid value: shorten the name: a camera's name has at most 52 characters"],
    ),
    "dotted name": (
        camera("a.b"),
        ["<nil>: Invalid value: name the camera with lower-case letters, digits and '-' only, no dots"],
    ),
    "duration without unit": (
        camera(lifecycle={"idleTimeout": "30"}),
        [duration("spec.lifecycle.idleTimeout", "30", "0s", "24h")],
    ),
    "duration in days": (
        camera(lifecycle={"idleTimeout": "1d"}),
        [duration("spec.lifecycle.idleTimeout", "1d", "0s", "24h")],
    ),
    "duration too long": (
        camera(lifecycle={"idleTimeout": "24h1ms"}),
        [duration("spec.lifecycle.idleTimeout", "24h1ms", "0s", "24h")],
    ),
    "duration too short": (
        camera(lifecycle={"startTimeout": "99ms"}),
        [duration("spec.lifecycle.startTimeout", "99ms", "100ms", "5m")],
    ),
    "duration that would overflow": (
        camera(lifecycle={"idleTimeout": "99999999999h"}),
        [duration("spec.lifecycle.idleTimeout", "99999999999h", "0s", "24h")],
    ),
    "never, misspelt": (
        camera(lifecycle={"scaleToZeroAfter": "never"}),
        [duration("spec.lifecycle.scaleToZeroAfter", "never", "10s", "168h", "write Never or a duration")],
    ),
    "password in the url": (rtsp("rtsp://admin:secret@camera/1"), [CREDENTIALS]),
    "user in the url": (rtsp("rtsp://admin@camera/1"), [CREDENTIALS]),
    "password with a slash in the url": (rtsp("rtsp://admin:se/cret@camera/1"), [RTSP_URL]),
    "other scheme": (rtsp("http://camera/1"), [RTSP_URL]),
    "space in the url": (rtsp("rtsp://camera/a b"), [RTSP_URL]),
    "fingerprint without TLS": (
        rtsp("rtsp://camera/1", fingerprint="AB"),
        ["spec.source.rtsp: Invalid value: leave fingerprint out or use rtsps://"],
    ),
    "file by url and path": (
        camera(source={"file": {"url": "http://host/a.mp4", "path": "/a.mp4"}}),
        ["spec.source.file: Invalid value: set exactly one of url, path"],
    ),
    "file by nothing": (
        camera(source={"file": {}}),
        ["spec.source.file: Invalid value: set exactly one of url, path"],
    ),
    "empty fallback": (
        camera(source={"external": {"webrtcUrl": "wss://robot/ws", "fallback": {}}}),
        ["spec.source.external.fallback: Invalid value: set rtsp"],
    ),
    "subject without its kind": (
        grant(subjects=["bob"]),
        [
            'spec.access.grants[0].subjects[0]: Invalid value: "bob": '
            "write user:NAME, group:NAME, authenticated or guest"
        ],
    ),
    "role that does not exist": (
        grant(roles=["Look"]),
        [
            'spec.access.grants[0].roles[0]: Unsupported value: "Look": supported values: "View", "Publish", "Manage"',
            "some validation rules were not checked",
        ],
    ),
    "role twice": (
        grant(roles=["View", "View"]),
        ['spec.access.grants[0].roles[1]: Duplicate value: "View"'],
    ),
    "booking backwards": (
        grant(**{"from": "2026-01-01T11:00:00Z", "until": "2026-01-01T11:00:00Z"}),
        ["spec.access.grants[0]: Invalid value: let from be before until"],
    ),
    "profile twice": (
        camera(profiles=[{"name": "sd", "source": PATTERN}, {"name": "sd", "source": PATTERN}]),
        ['spec.profiles[1]: Duplicate value: {"name":"sd"}'],
    ),
    "output to two places": (
        camera(outputs=[{"name": "a", "srt": {"url": "srt://a:1"}, "whip": {"url": "https://a/b"}}]),
        ["spec.outputs[0]: Invalid value: set exactly one of rtmp, whip, srt"],
    ),
    "wrong type": (
        camera(source={"testPattern": {"width": "wide"}}),
        [
            'spec.source.testPattern.width: Invalid value: "string": '
            'spec.source.testPattern.width in body must be of type integer: "string"',
            "some validation rules were not checked",
        ],
    ),
    "odd width": (
        camera(source={"testPattern": {"width": 641}}),
        [
            "spec.source.testPattern.width: Invalid value: 641: "
            "spec.source.testPattern.width in body should be a multiple of 2"
        ],
    ),
    "no spec": (obj("Camera", None), ["spec: Required value", "some validation rules were not checked"]),
    "ports backwards": (
        camera_class(network={"portRange": {"first": 2000, "last": 1999}}),
        ["spec.network.portRange: Invalid value: let first be at most last"],
    ),
    "session of too long a life": (
        camera_class(sessions={"maxDuration": "200h"}),
        [duration("spec.sessions.maxDuration", "200h", "1s", "168h")],
    ),
}

EARLY, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
FIXED = "spec: Invalid value: a session cannot be changed, only expiresAt may grow: delete it and make another"
GROWS = "spec: Invalid value: expiresAt may only grow, by 24h at most in one step"
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "nothing": (session(), session(), []),
    "longer": (session(expiresAt=EARLY), session(expiresAt=LATER), []),
    "much longer": (session(expiresAt=EARLY), session(expiresAt="2026-01-02T00:00:01Z"), [GROWS]),
    "shorter": (session(expiresAt=LATER), session(expiresAt=EARLY), [GROWS]),
    "no end any more": (session(expiresAt=EARLY), session(), [GROWS]),
    "an end at last": (session(), session(expiresAt=EARLY), [GROWS]),
    "another user": (session(), session(user="eve"), [FIXED]),
    "another camera": (session(), session(cameraRef={"name": "garden"}), [FIXED]),
    "another role": (session(), session(role="Publish"), [FIXED]),
    "a client": (session(), session(client="curl"), [FIXED]),
    "a camera's class": (camera(className="a"), camera(className="b"), []),
}


def messages(printed: str) -> list[str]:
    """What kubectl printed, as the list of findings that it is."""
    _, _, findings = printed.strip().partition(" is invalid: ")
    return [line.removeprefix("* ") for line in findings.splitlines() if line.strip()]


def check(found: list[str], expected: list[str]) -> None:
    assert len(found) == len(expected), found
    for finding in expected:
        assert any(finding in line for line in found), found


class TestInPython:
    """`crd.validate` and `crd.defaulted`."""

    @pytest.mark.parametrize("example", GOOD)
    def test_accepted(self, example: str) -> None:
        made = GOOD[example]
        assert crd.validate(made["kind"], crd.defaulted(made["kind"], made)) == []

    @pytest.mark.parametrize("example", GOOD)
    def test_the_models_read_what_is_accepted(self, example: str) -> None:
        made = GOOD[example]
        entry = crd.KINDS[made["kind"]]
        complete = crd.defaulted(made["kind"], made)
        entry.spec.model_validate(complete["spec"])
        status = entry.status.model_validate(complete["status"])
        assert [c.type for c in getattr(status, "conditions")] == [t.value for t in entry.conditions]  # noqa: B009

    @pytest.mark.parametrize("example", BAD)
    def test_refused(self, example: str) -> None:
        made, expected = BAD[example]
        check(crd.validate(made["kind"], crd.defaulted(made["kind"], made)), expected)

    @pytest.mark.parametrize("example", [name for name in BAD if "name" not in name])
    def test_the_models_refuse_it_too_and_repeat_no_value(self, example: str) -> None:
        made, _ = BAD[example]
        with pytest.raises(ValueError, match="validation error") as caught:
            crd.KINDS[made["kind"]].spec.model_validate(made.get("spec"))
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("example", CHANGES)
    def test_changes(self, example: str) -> None:
        old, new, expected = CHANGES[example]
        kind = new["kind"]
        check(crd.validate(kind, crd.defaulted(kind, new), crd.defaulted(kind, old)), expected)

    def test_a_default_is_the_models_default(self) -> None:
        """What the API server fills in is what pydantic would: nobody sees two different cameras."""
        for example in GOOD.values():
            entry = crd.KINDS[example["kind"]]
            bare = entry.spec.model_validate(example.get("spec", {}))
            filled = entry.spec.model_validate(crd.defaulted(example["kind"], example)["spec"])
            assert bare == filled


def nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, member in schema.get("properties", {}).items():
        yield from nodes(member, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


ALL_NODES = [
    (kind, path, node)
    for kind in crd.KINDS
    for part in ("spec", "status")
    for path, node in nodes(crd.schema_of(kind)["properties"][part], part)
]


class TestSchema:
    """What every node of every schema keeps to."""

    def test_files_are_what_the_models_say(self) -> None:
        for folder in FOLDERS:
            assert {path.name: path.read_text() for path in folder.glob("*.yaml")} == crd.files(), "run make crds"

    def test_the_text_is_the_data(self) -> None:
        found = [yaml.safe_load(text) for text in crd.files().values()]
        assert found == [json.loads(json.dumps(crd.definition(kind))) for kind in crd.KINDS]

    def test_everything_is_bounded(self) -> None:
        for kind, path, node in ALL_NODES:
            if node["type"] == "string" and "enum" not in node and node.get("format") != "date-time":
                assert "maxLength" in node, f"{kind} {path}"
            if node["type"] == "array":
                assert "maxItems" in node, f"{kind} {path}"
            if "additionalProperties" in node:
                assert "maxProperties" in node, f"{kind} {path}"

    def test_everything_is_explained(self) -> None:
        for kind, path, node in ALL_NODES:
            if not path.endswith("[]"):
                assert node.get("description", "").endswith((".", "?", ")")), f"{kind} {path}"

    def test_nothing_is_left_of_pydantics_dialect(self) -> None:
        for kind, path, node in ALL_NODES:
            assert node.keys().isdisjoint({"$ref", "$defs", "anyOf", "oneOf", "const", "title"}), f"{kind} {path}"
            assert node.get("additionalProperties", {}) is not False, f"{kind} {path}"
            assert not ("properties" in node and "additionalProperties" in node), f"{kind} {path}"

    def test_only_free_forms_keep_unknown_fields(self) -> None:
        free = {path for _, path, node in ALL_NODES if node.get("x-kubernetes-preserve-unknown-fields")}
        assert free == {"spec.scheduling.tolerations[]", "spec.scheduling.affinity", "spec.podTemplate"}

    def test_lists_say_how_they_merge(self) -> None:
        found = {
            (path, tuple(node.get("x-kubernetes-list-map-keys", ())))
            for _, path, node in ALL_NODES
            if node.get("x-kubernetes-list-type") == "map"
        }
        assert found == {
            ("status.conditions", ("type",)),
            ("spec.profiles", ("name",)),
            ("status.profiles", ("name",)),
            ("spec.outputs", ("name",)),
        }

    def test_rules_say_what_to_do(self) -> None:
        rules: list[Rule] = [rule for _, _, node in ALL_NODES for rule in node.get(SCHEMA_KEY, ())]
        assert len(rules) > 20
        for rule in rules:
            assert len(rule.message) > 5
            assert not rule.message.endswith(".")
            # A rule about a change is not checked where objects are made, and the other way round.
            assert ("oldSelf" in rule.cel) == (rule.transition is not None)


EXAMPLES = sorted((ROOT / "examples").glob("*/*.yaml"))
REFERENCE = ROOT / "docs" / "reference"


class TestDocuments:
    """Examples and reference pages are true."""

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
    def test_examples_run_on_this_version(self, path: Path) -> None:
        made = [obj for obj in yaml.safe_load_all(path.read_text()) if obj["kind"] in crd.KINDS]
        assert made
        for example in made:
            complete = crd.defaulted(example["kind"], example)
            assert crd.validate(example["kind"], complete) == []
            spec = crd.KINDS[example["kind"]].spec.model_validate(complete["spec"])
            assert isinstance(spec, CameraSpec | CameraClassSpec)
            assert not_supported_yet(spec) == []

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
    def test_examples_say_how_they_are_used(self, path: Path) -> None:
        assert f"kubectl apply -f examples/{path.parent.name}\n" in (path.parent / "README.md").read_text()

    def test_generated_pages_are_what_the_models_say(self) -> None:
        for name, text in reference.pages().items():
            assert (REFERENCE / name).read_text() == text, "run make crds"

    def test_every_reason_is_explained(self) -> None:
        """docs/reference/conditions.md has a section for each condition type and a line for each of its reasons."""
        sections = re.split(r"^## ", (REFERENCE / "conditions.md").read_text(), flags=re.M)[1:]
        found = {section.split()[0]: re.findall(r"^\| `(\w+)` \|", section, flags=re.M) for section in sections}
        assert found == {type_.value: [reason.value for reason in REASONS[type_]] for type_ in ConditionType}


REASONS: dict[ConditionType, type[StrEnum]] = {
    ConditionType.ACCEPTED: reasons.AcceptedReason,
    ConditionType.AGENT_READY: reasons.AgentReason,
    ConditionType.NETWORK_READY: reasons.NetworkReason,
    ConditionType.SOURCE_READY: reasons.SourceReason,
    ConditionType.LIVE: reasons.LiveReason,
    ConditionType.OUTPUTS_READY: reasons.OutputsReason,
    ConditionType.READY: reasons.ReadyReason,
    ConditionType.ROLLED_OUT: reasons.RolledOutReason,
    ConditionType.SPARES_READY: reasons.SparesReason,
    ConditionType.AUTHORIZED: reasons.AuthorizedReason,
    ConditionType.CONNECTED: reasons.ConnectedReason,
    ConditionType.ENDED: reasons.EndReason,
}


@pytest.fixture(scope="module")
def kubectl(apiserver: Apiserver) -> Iterator[Kubectl]:
    built = kube_binary().parent / "bin" / "kubectl"
    program = built if built.exists() else Path(shutil.which("kubectl") or "kubectl")
    run = Kubectl(program, apiserver.kubeconfig)
    run("apply", "--server-side", "-f", str(FOLDERS[0]))
    run("wait", "--for=condition=Established", "crd", "--all")
    yield run
    run("delete", "cameras,streamsessions,cameraclasses", "--all", "--namespace=default")


@pytest.mark.apiserver
class TestOnTheApiServer:
    @pytest.mark.parametrize("example", GOOD)
    def test_accepted(self, kubectl: Kubectl, example: str) -> None:
        made = GOOD[example]
        shown = json.loads(kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", manifest=made))
        assert shown["spec"] == crd.defaulted(made["kind"], made)["spec"]

    @pytest.mark.parametrize("example", BAD)
    def test_refused_with_the_same_words(self, kubectl: Kubectl, example: str) -> None:
        made, expected = BAD[example]
        with pytest.raises(KubectlError) as caught:
            kubectl("create", "--dry-run=server", "-f", "-", manifest=made)
        printed = str(caught.value)
        if "unknown field" in expected[0]:
            assert f"strict decoding error: {expected[0]}" in printed
            return
        check(messages(printed), expected)
        ours = crd.validate(made["kind"], crd.defaulted(made["kind"], made))
        assert sorted(messages(printed)) == sorted(ours)
        assert "secret" not in printed

    @pytest.mark.parametrize("example", CHANGES)
    def test_changes(self, kubectl: Kubectl, example: str) -> None:
        old, new, expected = CHANGES[example]
        kubectl("create", "-f", "-", manifest=old)
        try:
            kubectl("replace", "-f", "-", manifest=new)
            found = []
        except KubectlError as refused:
            found = messages(str(refused))
        finally:
            kubectl("delete", "--wait=false", "-f", "-", manifest=old)
        check(found, expected)

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
    def test_examples_are_applied(self, kubectl: Kubectl, path: Path) -> None:
        kubectl("apply", "-f", str(path.parent))

    def test_conditions_are_there_before_the_operator(self, kubectl: Kubectl) -> None:
        for kind, made in (("Camera", camera("early")), ("CameraClass", camera_class()), ("StreamSession", session())):
            kubectl.apply(made)
            status = kubectl.get(kind, made["metadata"]["name"])["status"]
            assert status == crd.defaulted(kind, made)["status"]
            conditions = {condition["type"]: condition for condition in status["conditions"]}
            assert conditions.keys() == {type_.value for type_ in crd.KINDS[kind].conditions}
            assert {condition["status"] for condition in conditions.values()} == {"Unknown"}
        kubectl.wait("camera", "early", f"condition={ConditionType.READY}=Unknown", seconds=5)

    def test_the_status_is_a_subresource(self, kubectl: Kubectl) -> None:
        kubectl.apply(camera("written"))
        patch = json.dumps({"status": {"phase": "Streaming", "viewers": 3, "live": True}})
        kubectl("patch", "camera", "written", "--type=merge", "-p", patch)
        assert kubectl.get("Camera", "written")["status"]["phase"] == "Pending"
        kubectl("patch", "camera", "written", "--subresource=status", "--type=merge", "-p", patch)
        assert kubectl.get("Camera", "written")["status"]["viewers"] == 3

    def test_columns(self, kubectl: Kubectl) -> None:
        kubectl.apply(camera("shown"))
        columns = kubectl("get", "cam", "shown").splitlines()[0].split()
        assert columns == ["NAME", "READY", "PHASE", "CODEC", "VIEWERS", "AGE"]
        wide = kubectl("get", "cameras", "shown", "-o", "wide").splitlines()
        assert wide[0].split() == ["NAME", "READY", "PHASE", "CODEC", "VIEWERS", "NODE", "SOURCE", "REASON", "AGE"]
        assert wide[1].split()[:4] == ["shown", "Unknown", "Pending", "0"]
        default = camera_class()
        default["metadata"] = {"name": "main", "annotations": {"sightline.dev/is-default-class": "true"}}
        kubectl.apply(default)
        classes = kubectl("get", "camclass", "main").splitlines()
        assert classes[0].split()[:4] == ["NAME", "ACCEPTED", "CAMERAS", "ROLLEDOUT"]
        assert classes[1].split()[:5] == ["main", "Unknown", "0", "Unknown", "true"]
        kubectl.apply(session())
        line = kubectl("get", "stream").splitlines()
        assert line[0].split() == ["NAME", "CAMERA", "USER", "PHASE", "REASON", "AGE"]
        assert line[1].split()[:4] == ["s-1", "door", "bob", "Requested"]
        assert "camera.sightline.dev/shown" in kubectl("get", "sightline")

    def test_fields_to_filter_by(self, kubectl: Kubectl) -> None:
        kubectl.apply(camera("edge", className="edge"))
        found = kubectl("get", "cameras", "--field-selector=spec.className=edge", "-o", "name")
        assert found.split() == ["camera.sightline.dev/edge"]
        kubectl.apply(session())
        for selector in ("spec.cameraRef.name=door", "spec.user=bob"):
            assert "s-1" in kubectl("get", "streamsessions", f"--field-selector={selector}", "-o", "name")

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("camera", "who may watch it"),
            ("camera.spec.source.rtsp", "credentialsRef"),
            ("camera.spec.lifecycle.idleTimeout", "after the last"),
            ("camera.status.conditions", "The answer in words"),
            ("cameraclass.spec.network.mode", "PodIP"),
            ("streamsession.spec.expiresAt", "ends at the latest"),
        ],
    )
    def test_explain(self, kubectl: Kubectl, path: str, words: str) -> None:
        assert words in " ".join(kubectl("explain", path).split())
