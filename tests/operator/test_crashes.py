"""Agents whose container ends again and again: who waits for whom, and for how long."""

import asyncio
from functools import partial
from typing import Any

import pytest

from sightline_model import names
from sightline_operator import build, pods
from sightline_operator.decide import Decision, decide
from sightline_operator.facts import CameraFacts
from tests.operator.looks import another
from tests.operator.samples import NOW, ago, pod, text, waiting, well
from tests.operator.virtualtime import now, run, until
from tests.operator.world import waiting_status, world


def crashed(ran: float, ended: float, exit_code: int = 137) -> dict[str, Any]:
    """A container that ran for `ran` seconds, ended `ended` seconds ago, and is made to wait by the kubelet."""
    last = {
        "exitCode": exit_code,
        "reason": "Error",
        "startedAt": text(ago(ended + ran)),
        "finishedAt": text(ago(ended)),
    }
    return waiting("CrashLoopBackOff", lastState={"terminated": last}) | {"phase": "Running"}


def with_crash(ran: float, ended: float, attempt: int = 0, age: float = 60.0) -> CameraFacts:
    annotations = {names.HASH_ANNOTATION: pods.desired_hash(pod()), build.ATTEMPT_ANNOTATION: str(attempt)}
    return well(pods=(pod(status=crashed(ran, ended), age=age, annotations=annotations),), links={})


def attempt_of(decision: Decision) -> str:
    return str(decision.new_pod[-1]["metadata"]["annotations"][build.ATTEMPT_ANNOTATION])


@pytest.mark.parametrize(
    ("ran", "attempt", "replaced"),
    [
        (0, 0, False),
        (2, 0, False),
        (3, 0, True),
        (4, 1, False),
        (5, 1, True),
        (9, 9, False),
        (10, 9, True),
        (4000, 9, True),
    ],
)
def test_only_what_had_served_well_is_replaced(ran: float, attempt: int, replaced: bool) -> None:
    decision = decide(with_crash(ran, 10, attempt), NOW)
    assert [obj["kind"] for obj in decision.new_pod] == (["Secret", "Pod"] if replaced else [])
    assert [item.name for item in decision.delete] == (["camera-gate-one"] if replaced else [])


def test_replacements_in_a_row_wait_longer_and_never_long() -> None:
    waits = []
    for attempt in range(12):
        wait = decide(with_crash(20, 0, attempt), NOW).requeue_after
        waits.append(wait or 0.0)
    assert waits[0] == 0.0
    assert waits == sorted(waits)
    assert 4.0 <= waits[-1] <= 8.0
    assert attempt_of(decide(with_crash(20, 9, 11), NOW)) == "12"


def test_pods_wait_differently_and_the_same_in_every_pass() -> None:
    def wait(uid: str) -> float | None:
        given = with_crash(20, 0, 5)
        (one,) = given.pods
        one["metadata"]["uid"] = uid
        return decide(given, NOW).requeue_after

    assert len({wait(f"uid-{number}") for number in range(20)}) == 20
    assert wait("uid-1") == wait("uid-1")


def test_a_long_life_is_no_failure_in_a_row() -> None:
    decision = decide(with_crash(700, 0, 9, age=701), NOW)
    assert attempt_of(decision) == "1"


def test_a_deleted_pod_is_not_replaced_for_its_crash() -> None:
    given = with_crash(20, 1)
    (one,) = given.pods
    one["metadata"]["deletionTimestamp"] = text(NOW)
    decision = decide(given, NOW)
    assert decision.delete == ()
    assert build.ATTEMPT_ANNOTATION not in decision.new_pod[-1]["metadata"]["annotations"]


def test_a_watched_camera_that_is_killed_repeatedly_is_back_fast_each_time() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            loop = asyncio.get_running_loop()
            waits = []
            for _ in range(5):
                await asyncio.sleep(20)
                (one,) = await here.pods()
                here.links.died(one["status"]["podIP"])
                status = waiting_status(one["status"]["podIP"], "CrashLoopBackOff")
                started = one["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
                end = {"exitCode": 137, "reason": "Error", "startedAt": started, "finishedAt": text(now())}
                status["containerStatuses"][0]["lastState"] = {"terminated": end}
                await here.kubelet.write(one, status)
                began = loop.time()
                await until(partial(another, here, one), 60)
                await here.ready()
                waits.append(loop.time() - began)
            assert waits[0] < 2
            assert max(waits) < 8

    run(main)
