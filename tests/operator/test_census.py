"""How many cameras and sessions are in which state: counted as they change, it is what a count of all would say."""

from collections import Counter as Tally

from hypothesis import given
from hypothesis import strategies as st

from sightline_kube.cache import Cache
from sightline_kube.cluster import EventType, Obj
from sightline_kube.kinds import CAMERA, STREAM_SESSION
from sightline_operator.census import Census
from sightline_operator.core import KINDS
from tests.operator.samples import camera, session

PHASES = st.sampled_from(["Idle", "Streaming", "Degraded", ""])
NAMES = st.sampled_from(["gate", "yard", "lane"])
CHANGES = st.lists(st.tuples(st.sampled_from([CAMERA, STREAM_SESSION]), NAMES, PHASES, st.booleans()), max_size=30)


def cameras_by_phase(cache: Cache) -> Tally[str]:
    return Tally(obj["status"].get("phase", "Pending") for obj in cache.list(CAMERA))


def by_condition(cache: Cache, type_: str, field: str, otherwise: str) -> Tally[str]:
    said = (
        [item for item in obj["status"].get("conditions", []) if item["type"] == type_] for obj in cache.list(CAMERA)
    )
    return Tally(items[0][field] if items else otherwise for items in said)


def changed(name: str, phase: str, version: int, obj: Obj) -> Obj:
    conditions = [{"type": type_, "status": phase, "reason": type_ + phase} for type_ in ("Ready", "AgentReady")]
    status = {"phase": phase, "conditions": conditions} if phase else {}
    return {**obj, "metadata": {**obj["metadata"], "name": name, "resourceVersion": str(version)}, "status": status}


@given(CHANGES)
def test_it_is_what_a_count_of_all_would_say(changes: list[tuple[object, str, str, bool]]) -> None:
    cache, census = Cache(KINDS), Census()
    cache.subscribe(census.changed)
    for version, (kind, name, phase, gone) in enumerate(changes, 1):
        type_ = EventType.DELETED if gone else EventType.MODIFIED
        if kind == CAMERA:
            cache.observe(CAMERA, type_, changed(name, phase, version, camera()))
        else:
            cache.observe(STREAM_SESSION, type_, changed(name, phase, version, session()))
    assert +census.phases == cameras_by_phase(cache)
    assert +census.ready == by_condition(cache, "Ready", "status", "Unknown")
    assert +census.agents == by_condition(cache, "AgentReady", "reason", "Pending")
    assert +census.sources == by_condition(cache, "SourceReady", "reason", "Pending")
    sessions = (obj["status"].get("phase", "Requested") for obj in cache.list(STREAM_SESSION))
    assert +census.sessions == Tally(sessions)
