"""Leader election on virtual time: one leads, the next one follows soon, and never two write."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_kube.cluster import Obj
from sightline_kube.errors import NotFoundError, UnavailableError
from sightline_kube.kinds import LEASE, SECRET, Kind
from sightline_kube.memory import MemoryCluster
from sightline_model.reasons import EndReason
from sightline_operator import build
from sightline_operator.agents import AgentTarget
from sightline_operator.errors import AgentCallError, LeaseLostError
from sightline_operator.leader import Elector, Fenced
from sightline_operator.lease import Move, Sight, Times, given_back, held_by, holder, seen, step
from sightline_operator.orders import FencedLinks
from tests.operator.samples import NOW, facts, plan_of
from tests.operator.virtualtime import now, run, until
from tests.operator.world import FakeAgent, FakeLinks

PLACE = ("default", "sightline-operator")
TIMES = Times()


def lease(identity: str, version: str = "1", duration: int | None = 15) -> Obj:
    made = held_by(PLACE, None, identity, TIMES, NOW)
    made["metadata"] |= {"uid": "l-1", "resourceVersion": version}
    made["spec"]["leaseDurationSeconds"] = duration
    return made


class TestStep:
    def test_an_absent_lease_is_created(self) -> None:
        assert step(seen(None, None, 100.0, 15), "a", 100.0) is Move.CREATE

    def test_a_held_lease_is_waited_for(self) -> None:
        sight = seen(None, lease("b"), 100.0, 15)
        assert step(sight, "a", 114.9) is Move.WAIT
        assert step(sight, "a", 115.0) is Move.TAKE

    def test_a_renewal_begins_the_wait_anew(self) -> None:
        sight = seen(seen(None, lease("b", "1"), 100.0, 15), lease("b", "2"), 114.0, 15)
        assert step(sight, "a", 120.0) is Move.WAIT
        assert seen(sight, lease("b", "2"), 128.0, 15) is sight

    def test_the_holder_s_own_promise_counts(self) -> None:
        assert step(seen(None, lease("b", duration=60), 0.0, 15), "a", 59.0) is Move.WAIT
        for nonsense in (None, 0, -3):
            assert step(seen(None, lease("b", duration=nonsense), 0.0, 15), "a", 14.0) is Move.WAIT

    def test_a_lease_that_was_given_back_is_taken_at_once(self) -> None:
        assert step(seen(None, given_back(lease("b")), 100.0, 15), "a", 100.0) is Move.TAKE

    def test_the_answer_to_an_earlier_attempt_was_lost(self) -> None:
        assert step(seen(None, lease("a"), 100.0, 15), "a", 100.0) is Move.TAKE

    def test_a_deleted_lease_may_still_be_believed_in(self) -> None:
        sight = seen(seen(None, lease("b"), 100.0, 15), None, 101.0, 15)
        assert step(sight, "a", 114.0) is Move.WAIT
        assert step(sight, "a", 115.0) is Move.CREATE

    def test_transitions_are_counted(self) -> None:
        first = held_by(PLACE, None, "a", TIMES, NOW)
        assert first["spec"]["leaseTransitions"] == 0
        assert held_by(PLACE, first, "a", TIMES, NOW)["spec"]["leaseTransitions"] == 0
        second = held_by(PLACE, first, "b", TIMES, NOW)
        assert second["spec"]["leaseTransitions"] == 1
        assert second["spec"]["renewTime"] == "2026-11-21T12:00:00.000000Z"


class Wire:
    """The way to the API server of one operator, which can be cut, be slow, or lose what comes back."""

    def __init__(self, cluster: MemoryCluster, seed: int = 0) -> None:
        self._cluster = cluster
        self._dice = random.Random(seed)
        self.cut = False
        self.trouble = 0.0

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._cluster, verb)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._pass()
            answer = await method(*args, **kwargs)
            await self._pass()
            return answer

        return call

    async def _pass(self) -> None:
        if self.cut:
            await asyncio.Event().wait()
        await asyncio.sleep(self._dice.random() * 0.02)
        throw = self._dice.random()
        if throw < self.trouble / 2:
            raise UnavailableError("later")
        if throw < self.trouble:
            await asyncio.sleep(self._dice.random() * 20)


@dataclass
class Contender:
    """One operator process: it contends, and writes as long as it believes that it may."""

    name: str
    wire: Wire
    elector: Elector
    clock: "Clock"
    task: asyncio.Task[None] | None = None
    wrote: list[float] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.task is None or self.task.done()

    async def kill(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


class Clock:
    """A steady clock of one machine, which may have been started at any time and be a little fast or slow."""

    def __init__(self, offset: float = 0.0, rate: float = 1.0) -> None:
        self.offset = offset
        self.rate = rate

    def __call__(self) -> float:
        return self.offset + asyncio.get_running_loop().time() * self.rate


def contender(cluster: MemoryCluster, name: str, seed: int = 0) -> Contender:
    wire = Wire(cluster, seed)
    clock = Clock(seed * 1000.0, 1.0 + (seed % 5 - 2) * 0.005)
    wall: Any = now
    elector = Elector(wire, PLACE, name, TIMES, clock=clock, wall_clock=wall, rng=random.Random(seed).random)
    made = Contender(name, wire, elector, clock)
    made.task = asyncio.create_task(elector.run())
    return made


@asynccontextmanager
async def several(*names: str) -> AsyncIterator[tuple[MemoryCluster, list[Contender]]]:
    cluster = MemoryCluster(clock=now)
    made = [contender(cluster, name, seed) for seed, name in enumerate(names)]
    try:
        yield cluster, made
    finally:
        for each in made:
            await each.kill()


async def the_holder(cluster: MemoryCluster) -> str:
    return holder(await cluster.get(LEASE, *PLACE))


def leaders(contenders: list[Contender]) -> list[Contender]:
    return [each for each in contenders if each.elector.leading]


async def elected(contenders: list[Contender]) -> list[Contender]:
    """All of them, once one leads: that one first."""
    await until(lambda: bool(leaders(contenders)), 2)
    (first,) = leaders(contenders)
    return [first, *(each for each in contenders if each is not first)]


def test_one_leads_and_goes_on_leading() -> None:
    async def main() -> None:
        async with several("a", "b", "c") as (cluster, contenders):
            first, *_ = await elected(contenders)
            for _ in range(3000):
                await asyncio.sleep(0.1)
                assert leaders(contenders) == [first]
            assert await the_holder(cluster) == first.name
            assert first.elector.acquired.is_set()

    run(main)


def test_a_dead_leader_is_followed_after_the_lease_has_run_out() -> None:
    async def main() -> None:
        async with several("a", "b") as (_, contenders):
            first, other = await elected(contenders)
            await asyncio.sleep(30)
            await first.kill()
            began = asyncio.get_running_loop().time()
            await until(lambda: other.elector.leading, 30)
            waited = asyncio.get_running_loop().time() - began
            assert 12.5 < waited < 16

    run(main)


def test_a_lease_that_is_given_back_is_taken_within_a_second() -> None:
    async def main() -> None:
        async with several("a", "b") as (cluster, contenders):
            first, other = await elected(contenders)
            await asyncio.sleep(30)
            await first.kill()
            await first.elector.release()
            assert not first.elector.leading
            await until(lambda: other.elector.leading, 1)
            assert (await cluster.get(LEASE, *PLACE))["spec"]["leaseTransitions"] == 1

    run(main)


def test_a_renewal_that_was_cut_off_does_not_hinder_the_giving_back() -> None:
    async def main() -> None:
        async with several("a") as (cluster, (only,)):
            await elected([only])
            await only.kill()
            await cluster.merge_patch(LEASE, *PLACE, {"spec": {"renewTime": "2026-11-21T12:00:09.000000Z"}})
            await only.elector.release()
            assert await the_holder(cluster) == ""

    run(main)


def test_one_that_never_led_gives_nothing_back() -> None:
    async def main() -> None:
        async with several("a") as (cluster, (first,)):
            await elected([first])
            other = contender(cluster, "b", 1)
            await asyncio.sleep(5)
            await other.kill()
            await other.elector.release()
            assert await the_holder(cluster) == "a"

    run(main)


def test_a_leader_that_is_cut_off_ends_before_another_one_begins() -> None:
    async def main() -> None:
        async with several("a", "b") as (_, contenders):
            first, other = await elected(contenders)
            await asyncio.sleep(30)
            first.wire.cut = True
            began = asyncio.get_running_loop().time()
            await until(lambda: first.ended, 12)
            assert first.task
            assert isinstance(first.task.exception(), LeaseLostError)
            assert not first.elector.leading
            assert not other.elector.leading
            await until(lambda: other.elector.leading, 10)
            assert asyncio.get_running_loop().time() - began < 16

    run(main)


@pytest.mark.parametrize("to", ["somebody-else", "", None])
def test_a_lease_that_was_taken_away_ends_its_leader(to: str | None) -> None:
    async def main() -> None:
        async with several("a") as (cluster, (only,)):
            await elected([only])
            if to is None:
                await cluster.delete(LEASE, *PLACE)
            else:
                await cluster.merge_patch(LEASE, *PLACE, {"spec": {"holderIdentity": to}})
            await until(lambda: only.ended, 4)
            assert only.task
            assert isinstance(only.task.exception(), LeaseLostError)

    run(main)


def test_somebody_who_edits_the_lease_does_no_harm() -> None:
    async def main() -> None:
        async with several("a") as (cluster, (only,)):
            await elected([only])
            for number in range(50):
                await cluster.merge_patch(LEASE, *PLACE, {"metadata": {"labels": {"n": str(number)}}})
                await asyncio.sleep(0.7)
            assert only.elector.leading
            assert (await cluster.get(LEASE, *PLACE))["metadata"]["labels"] == {"n": "49"}

    run(main)


def test_a_leader_whose_machine_slept_writes_nothing_when_it_wakes() -> None:
    async def main() -> None:
        async with several("a") as (_, (only,)):
            await elected([only])
            only.clock.offset += 10.0
            assert not only.elector.leading
            await until(lambda: only.ended, 4)

    run(main)


def test_wall_clocks_decide_nothing() -> None:
    async def main() -> None:
        async with several("a") as (cluster, (first,)):
            await elected([first])
            for moment in ("1990-01-01T00:00:00.000000Z", "2090-01-01T00:00:00.000000Z"):
                other = contender(cluster, f"b-{moment[:4]}", 3)
                await cluster.merge_patch(LEASE, *PLACE, {"spec": {"renewTime": moment}})
                await asyncio.sleep(10)
                assert leaders([first, other]) == [first]
                await other.kill()

    run(main)


def test_the_fence() -> None:
    class Fence:
        left = 5.0

        def seconds_left(self) -> float:
            return self.left

    async def main() -> None:
        cluster = MemoryCluster(clock=now)
        fence = Fence()
        fenced = Fenced(cluster, fence, 5.0)
        secret: Obj = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one", "namespace": "default"}}
        made = await fenced.create(secret)
        await fenced.apply(secret, field_manager="us")
        await fenced.merge_patch(SECRET, "default", "one", {"data": {"a": "eA=="}})
        fence.left = 0.0
        writes: list[Callable[[], Awaitable[object]]] = [
            lambda: fenced.create(secret),
            lambda: fenced.apply(secret, field_manager="us"),
            lambda: fenced.replace(made),
            lambda: fenced.replace_status(made),
            lambda: fenced.merge_patch(SECRET, "default", "one", {}),
            lambda: fenced.delete(SECRET, "default", "one"),
        ]
        for write in writes:
            with pytest.raises(UnavailableError, match="does not hold the lease"):
                await write()
        assert (await fenced.get(SECRET, "default", "one"))["data"] == {"a": "eA=="}
        assert len((await fenced.list(SECRET)).items) == 1
        fence.left = 5.0
        await fenced.delete(SECRET, "default", "one")

    run(main)


def test_a_write_under_way_is_cut_off_when_the_lease_runs_out() -> None:
    class Slow(MemoryCluster):
        async def apply(self, obj: Obj, *, field_manager: str) -> Obj:
            await asyncio.sleep(20)
            return await super().apply(obj, field_manager=field_manager)

    class Fence:
        def seconds_left(self) -> float:
            return 4.0

    async def main() -> None:
        cluster = Slow(clock=now)
        secret: Obj = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one", "namespace": "default"}}
        began = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError, match="given up"):
            await Fenced(cluster, Fence(), 5.0).apply(secret, field_manager="us")
        assert asyncio.get_running_loop().time() - began == pytest.approx(9.0)
        await asyncio.sleep(30)
        assert (await cluster.list(SECRET)).items == []

    run(main)


def test_who_does_not_lead_listens_to_agents_and_gives_no_orders() -> None:
    class Fence:
        left = 4.0

        def seconds_left(self) -> float:
            return self.left

    class Slow(FakeLinks):
        async def end_session(self, namespace: str, pod: str, session: str, reason: EndReason) -> None:
            await asyncio.sleep(20)

    async def main() -> None:
        fence, agent_config = Fence(), build.agent_config(plan_of(facts()))
        target = AgentTarget("site", "camera-gate-one", "p-1", agent_config.camera, "10.0.0.1")
        agents, agent = Slow(), FakeAgent("camera-gate-one", agent_config, "i-1")
        links = FencedLinks(agents, fence, 5.0)
        links.follow(target)
        agents.started("10.0.0.1", agent)
        await links.put_config("site", "camera-gate-one", agent_config)
        assert agent.configs == [agent_config.revision]
        began = asyncio.get_running_loop().time()
        with pytest.raises(AgentCallError, match="given up"):
            await links.end_session("site", "camera-gate-one", "s-1", EndReason.MOVED)
        assert asyncio.get_running_loop().time() - began == pytest.approx(9.0)
        fence.left = 0.0
        for order in (
            links.put_config("site", "camera-gate-one", agent_config),
            links.end_session("site", "camera-gate-one", "s-1", EndReason.MOVED),
        ):
            with pytest.raises(AgentCallError, match="does not hold the lease"):
                await order
        assert agent.configs == [agent_config.revision]
        assert links.state("site", "camera-gate-one").connected
        assert links.connected() == (1, 1)
        links.drop("site", "camera-gate-one")
        assert links.connected() == (0, 0)

    run(main)


EVENTS = ("kill", "release", "cut", "mend", "trouble", "quiet", "edit", "sleep", "start")


@pytest.mark.thorough
@settings(max_examples=60)
@given(
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 2), st.floats(0, 25)), min_size=1, max_size=12),
    seed=st.integers(0, 2**16),
)
def test_never_two_write(events: list[tuple[str, int, float]], seed: int) -> None:
    """Whatever happens, two operators never believe at the same time that they may write; in peace one leads."""

    async def main() -> None:
        cluster = MemoryCluster(clock=now)
        dice = random.Random(seed)
        contenders = [contender(cluster, f"c-{number}", number) for number in range(3)]
        born = 3

        async def watch() -> None:
            while True:
                assert len(leaders(contenders)) <= 1, [each.name for each in leaders(contenders)]
                await asyncio.sleep(0.05)

        observer = asyncio.create_task(watch())
        try:
            for event, which, pause in events:
                one = contenders[which]
                if event == "kill":
                    await one.kill()
                elif event == "release":
                    await one.kill()
                    await one.elector.release()
                elif event in ("cut", "mend"):
                    one.wire.cut = event == "cut"
                elif event in ("trouble", "quiet"):
                    one.wire.trouble = dice.random() * 0.6 if event == "trouble" else 0.0
                elif event == "edit":
                    with suppress(NotFoundError):
                        await cluster.merge_patch(LEASE, *PLACE, {"metadata": {"labels": {"a": str(pause)}}})
                elif event == "sleep":
                    one.clock.offset += pause if one.elector.leading else 0.0
                elif event == "start" and one.ended:
                    contenders[which] = contender(cluster, f"c-{born}", born)
                    born += 1
                await asyncio.sleep(pause)
            # Peace: whoever has ended is started again, as Kubernetes would.
            for which, one in enumerate(contenders):
                one.wire.cut, one.wire.trouble = False, 0.0
                if one.ended:
                    contenders[which] = contender(cluster, f"c-{born}", born)
                    born += 1
            await asyncio.sleep(60)
            assert len(leaders([each for each in contenders if not each.ended])) == 1
            assert not observer.done(), observer.exception()
        finally:
            observer.cancel()
            for one in contenders:
                await one.kill()
            await asyncio.gather(observer, return_exceptions=True)

    run(main)


def test_kinds_know_where_leases_are() -> None:
    kind: Kind = LEASE
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/sightline-operator"
    assert kind.path(*PLACE) == path
    assert Sight(None, 0.0).lease is None
