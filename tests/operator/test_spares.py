"""Spare agents as pure decisions: how many to make, which to end, which to offer, and what an adoption changes."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_model.agent import SPARE_VARIABLE, SpareStart, spare_identity
from sightline_model.cameraclass import CameraClassSpec, PortRange
from sightline_model.reasons import SourceReason
from sightline_model.session import SessionPhase
from sightline_operator import build, pods, sparepods, spares
from sightline_operator.build import Plan
from sightline_operator.decide import Decision, decide
from sightline_operator.facts import NOT_TRUSTED, CameraFacts, LinkState, Options
from sightline_operator.spares import SpareFacts
from tests.operator.samples import (
    NOW,
    OPTIONS,
    ago,
    camera,
    camera_class,
    children,
    facts,
    link,
    plan_of,
    pod,
    report,
    running,
    session_report,
    text,
    waiting,
    well,
)

CLASS_UID = "k-1"
ON = replace(OPTIONS, spare_namespaces=frozenset({"site"}))
FAILED = {"phase": "Failed", "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": text(ago(60))}]}
SECRET = {"source": {"rtsp": {"url": "rtsp://camera.example/one", "credentialsRef": {"name": "door"}}}}


def plan(options: Options = OPTIONS, **spec: Any) -> Plan:
    return sparepods.spare_plan("site", "default", CameraClassSpec.model_validate(spec), options)


def spare(name: str = "one", status: Obj | None = None, age: float = 60.0, **metadata: Any) -> Obj:
    """A spare as the operator would have made it, on a node."""
    made = sparepods.pod(plan(), CLASS_UID, f"spare-{name}", metadata.pop("attempt", 0))
    created = {"uid": f"p-{name}", "resourceVersion": "7", "creationTimestamp": text(ago(age))}
    return {
        **made,
        "metadata": {**made["metadata"], **created, **metadata},
        "spec": {**made["spec"], "nodeName": "node-1"},
        "status": running(age) if status is None else status,
    }


def heard(connected: bool = True, key: str = "a key", revision: str = "") -> LinkState:
    said = report().model_copy(
        update={"sealing_key": key, "revision": revision, "camera": spare_identity("site", "spare")}
    )
    return LinkState(connected=connected, report=said, followed_at=ago(60), changed_at=ago(60))


def scene(*found: Obj, wanted: int = 2, **changes: Any) -> SpareFacts:
    links = {pods.name_of(one): heard() for one in found}
    values: dict[str, Any] = {"hash": sparepods.wanted_hash(plan()), "class_uid": CLASS_UID, "links": links}
    return SpareFacts(wanted=wanted, spares=found, **(values | changes))


def hosted(port: int) -> SpareFacts:
    """A spare of HostPort with that port, and a class that wants one in the range of today."""
    settings = plan(network={"mode": "HostPort"})
    made = sparepods.pod(settings, CLASS_UID, "spare-one", port=port)
    there = {**spare(), "spec": made["spec"]}
    there["metadata"] = {**there["metadata"], "annotations": made["metadata"]["annotations"]}
    within = PortRange(first=25000, last=25100)
    return scene(there, wanted=1, hash=sparepods.wanted_hash(settings), within=within)


def ended(decision: spares.SpareDecision) -> list[str]:
    return sorted(pods.name_of(one).removeprefix("spare-") for one in decision.end)


CORDONED = {"node-1": {"metadata": {"name": "node-1"}, "spec": {"unschedulable": True}}}


@pytest.mark.parametrize(
    ("given_facts", "make", "end", "ready"),
    [
        (scene(), 2, [], 0),
        (scene(wanted=0), 0, [], 0),
        (scene(spare()), 1, [], 1),
        (scene(spare(), spare("two")), 0, [], 2),
        (scene(spare(status=waiting("ContainerCreating")), spare("two"), links={}), 0, [], 0),
        # Too many: the youngest goes, and before it one that does not answer.
        (scene(spare(age=9), spare("two", age=8), spare("three", age=7)), 0, ["three"], 2),
        (scene(spare(age=9), spare("two", age=8), wanted=1, links={"spare-two": heard()}), 0, ["one"], 1),
        (scene(spare(), wanted=0), 0, ["one"], 0),
        # What no camera could use is replaced.
        (scene(spare(), hash="another"), 2, ["one"], 0),
        (scene(spare(), class_uid="another"), 2, ["one"], 0),
        (scene(spare(), nodes=CORDONED), 2, ["one"], 0),
        (scene(spare(), links={"spare-one": heard(revision="r")}), 2, ["one"], 0),
        # Its port is of the range that the class had before.
        (hosted(25000), 0, [], 1),
        (hosted(25100), 0, [], 1),
        (hosted(20005), 1, ["one"], 0),
        (hosted(25101), 1, ["one"], 0),
        # Silence decides nothing.
        (scene(spare(), links={"spare-one": heard(connected=False)}, wanted=1), 0, [], 0),
        # On its way out: it is not there any more.
        (scene(spare(deletionTimestamp=text(NOW))), 2, [], 0),
        # A failed one is replaced, once its pause is over.
        (scene(spare(status=FAILED), wanted=1), 1, ["one"], 0),
        (scene(spare(status=FAILED, attempt=6), wanted=1), 0, [], 0),
        (scene(spare(status=FAILED, attempt=6), wanted=0), 0, ["one"], 0),
        (scene(spare(status=FAILED, attempt=6), spare("two"), wanted=2), 0, [], 1),
        (scene(spare(status=FAILED, attempt=6), hash="another", wanted=1), 1, ["one"], 0),
    ],
)
def test_how_many_there_are(given_facts: SpareFacts, make: int, end: list[str], ready: int) -> None:
    decision = spares.decide(given_facts, NOW)
    assert (decision.make, ended(decision), decision.ready) == (make, end, ready)


def test_the_pause_after_a_failure_grows() -> None:
    first = spares.decide(scene(spare(status=FAILED, attempt=0), wanted=1), NOW)
    assert (first.make, first.attempt, first.look_again) == (1, 1, None)
    later = spares.decide(scene(spare(status=FAILED, attempt=6), wanted=1), NOW)
    assert later.look_again is not None
    assert 90 <= later.look_again <= 240
    assert spares.decide(scene(wanted=1), NOW).attempt == 0


UNSCHEDULABLE = {
    "phase": "Pending",
    "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available."}
    ],
}


@pytest.mark.parametrize(
    ("given_facts", "words", "again"),
    [
        (scene(spare(), spare("two")), "", None),
        (scene(spare(status=waiting("ContainerCreating")), links={}), "", None),
        (scene(spare(status=UNSCHEDULABLE), spare("two")), "No node takes pod spare-one: 0/1 nodes", None),
        (scene(spare(status=waiting("ImagePullBackOff")), links={}), "The node cannot get the image", None),
        (scene(spare(status=FAILED, attempt=6), wanted=1), "Pod spare-one has failed", None),
        # It has some time to answer before anything is said of it.
        (scene(spare(age=10), spare("two"), links={"spare-two": heard()}), "", 20.0),
        (scene(spare(), wanted=1, links={}), "check NetworkPolicies and kubectl logs -n site spare-one", None),
        # One that is to end is nobody's trouble.
        (scene(spare(status=UNSCHEDULABLE), wanted=0), "", None),
        (scene(spare(status=UNSCHEDULABLE), hash="another"), "", None),
    ],
)
def test_what_keeps_one_from_answering_is_told(given_facts: SpareFacts, words: str, again: float | None) -> None:
    decision = spares.decide(given_facts, NOW)
    assert words in decision.trouble
    assert bool(decision.trouble) is bool(words)
    if not decision.trouble:
        assert decision.look_again == again


def test_which_one_is_offered() -> None:
    old, young = spare("old", age=99), spare("young", age=9)
    assert spares.offer(scene(young, old)) is old
    not_ready = spare("old", age=99, status={**running(99), "conditions": [{"type": "Ready", "status": "False"}]})
    assert spares.offer(scene(not_ready, young)) is young
    assert spares.offer(scene(not_ready)) is not_ready  # its agent answers, whatever the kubelet has noticed


@pytest.mark.parametrize(
    "given_facts",
    [
        scene(),
        scene(spare(), links={}),
        scene(spare(), links={"spare-one": heard(connected=False)}),
        scene(spare(), links={"spare-one": heard(key="")}),
        scene(spare(), links={"spare-one": heard(revision="r")}),
        scene(spare(), hash="another"),
        scene(spare(), class_uid="another"),
        scene(spare(), nodes=CORDONED),
        hosted(20005),
        scene(spare(status=FAILED)),
        scene(spare(deletionTimestamp=text(NOW))),
    ],
)
def test_which_ones_are_not_offered(given_facts: SpareFacts) -> None:
    assert spares.offer(given_facts) is None


STATUSES = [None, FAILED, waiting("ContainerCreating")]


@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(STATUSES), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 9)),
        max_size=8,
    ),
    wanted=st.integers(0, 5),
)
def test_a_decision_carried_out_leaves_nothing_to_do(kinds: list[Any], wanted: int) -> None:
    found, links = [], {}
    for number, (status, fits, answering, deleted, attempt) in enumerate(kinds):
        more: dict[str, Any] = {"deletionTimestamp": text(NOW)} if deleted else {}
        one = spare(str(number), status, age=60.0 + number, attempt=attempt, **more)
        if not fits:
            one["metadata"]["annotations"] = {names.HASH_ANNOTATION: "old"}
        found.append(one)
        links[pods.name_of(one)] = heard(connected=answering)
    before = scene(*found, wanted=wanted, links=links)
    decision = spares.decide(before, NOW)
    kept = [one for one in found if one not in decision.end]
    made = [spare(f"new-{number}", age=0) for number in range(decision.make)]
    there = [one for one in kept if not pods.deleting(one)]
    assert len(there) + len(made) == wanted
    after = spares.decide(replace(before, spares=(*kept, *made)), NOW)
    assert (after.make, after.end) == (0, ())
    offered = spares.offer(before)
    assert offered is None or (offered in there or offered in decision.end)


# Pods


def test_a_spare_is_a_pod_of_its_class_without_what_is_a_cameras() -> None:
    made = sparepods.pod(plan(resources={"requests": {"cpu": "1"}}), CLASS_UID, "spare-one")
    (container,) = made["spec"]["containers"]
    assert [mount["name"] for mount in container["volumeMounts"]] == ["tmp"]
    assert [volume["name"] for volume in made["spec"]["volumes"]] == ["tmp"]
    assert container["resources"]["requests"] == {"cpu": "1"}
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    start = SpareStart.model_validate_json(str(env[SPARE_VARIABLE]))
    assert start.identity.audience == "site/spare-one/spare"
    assert start.token_keys == [dict(key) for key in OPTIONS.token_keys]
    labels = made["metadata"]["labels"]
    assert names.CAMERA_LABEL not in labels
    assert labels[names.SPARE_LABEL] == "waiting"
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("CameraClass", CLASS_UID, True)
    assert "blockOwnerDeletion" not in owner


def test_a_spare_differs_from_a_cameras_pod_in_nothing_else() -> None:
    cameras = build.agent_pod(plan_of(facts()), "one")["spec"]
    ours = sparepods.pod(plan(), CLASS_UID, "spare-one")["spec"]
    assert {key for key in cameras if cameras[key] != ours[key]} == {"containers", "volumes"}
    (theirs,), (own,) = cameras["containers"], ours["containers"]
    assert {key for key in theirs if theirs[key] != own[key]} == {"args", "env", "volumeMounts"}


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (plan(), True),
        (plan(warmAgents=7, limits={"maxViewers": 3}), True),
        (plan(agent={"image": "agent:2"}), False),
        (plan(resources={"requests": {"cpu": "1"}}), False),
        (plan(network={"mode": "HostPort"}), False),
        (plan(replace(OPTIONS, agent_image="agent:2")), False),
        (plan(replace(OPTIONS, token_keys=({"kty": "OKP", "kid": "k2"},))), False),
        (replace(plan(), class_name="other"), False),
    ],
)
def test_what_makes_another_spare(changed: Plan, same: bool) -> None:
    assert (sparepods.wanted_hash(changed) == sparepods.wanted_hash(plan())) is same


def test_ports_are_leased_up_front() -> None:
    hosted = plan(network={"mode": "HostPort"})
    made = sparepods.pod(hosted, CLASS_UID, "spare-one", port=20005)
    (container,) = made["spec"]["containers"]
    assert {"name": "media", "containerPort": 20005, "protocol": "UDP", "hostPort": 20005} in container["ports"]
    assert pods.desired_hash(made) == pods.desired_hash(sparepods.pod(hosted, CLASS_UID, "spare-two", port=20006))


def test_an_adoption_changes_whose_it_is_and_nothing_of_the_spec() -> None:
    patch = sparepods.adoption(plan_of(facts()), spare(attempt=2))
    assert patch.keys() == {"metadata"}
    metadata = patch["metadata"]
    assert (metadata["uid"], metadata["resourceVersion"]) == ("p-one", "7")
    assert metadata["labels"][names.CAMERA_LABEL] == "gate"
    assert metadata["labels"][names.SPARE_LABEL] == "adopted"
    assert [owner["uid"] for owner in metadata["ownerReferences"]] == ["u-1"]
    assert metadata["annotations"] == {
        names.HASH_ANNOTATION: build.pod_hash(plan_of(facts())),
        build.CREDENTIALS_ANNOTATION: build.credentials_hash(plan_of(facts()).spec),
        build.ATTEMPT_ANNOTATION: None,
    }
    json.dumps(patch)


# Cameras


def adopted(status: Obj | None = None) -> Obj:
    """The spare once the camera has it."""
    before = spare(status=status)
    patch = sparepods.adoption(plan_of(facts()), before)["metadata"]
    merged = {**before["metadata"], **patch}
    merged["labels"] = {**before["metadata"]["labels"], **patch["labels"]}
    given = {**before["metadata"]["annotations"], **patch["annotations"]}
    merged["annotations"] = {key: value for key, value in given.items() if value is not None}
    return {**before, "metadata": merged}


def taken(decision: Decision) -> str:
    return decision.takeover.push.pod if decision.takeover else ""


@pytest.mark.parametrize(
    ("changes", "takes"),
    [
        ({}, True),
        ({"spare": None}, False),
        # It has an agent that answers; a successor has time.
        ({"pods": (pod(),), "links": {"camera-gate-one": link()}, **children(facts())}, False),
        (
            {
                "pods": (pod(),),
                "links": {"camera-gate-one": link()},
                "camera_class": camera_class({"agent": {"image": "agent:2"}}),
            },
            False,
        ),
        # Its pod is on its way.
        ({"pods": (pod(status=waiting("ContainerCreating")),)}, False),
        # Its pod has failed, or is on a node that is lost; one after the other would be another matter.
        ({"pods": (pod(status=FAILED),)}, True),
        ({"pods": (pod(status=FAILED, annotations={build.ATTEMPT_ANNOTATION: "1"}),)}, False),
        ({"pods": (pod(),), "nodes": CORDONED}, True),
        ({"camera": camera({"source": {"rtsp": {"url": "nonsense"}}})}, False),
        ({"camera": camera(annotations={names.PAUSE_ANNOTATION: "true"})}, False),
        ({"camera_class": None}, False),
    ],
)
def test_when_a_camera_takes_a_spare(changes: dict[str, Any], takes: bool) -> None:
    decision = decide(facts(**({"spare": spare()} | changes)), NOW)
    assert taken(decision) == ("spare-one" if takes else "")


def test_what_an_adopted_agent_is_told() -> None:
    decision = decide(facts(spare=spare(), camera=camera(SECRET)), NOW)
    assert decision.takeover
    assert decision.takeover.push.credentials == {"main": "door"}
    there = well(pods=(adopted(),), links={"spare-one": heard()}, camera=camera(SECRET), options=ON)
    (push,) = decide(there, NOW).push
    assert (push.pod, push.credentials) == ("spare-one", {"main": "door"})
    (plain,) = decide(replace(there, camera=camera()), NOW).push
    assert plain.credentials == {}
    ordinary = well(links={"camera-gate-one": link(report=report(revision="old"))})
    (mounted,) = decide(ordinary, NOW).push
    assert mounted.credentials is None


def test_an_adopted_pod_is_kept_and_called_ready() -> None:
    decision = decide(well(pods=(adopted(),), links={"spare-one": link()}), NOW)
    assert (decision.new_pod, decision.delete, decision.push) == ((), (), ())
    assert decision.status
    assert decision.status.agent
    assert decision.status.agent.pod == "spare-one"


def test_failures_in_a_row_are_counted_over_adoptions() -> None:
    decision = decide(facts(spare=spare(), pods=(pod(status=FAILED),)), NOW)
    assert decision.takeover
    assert decision.takeover.patch["metadata"]["annotations"][build.ATTEMPT_ANNOTATION] == "1"


@pytest.mark.parametrize(
    ("reason", "told", "again"),
    [
        (SourceReason.IDLE, None, False),
        (SourceReason.UNREACHABLE, None, False),
        (SourceReason.AUTHENTICATION_FAILED, None, True),
        (SourceReason.AUTHENTICATION_FAILED, 59.0, False),
        (SourceReason.AUTHENTICATION_FAILED, 60.0, True),
    ],
)
def test_refused_credentials_are_told_again(reason: SourceReason, told: float | None, again: bool) -> None:
    wanted = build.agent_config(plan_of(facts(camera=camera(SECRET)))).revision
    said = link(
        report=report(reason, revision=wanted),
        pushed_revision=wanted if told else "",
        pushed_at=ago(told) if told else None,
    )
    there = well(pods=(adopted(),), links={"spare-one": said}, camera=camera(SECRET), options=ON)
    decision = decide(there, NOW)
    assert bool(decision.push) is again
    if reason is SourceReason.AUTHENTICATION_FAILED:
        assert decision.requeue_after is not None
        assert decision.requeue_after <= 60


@pytest.mark.parametrize(
    ("kid", "error", "successor"),
    [("k1", NOT_TRUSTED, False), ("k2", "", False), ("k2", "HTTP 500", False), ("k2", NOT_TRUSTED, True)],
)
def test_who_trusts_no_key_of_today_gets_a_successor(kid: str, error: str, successor: bool) -> None:
    options = replace(OPTIONS, token_keys=({"kty": "OKP", "kid": kid},))
    lost = link(connected=False, report=None, error=error)
    there = well(pods=(adopted(),), links={"spare-one": lost}, options=options)
    decision = decide(there, NOW)
    assert bool([obj for obj in decision.new_pod if obj["kind"] == "Pod"]) is successor
    assert decision.delete == ()


def keeping(own: Obj, secret: bool, switched_on: bool, **changes: Any) -> CameraFacts:
    """An agent that serves; whether its camera has credentials, and its namespace is switched on for spares."""
    there = camera(SECRET) if secret else camera()
    options = ON if switched_on else OPTIONS
    plan = plan_of(facts(camera=there, options=options))
    annotations = {**own["metadata"]["annotations"], names.HASH_ANNOTATION: build.pod_hash(plan)}
    current = {**own, "metadata": {**own["metadata"], "annotations": annotations}}
    said = link(*changes.pop("sessions", ()), report=report(revision=build.agent_config(plan).revision))
    links = {pods.name_of(own): said, **changes.pop("links", {})}
    more = changes.pop("pods", ())
    return well(camera=there, options=options, pods=(current, *more), links=links, **changes)


@pytest.mark.parametrize(
    ("own", "secret", "switched_on", "successor"),
    [
        (adopted(), True, True, False),
        (adopted(), False, False, False),
        (adopted(), True, False, True),
        (pod(), True, False, False),
    ],
)
def test_who_could_not_be_told_credentials_any_more_gets_a_successor_that_mounts_them(
    own: Obj, secret: bool, switched_on: bool, successor: bool
) -> None:
    decision = decide(keeping(own, secret, switched_on), NOW)
    made = [obj for obj in decision.new_pod if obj["kind"] == "Pod"]
    assert bool(made) is successor
    assert (decision.takeover, decision.delete) == (None, ())
    for one in made:
        assert "credentials" in [volume["name"] for volume in one["spec"]["volumes"]]


@pytest.mark.parametrize(("told", "pushed"), [("older", False), ("", True)])
def test_who_has_credentials_that_nobody_may_read_any_more_keeps_them(told: str, pushed: bool) -> None:
    """A process that was started again has none: it is told its camera, and says what it lacks."""
    given = keeping(adopted(), True, False)
    said = report().model_copy(update={"revision": told})
    decision = decide(replace(given, links={"spare-one": link(report=said)}), NOW)
    assert [push.pod for push in decision.push] == (["spare-one"] if pushed else [])


@pytest.mark.parametrize(("age", "kept", "ended_sessions"), [(20.0, True, 0), (61.0, True, 1), (71.0, False, 0)])
def test_viewers_of_an_agent_without_a_source_of_credentials_have_their_time(
    age: float, kept: bool, ended_sessions: int
) -> None:
    plan = plan_of(facts(camera=camera(SECRET)))
    made = build.agent_pod(plan, "new")
    following: Obj = {
        **made,
        "metadata": {**made["metadata"], "uid": "p-new", "creationTimestamp": text(ago(age))},
        "spec": {**made["spec"], "nodeName": "node-1"},
        "status": running(age, "10.0.0.2"),
    }
    watched = (session_report(SessionPhase.STREAMING, age=90),)
    new = {"camera-gate-new": link(report=report(revision=build.agent_config(plan).revision))}
    decision = decide(keeping(adopted(), True, False, sessions=watched, pods=(following,), links=new), NOW)
    assert [gone.name for gone in decision.delete] == ([] if kept else ["spare-one"])
    assert len(decision.hang_up) == ended_sessions
    assert decision.new_pod == ()
