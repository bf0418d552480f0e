"""The decision about one camera, case by case."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_model.agent import SourceReport
from sightline_model.camera import CameraStatus, Phase
from sightline_model.conditions import Condition
from sightline_model.reasons import ConditionStatus, SourceReason
from sightline_operator import build, pods, verdicts
from sightline_operator.decide import Decision, decide
from sightline_operator.drift import covers
from sightline_operator.facts import CameraFacts, ConfigWrite, LinkState
from tests.operator.samples import (
    NOW,
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
    text,
    waiting,
    well,
)

UNSUPPORTED = {"source": {"external": {"webrtcUrl": "https://robot.example/offer"}}}
CREDENTIALS = {"source": {"rtsp": {"url": "rtsp://camera.example/one", "credentialsRef": {"name": "login"}}}}


def verdict(decision: Decision, type_: str) -> tuple[str, str]:
    found = condition(decision, type_)
    return found.status.value, found.reason


def condition(decision: Decision, type_: str) -> Condition:
    assert decision.status
    return next(item for item in decision.status.conditions if item.type == type_)


def kinds(decision: Decision) -> list[str]:
    return [obj["kind"] for obj in (*decision.apply, *decision.new_pod)]


def test_a_new_camera_gets_its_three_children() -> None:
    decision = decide(facts(), NOW)
    assert kinds(decision) == ["Secret", "Service", "Pod"]
    assert decision.new_pod[0]["metadata"]["name"] == "camera-gate-new"
    assert verdict(decision, "AgentReady") == ("False", "Starting")
    assert decision.status
    assert decision.status.phase is Phase.STARTING


def test_a_camera_that_is_well_is_left_alone() -> None:
    decision = decide(well(), NOW)
    assert (kinds(decision), decision.delete, decision.push) == ([], (), ())
    assert decision.requeue_after is None
    assert [verdict(decision, type_)[0] for type_ in ("Accepted", "AgentReady", "NetworkReady")] == ["True"] * 3
    assert verdict(decision, "Ready") == ("True", "Ready")
    status = decision.status
    assert status
    assert status.agent
    assert (status.agent.pod, status.agent.address, status.agent.port) == ("camera-gate-one", "10.0.0.1", 8080)
    assert decide(well(camera=camera(status=status.to_wire())), ago(-5)).status == status


def test_an_absent_camera_is_nothing_to_do() -> None:
    assert decide(facts(camera=None, pods=(pod(),)), NOW) == Decision()


def test_a_camera_on_its_way_out_is_only_told() -> None:
    given = well(camera=camera(deletionTimestamp=text(NOW)))
    decision = decide(given, NOW)
    assert (kinds(decision), decision.delete) == ([], ())
    assert verdict(decision, "Ready") == ("False", "Deleting")


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"camera": camera({"source": {"rtsp": {"url": "nonsense"}}})}, "Invalid", "spec.source.rtsp: write"),
        ({"camera": camera({**UNSUPPORTED})}, "NotSupportedYet", "spec.source.external"),
        ({"camera_class": None, "class_name": "gone"}, "ClassNotFound", "no CameraClass gone"),
        ({"camera_class": None, "class_name": ""}, "ClassNotFound", "is-default-class"),
        ({"camera_class": camera_class({"podTemplate": {}})}, "ClassNotAccepted", "spec.podTemplate"),
        ({"camera_class": camera_class({"colour": "red"})}, "ClassNotAccepted", "spec.colour"),
    ],
)
def test_what_is_not_accepted_makes_nothing(changes: dict[str, Any], reason: str, words: str) -> None:
    decision = decide(facts(**changes), NOW)
    assert kinds(decision) == []
    assert verdict(decision, "Accepted") == ("False", reason)
    assert words in condition(decision, "Accepted").message
    assert verdict(decision, "AgentReady") == ("False", "NotWanted")
    assert verdict(decision, "Ready") == ("False", "NotAccepted")
    assert decision.status
    assert decision.status.phase is Phase.REFUSED


def test_a_refused_edit_leaves_what_runs_alone() -> None:
    decision = decide(well(camera=camera({**UNSUPPORTED})), NOW)
    assert (kinds(decision), decision.delete) == ([], ())
    assert verdict(decision, "AgentReady") == ("True", "Ready")
    assert verdict(decision, "Ready") == ("False", "NotAccepted")


def test_a_password_in_a_refused_url_is_not_told() -> None:
    decision = decide(facts(camera=camera({"source": {"rtsp": {"url": "rtsp://u:hunter2@camera/"}}})), NOW)
    assert verdict(decision, "Accepted") == ("False", "Invalid")
    assert decision.status
    assert "hunter2" not in str(decision.status.to_wire())


@pytest.mark.parametrize(
    ("status", "link_state", "expected", "words"),
    [
        (running(60), link(), ("True", "Ready"), "answers"),
        ({"phase": "Pending"}, LinkState(), ("False", "Starting"), "starting"),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes."}
                ],
            },
            LinkState(),
            ("False", "Unschedulable"),
            "0/3 nodes.",
        ),
        (waiting("ImagePullBackOff"), LinkState(), ("False", "ImagePullFailed"), "agent:1"),
        (waiting("ErrImageNeverPull"), LinkState(), ("False", "ImagePullFailed"), "pullSecrets"),
        (
            waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 3, "reason": "Error"}}),
            link(connected=False, report=None),
            ("False", "CrashLoop"),
            "exit code 3",
        ),
        (waiting("CreateContainerConfigError", "no key"), LinkState(), ("False", "Starting"), "no key"),
        (running(5), LinkState(), ("False", "Starting"), "starting"),
        (
            running(60),
            link(connected=False, report=None, error="cannot connect: refused"),
            ("False", "Unreachable"),
            "cannot connect: refused",
        ),
        (running(60), link(connected=False, changed_at=ago(2)), ("True", "Ready"), "answers"),
        (running(60), link(connected=False, changed_at=ago(6)), ("False", "Unreachable"), "no connection"),
        (running(60), link(report=report(uid="other")), ("False", "Unreachable"), "does not answer"),
    ],
)
def test_agent_ready(status: dict[str, Any], link_state: LinkState, expected: tuple[str, str], words: str) -> None:
    decision = decide(well(pods=(pod(status=status),), links={"camera-gate-one": link_state}), NOW)
    assert verdict(decision, "AgentReady") == expected
    assert words in condition(decision, "AgentReady").message
    assert decision.delete == ()
    if expected[0] == "False":
        assert verdict(decision, "Ready") == ("False", "AgentNotReady")


def test_a_failed_pod_says_why_and_is_replaced() -> None:
    failed = {"phase": "Failed", "reason": "Evicted", "message": "disk is full"}
    decision = decide(well(pods=(pod(status=failed),), links={}), NOW)
    assert verdict(decision, "AgentReady") == ("False", "PodFailed")
    assert "Evicted: disk is full" in condition(decision, "AgentReady").message
    assert kinds(decision) == ["Secret", "Pod"]
    assert decision.new_pod[1]["metadata"]["annotations"]["sightline.dev/attempt"] == "1"
    assert [item.uid for item in decision.delete] == ["p-one"]


def test_a_pod_that_failed_again_is_replaced_later() -> None:
    status = {
        "phase": "Failed",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": text(ago(1))}],
    }
    annotations = {names.HASH_ANNOTATION: pods.desired_hash(pod()), build.ATTEMPT_ANNOTATION: "2"}
    given = well(pods=(pod(status=status, annotations=annotations),), links={})
    decision = decide(given, NOW)
    assert kinds(decision) == []
    assert decision.requeue_after is not None
    assert 1.0 <= decision.requeue_after <= 3.0  # 4 s, less up to half, and one is over
    later = decide(given, ago(-3))
    assert later.new_pod[1]["metadata"]["annotations"]["sightline.dev/attempt"] == "3"


@pytest.mark.parametrize(
    ("refusal", "reason", "words"),
    [
        ("Pod camera-gate: exceeded quota: pods, limited: pods=1.", "QuotaExceeded", "limited: pods=1. Raise it"),
        ("Pod camera-gate: exceeded quota: pods, limited: pods=0", "QuotaExceeded", "limited: pods=0. Raise it"),
        ('Pod camera-gate: violates PodSecurity "restricted".', "PodRefused", 'violates PodSecurity "restricted".'),
    ],
)
def test_a_refusal_is_told(refusal: str, reason: str, words: str) -> None:
    decision = decide(facts(refusal=refusal), NOW)
    assert verdict(decision, "AgentReady") == ("False", reason)
    assert words in condition(decision, "AgentReady").message
    assert decision.status
    assert decision.status.phase is Phase.DEGRADED


def test_network_ready_waits_for_an_address() -> None:
    status = running(60) | {"podIP": ""}
    decision = decide(well(pods=(pod(status=status),)), NOW)
    assert verdict(decision, "NetworkReady") == ("False", "AddressPending")
    assert verdict(decision, "Ready") == ("False", "NetworkNotReady")


def test_advertised_addresses_come_first() -> None:
    klass = camera_class({"network": {"advertise": ["192.0.2.9"]}})
    given = well(camera_class=klass)
    decision = decide(replace(given, **children(given)), NOW)
    assert decision.status
    assert decision.status.network
    assert [each.ip for each in decision.status.network.external] == ["192.0.2.9", "10.0.0.1"]


@pytest.mark.parametrize(
    ("reason", "verified", "expected", "ready", "phase"),
    [
        (SourceReason.IDLE, True, ("True", "Idle"), ("True", "Ready"), Phase.IDLE),
        (SourceReason.IDLE, False, ("Unknown", "Idle"), ("Unknown", "SourceNotReady"), Phase.IDLE),
        (SourceReason.CONNECTING, False, ("Unknown", "Connecting"), ("Unknown", "SourceNotReady"), Phase.STARTING),
        (SourceReason.STREAMING, True, ("True", "Streaming"), ("True", "Ready"), Phase.STREAMING),
        *[
            (reason, verified, ("False", reason.value), ("False", "SourceNotReady"), Phase.DEGRADED)
            for reason in SourceReason
            if reason.failed
            for verified in (True, False)
        ],
        (
            SourceReason.WAITING_FOR_PUBLISHER,
            False,
            ("Unknown", "WaitingForPublisher"),
            ("Unknown", "SourceNotReady"),
            Phase.IDLE,
        ),
    ],
)
def test_source_ready(
    reason: SourceReason, verified: bool, expected: tuple[str, str], ready: tuple[str, str], phase: Phase
) -> None:
    said = link(report=report(reason, verified, message="what the agent says"))
    decision = decide(well(links={"camera-gate-one": said}), NOW)
    assert verdict(decision, "SourceReady") == expected
    assert verdict(decision, "Ready") == ready
    if expected[0] == "False":
        said_and_advised = condition(decision, "Ready").message
        assert re.fullmatch(r"What the agent says\. [A-Z].{10,150}\.", said_and_advised)
        assert condition(decision, "SourceReady").message == said_and_advised
    else:
        assert condition(decision, "SourceReady").message == "What the agent says."
    live = reason is SourceReason.STREAMING
    silent = decide(well(links={"camera-gate-one": link(report=report(reason, verified))}), NOW)
    assert silent.status
    assert [one.type for one in silent.status.conditions if one.status != "True" and not one.message] == []
    assert verdict(decision, "Live") == ("True" if live else "False", "Streaming" if live else "NotStreaming")
    assert decision.status
    assert (decision.status.live, decision.status.phase) == (live, phase)
    assert verdict(decision, "OutputsReady") == ("True", "NoOutputs")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("the camera answers too slowly", "The camera answers too slowly."),
        ("connected, but no picture comes.", "Connected, but no picture comes."),
        ("Its sound is left out. ", "Its sound is left out."),
        ("127.0.0.1:9 cannot be reached", "127.0.0.1:9 cannot be reached."),
        ("camera.lan:554 cannot be reached", "camera.lan:554 cannot be reached."),
        ("rtsp://camera.lan is redirected without end", "rtsp://camera.lan is redirected without end."),
        ("élan", "élan."),
        (" . ", ""),
        ("", ""),
    ],
)
def test_what_agents_say_reads_as_other_messages_do(words: str, message: str) -> None:
    assert verdicts.sentence(words) == message


def test_what_agents_say_leaves_room_for_advice() -> None:
    given = well(links={"camera-gate-one": link(report=report(SourceReason.UNREACHABLE, message="x" * 1024))})
    message = condition(decide(given, NOW), "SourceReady").message
    assert message.startswith("X")
    assert message.endswith("from the cluster to it.")


@pytest.mark.parametrize(
    ("before", "expected"),
    [(("True", "Ready"), "True"), (("False", "SourceNotReady"), "False"), (("False", "AgentNotReady"), "Unknown")],
)
def test_a_verified_source_keeps_its_verdict_while_it_connects(before: tuple[str, str], expected: str) -> None:
    said = link(report=report(SourceReason.CONNECTING, verified=True))
    ready = {"type": "Ready", "status": before[0], "reason": before[1], "lastTransitionTime": text(ago(60))}
    given = well(links={"camera-gate-one": said}, camera=camera(status={"conditions": [ready]}))
    assert verdict(decide(given, NOW), "Ready")[0] == expected


def test_a_changed_config_is_pushed_and_the_pod_kept() -> None:
    given = well(camera=camera({"source": {"rtsp": {"url": "rtsp://camera.example/two"}}}))
    decision = decide(given, NOW)
    assert kinds(decision) == ["Secret", "Service"]
    assert decision.apply[1]["metadata"]["uid"] == "sv-1"
    assert [push.pod for push in decision.push] == ["camera-gate-one"]
    assert decision.delete == ()
    assert verdict(decision, "SourceReady") == ("Unknown", "Connecting")


def test_a_push_is_repeated_until_the_agent_reports_it() -> None:
    given = well(camera=camera({"source": {"rtsp": {"url": "rtsp://camera.example/two"}}}))
    wanted = decide(given, NOW).push[0].config.revision
    told = replace(given, links={"camera-gate-one": link(pushed_revision=wanted, pushed_at=ago(2))})
    assert decide(told, NOW).push == ()
    assert decide(told, NOW).requeue_after == pytest.approx(3.0)
    assert len(decide(told, ago(-4)).push) == 1
    heard = replace(given, links={"camera-gate-one": link(report=report(revision=wanted))})
    assert decide(heard, NOW).push == ()


def test_changed_credentials_make_the_new_pod_first() -> None:
    given = well(camera=camera({**CREDENTIALS}))
    decision = decide(given, NOW)
    assert "Pod" in kinds(decision)
    assert decision.delete == ()
    assert verdict(decision, "AgentReady") == ("True", "Ready")
    made = {**decision.new_pod[-1], "status": {"phase": "Pending"}}
    made["metadata"] |= {"uid": "p-new", "creationTimestamp": text(NOW)}
    both = replace(given, pods=(pod(), made))
    assert decide(both, NOW).delete == ()
    assert "Pod" not in kinds(decide(both, NOW))
    answering = {**made, "status": running(1, "10.0.0.2")}
    done = replace(both, pods=(pod(), answering), links={**given.links, "camera-gate-new": link()})
    assert [item.name for item in decide(done, NOW).delete] == ["camera-gate-one"]


def pod_with(spec: dict[str, Any], suffix: str = "one") -> Obj:
    made = build.agent_pod(plan_of(facts(camera=camera(spec))), suffix)
    before = pod(suffix)
    return {**before, "metadata": {**before["metadata"], **made["metadata"]}, "spec": made["spec"]}


@pytest.mark.parametrize("reference", [{}, {"credentialsRef": {"name": "mine"}}], ids=["no Secret", "another Secret"])
def test_an_agent_that_has_other_secrets_is_not_told_where_to_send_them(reference: dict[str, Any]) -> None:
    old = pod_with(CREDENTIALS)
    source = {"source": {"rtsp": {"url": "rtsp://evil.example/one", **reference}}}
    given = well(camera=camera(source), pods=(old,))
    decision = decide(given, NOW)
    assert (decision.push, kinds(decision)[-1]) == ((), "Pod")
    # Its successor, which has them, is; and so is an agent whose Secrets are still the ones.
    fresh = pod_with(source)
    assert [push.pod for push in decide(replace(given, pods=(fresh,)), NOW).push] == ["camera-gate-one"]
    moved = {"source": {"rtsp": {"url": "rtsp://camera.example/two", "credentialsRef": {"name": "login"}}}}
    assert [push.pod for push in decide(replace(given, camera=camera(moved)), NOW).push] == ["camera-gate-one"]


def test_an_outdated_pod_that_does_not_answer_goes_when_the_new_one_is_there() -> None:
    old = pod("old", annotations={names.HASH_ANNOTATION: "other"})
    decision = decide(well(pods=(old, pod()), links={"camera-gate-old": link(connected=False)}), NOW)
    assert [item.name for item in decision.delete] == ["camera-gate-old"]


def test_of_several_pods_the_newest_that_answers_stays() -> None:
    several = (pod("one", age=90), pod("two", age=60), pod("three", age=30))
    links = {"camera-gate-one": link(), "camera-gate-two": link()}
    decision = decide(well(pods=several, links=links), NOW)
    assert sorted(item.name for item in decision.delete) == ["camera-gate-one", "camera-gate-three"]


def test_terminating_pods_count_as_gone() -> None:
    decision = decide(well(pods=(pod(deletionTimestamp=text(NOW)),)), NOW)
    assert kinds(decision) == ["Secret", "Pod"]
    assert decision.delete == ()


def test_a_pause_changes_nothing_but_the_status() -> None:
    decision = decide(facts(camera=camera(annotations={names.PAUSE_ANNOTATION: "true"})), NOW)
    assert (kinds(decision), decision.delete) == ([], ())
    assert verdict(decision, "Accepted") == ("True", "Paused")
    assert names.PAUSE_ANNOTATION in condition(decision, "Accepted").message


def test_children_of_a_former_camera_are_cleared_first() -> None:
    given = well()
    made_again = {**camera(), "metadata": {**camera()["metadata"], "uid": "u-2"}}
    decision = decide(replace(given, camera=made_again), NOW)
    assert kinds(decision) == []
    assert sorted(item.uid for item in decision.delete) == ["p-one", "sv-1"]
    assert decision.requeue_after == 1.0


def test_an_operator_that_has_just_started_lets_the_status_stand() -> None:
    before = decide(well(), NOW).status
    assert before
    new_link = LinkState(followed_at=ago(1), error="")
    given = well(camera=camera(status=before.to_wire()), links={"camera-gate-one": new_link})
    assert decide(given, NOW).status is None
    assert decide(given, NOW).requeue_after == 10.0
    assert verdict(decide(given, ago(-30)), "AgentReady") == ("False", "Unreachable")


def test_a_drifted_service_is_applied_again() -> None:
    given = well()
    assert given.service
    drifted = {**given.service, "spec": {**given.service["spec"], "selector": {}}}
    decision = decide(replace(given, service=drifted), NOW)
    assert kinds(decision) == ["Service"]


def test_a_config_that_was_tried_and_not_noted_is_written_again() -> None:
    other = ConfigWrite("another", ago(1))
    assert kinds(decide(well(config_write=other), NOW)) == ["Secret"]
    wanted = well()
    assert wanted.service
    config = pods.annotation(wanted.service, names.CONFIG_HASH_ANNOTATION)
    assert kinds(decide(well(config_write=ConfigWrite(config, ago(1))), NOW)) == []
    for done, expected in ((True, ["Service"]), (False, ["Secret", "Service"])):
        given = well(service=None, config_write=ConfigWrite(config, ago(1), done))
        assert kinds(decide(given, NOW)) == expected


def test_a_pod_comes_after_its_config() -> None:
    config = pods.annotation(children(facts())["service"], names.CONFIG_HASH_ANNOTATION)
    for write, expected in (
        (None, ["Secret", "Pod"]),
        (ConfigWrite(config, ago(1)), ["Pod"]),
        (ConfigWrite(config, ago(1), done=False), ["Secret", "Pod"]),
        (ConfigWrite(config, ago(11)), ["Secret", "Pod"]),
    ):
        assert kinds(decide(well(pods=(), links={}, config_write=write), NOW)) == expected


def test_a_container_that_does_not_start_gets_its_config_again_later_each_time() -> None:
    stuck = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": text(NOW)}],
        "containerStatuses": [{"name": "agent", "state": {"waiting": {"reason": "ContainerCreating"}}}],
    }
    given = well(pods=(pod(status=stuck, age=0),), links={})
    assert given.service
    noted = pods.annotation(given.service, names.CONFIG_HASH_ANNOTATION)
    assert decide(given, NOW).requeue_after == 10.0
    write: ConfigWrite | None = None
    written = []
    for second in range(1200):
        now = NOW + timedelta(seconds=second)
        if kinds(decide(replace(given, config_write=write), now)) == ["Secret"]:
            write = ConfigWrite(noted, now)
            written.append(second)
    assert written == [10, 20, 40, 80, 160, 320, 620, 920]


@pytest.mark.parametrize(
    "status",
    [
        waiting("ImagePullBackOff"),
        waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 3}}),
        running(60),
        {"phase": "Failed"},
    ],
)
def test_a_config_is_not_written_again_where_it_cannot_be_the_cause(status: dict[str, Any]) -> None:
    assert "Secret" not in [obj["kind"] for obj in decide(well(pods=(pod(status=status),)), NOW).apply]


@pytest.mark.parametrize(
    ("found", "desired", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": [{"x": 1, "y": 2}]}, {"a": [{"x": 1}]}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": None}, {"a": {}}, False),
        ({}, {}, True),
        ({"selector": {"x": "1"}, "y": 2}, {"selector": {"x": "1"}}, True),
        ({"selector": {"x": "1", "y": "2"}}, {"selector": {"x": "1"}}, False),
    ],
)
def test_covers(found: Any, desired: Any, expected: bool) -> None:
    assert covers(found, desired) is expected


def test_numbers_are_rounded() -> None:
    said = report(
        SourceReason.STREAMING,
        video_codec="H264",
        width=1920,
        height=1080,
        fps=29.97,
        bitrate=4_123_456,
        keyframe_interval=1.96,
        last_frame_time=NOW.replace(microsecond=5),
    )
    decision = decide(well(links={"camera-gate-one": link(report=said)}), NOW)
    assert decision.status
    source = decision.status.source
    assert source
    assert (source.fps, source.bitrate, source.keyframe_interval) == (30, 4_100_000, "2s")
    assert source.last_frame_time == NOW


def test_further_qualities_are_shown_and_make_the_camera_live() -> None:
    sd = SourceReport(profile="sd", reason=SourceReason.STREAMING, video_codec="H264", width=640, height=360, fps=25)
    tiny = SourceReport(profile="tiny", reason=SourceReason.NOT_FOUND, last_error="NotFound: no such stream")
    said = report(SourceReason.IDLE).model_copy(update={"profiles": [sd, tiny]})
    status = decide(well(links={"camera-gate-one": link(report=said)}), NOW).status
    assert isinstance(status, CameraStatus)
    assert status.live
    assert [(one.name, one.state, one.width, one.last_error) for one in status.profiles] == [
        ("sd", "Streaming", 640, ""),
        ("tiny", "NotFound", 0, "NotFound: no such stream"),
    ]
    assert status.source is not None
    assert status.source.profile == "main"


def test_lost_agents_have_no_viewers_and_no_numbers() -> None:
    said = link(connected=False, report=report(SourceReason.STREAMING), changed_at=ago(60))
    status = decide(well(links={"camera-gate-one": said}), NOW).status
    assert isinstance(status, CameraStatus)
    assert (status.live, status.viewers, status.source) == (False, 0, None)
    assert status.conditions[-1].status is ConditionStatus.FALSE


def test_no_condition_is_missing_whatever_the_facts() -> None:
    every: list[CameraFacts] = [facts(), well(), facts(camera_class=None), facts(refusal="no")]
    for given in every:
        status = decide(given, NOW).status
        assert status
        assert [item.type for item in status.conditions] == [
            "Accepted",
            "AgentReady",
            "NetworkReady",
            "SourceReady",
            "Live",
            "OutputsReady",
            "Ready",
        ]
        assert {item.observed_generation for item in status.conditions} == {1}
