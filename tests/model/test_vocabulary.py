"""The small tables: durations, names, conditions, reasons, problems, messages."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sightline_model import names, problems
from sightline_model.agent import AgentConfig, AgentEvent, CameraIdentity, SourceReport
from sightline_model.base import MAX_CAMERA_NAME
from sightline_model.conditions import Condition, Finding, find, merge
from sightline_model.durations import seconds
from sightline_model.reasons import ConditionStatus, ConditionType, EndReason, SourceReason

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", 0),
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h1m1s1ms", 3661.001),
        ("99999h", 359996400),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "30", "s", "1d", "-1s", "1.5s", "1 s", "30S", "123456h", "٣s", "30s\n"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 30s"):
        seconds(text)


LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
camera_names = st.from_regex(LABEL, fullmatch=True).filter(lambda name: len(name) <= MAX_CAMERA_NAME)


@given(camera_names)
def test_names_of_children_are_labels(camera: str) -> None:
    made = [names.agent_service(camera), names.agent_secret(camera), names.agent_pod(camera, "a1z")]
    for name in made:
        assert LABEL.fullmatch(name)
        assert name[0].isalpha()  # a Service wants a letter first
        assert len(name) <= 63


def test_the_longest_name_leaves_room_for_its_children() -> None:
    longest = "a" * MAX_CAMERA_NAME
    assert len(names.agent_pod(longest, "abc")) == 63


def test_pods_of_different_cameras_never_share_a_name() -> None:
    # A camera may be called like another one with a pod's suffix; Services and pods are different kinds, pods are not.
    assert names.agent_pod("a", "b-c") != names.agent_pod("a-b", "c1d")


def test_session_ids_are_labels_that_nobody_guesses() -> None:
    ids = {names.new_session_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"s-[a-z0-9]{24}", session) for session in ids)


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert names.content_hash({"a": 1, "b": [1, 2]}) == names.content_hash({"b": [1, 2], "a": 1})
    assert names.content_hash({"a": 1}) != names.content_hash({"a": 2})
    assert re.fullmatch(r"[0-9a-f]{16}", names.content_hash({}))


def finding(status: ConditionStatus, reason: str = "Ready", message: str = "") -> Finding:
    return Finding(type=ConditionType.READY, status=status, reason=reason, message=message)


class TestMerge:
    later = NOW + timedelta(minutes=1)
    before = merge([], [finding(ConditionStatus.FALSE, "AgentNotReady")], 1, NOW)

    def test_a_new_condition_begins_now(self) -> None:
        (condition,) = self.before
        assert condition.last_transition_time == NOW
        assert condition.observed_generation == 1

    def test_an_unchanged_finding_changes_nothing(self) -> None:
        assert merge(self.before, [finding(ConditionStatus.FALSE, "AgentNotReady")], 1, self.later) == self.before

    def test_another_reason_is_no_transition(self) -> None:
        (condition,) = merge(self.before, [finding(ConditionStatus.FALSE, "SourceNotReady")], 2, self.later)
        assert (condition.reason, condition.observed_generation) == ("SourceNotReady", 2)
        assert condition.last_transition_time == NOW

    def test_another_status_is_one(self) -> None:
        (condition,) = merge(self.before, [finding(ConditionStatus.TRUE)], 1, self.later)
        assert condition.last_transition_time == self.later

    def test_what_the_findings_do_not_name_is_kept(self) -> None:
        live = Finding(type=ConditionType.LIVE, status=ConditionStatus.TRUE, reason="Streaming")
        merged = merge(self.before, [live], 1, self.later)
        assert [condition.type for condition in merged] == ["Live", "Ready"]
        assert find(merged, ConditionType.READY) == self.before[0]
        assert find(merged, ConditionType.ENDED) is None

    def test_long_messages_are_cut_to_what_the_api_server_takes(self) -> None:
        (condition,) = merge([], [finding(ConditionStatus.FALSE, message="x" * 5000)], 1, NOW)
        assert len(condition.message) == 1024


def test_a_condition_of_another_version_is_read() -> None:
    wire = {"type": "Later", "status": "Unknown", "lastTransitionTime": "1970-01-01T00:00:00Z", "novel": 1}
    assert Condition.model_validate(wire).reason == "Pending"


def test_every_problem_code_has_a_title_and_a_status() -> None:
    for code in problems.ProblemCode:
        wire = problems.Problem(code=code).to_wire()
        assert wire["type"] == f"https://sightline.dev/problems/{code}"
        assert 400 <= wire["status"] <= 599
        assert wire["title"][0].isupper()
        assert not wire["title"].endswith(".")


@pytest.mark.parametrize("reason", SourceReason)
def test_every_source_reason_has_a_problem(reason: SourceReason) -> None:
    problem = problems.source_problem(reason, "words", 5)
    assert problem.to_wire()["reason"] == reason
    assert problem.status == 409
    named = problem.code is not problems.ProblemCode.SOURCE_NOT_READY
    assert named == (reason.failed and reason is not SourceReason.DEVICE_OFFLINE)


def test_reasons_are_one_camel_case_word() -> None:
    for reason in [*SourceReason, *EndReason]:
        assert re.fullmatch(r"[A-Z][A-Za-z]*", reason)


def test_a_config_survives_the_wire_and_holds_the_audience() -> None:
    config = AgentConfig.model_validate(
        {"camera": {"namespace": "default", "name": "door", "uid": "0d3c"}, "source": {"testPattern": {}}, "novel": 1}
    )
    assert AgentConfig.model_validate(config.to_wire()) == config
    assert config.camera.audience == "default/door/0d3c"
    assert CameraIdentity(namespace="a", name="b", uid="c").audience == "a/b/c"


def test_events_are_told_apart_by_their_type() -> None:
    adapter: TypeAdapter[AgentEvent] = TypeAdapter(AgentEvent)
    event = adapter.validate_python({"type": "source", "source": {"reason": "Streaming", "novel": 1}})
    assert event.to_wire()["source"]["reason"] == SourceReport(reason=SourceReason.STREAMING).reason
