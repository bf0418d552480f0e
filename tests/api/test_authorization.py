"""Who may do what: a table of grants and RBAC against actions."""

import asyncio
import itertools
from datetime import timedelta

import pytest

from sightline_api.auth.caller import Caller, SessionRight
from sightline_api.authorize import RULES, Action, Authorizer, Target
from sightline_api.metrics import Metrics
from sightline_api.problems import ProblemError
from sightline_kube.cluster import AccessQuery, TokenUser
from sightline_kube.errors import UnavailableError
from sightline_kube.memory import MemoryCluster
from sightline_model.access import Identity
from sightline_model.camera import Access, Grant, Role
from tests.api.world import START, Time, World, camera

A = Action
NONE: set[Action] = set()
MANAGING = {A.READ, A.UPDATE, A.DELETE}

GRANTS: list[tuple[str, Access, set[Action]]] = [
    ("nothing", Access(), NONE),
    ("owner", Access(owner="ann"), {A.VIEW, A.PUBLISH, *MANAGING}),
    ("somebody else's", Access(owner="bob"), NONE),
    ("view", Access(grants=[Grant(subjects=["user:ann"], roles=[Role.VIEW])]), {A.VIEW}),
    ("publish by group", Access(grants=[Grant(subjects=["group:crew"], roles=[Role.PUBLISH])]), {A.PUBLISH}),
    ("manage", Access(grants=[Grant(subjects=["authenticated"], roles=[Role.MANAGE])]), MANAGING),
    ("other group", Access(grants=[Grant(subjects=["group:staff"], roles=[Role.VIEW])]), NONE),
    ("booking over", Access(grants=[Grant(subjects=["guest"], roles=[Role.VIEW], until=START)]), NONE),
    (
        "booking on",
        Access(grants=[Grant(subjects=["guest"], roles=[Role.VIEW], from_=START, until=START + timedelta(hours=1))]),
        {A.VIEW},
    ),
]
RBAC: list[tuple[str, set[tuple[str, str]], set[Action]]] = [
    ("nothing", set(), NONE),
    ("view", {("get", "view")}, {A.VIEW}),
    ("publish", {("create", "publish")}, {A.PUBLISH}),
    ("read", {("get", "")}, {A.READ}),
    ("create", {("create", "")}, {A.CREATE}),
    ("update", {("update", "")}, {A.UPDATE}),
    ("delete", {("delete", "")}, {A.DELETE}),
    ("wrong verb", {("list", "view"), ("get", "publish"), ("watch", "")}, NONE),
]
ANN = Caller(Identity("ann", ("crew",)), "static")


def authorizer(time: Time, allowed: set[tuple[str, str]], asked: list[AccessQuery]) -> Authorizer:
    def rbac(query: AccessQuery) -> bool:
        asked.append(query)
        return (query.verb, query.subresource) in allowed and query.resource == "cameras"

    cluster = MemoryCluster(clock=time.now, access=rbac)
    return Authorizer(cluster, time.now, time.monotonic, Metrics())


@pytest.mark.parametrize(
    ("grant", "rbac"),
    list(itertools.product(GRANTS, RBAC)),
    ids=[f"{g[0]} + rbac {r[0]}" for g, r in itertools.product(GRANTS, RBAC)],
)
async def test_an_action_needs_a_grant_or_rbac(
    grant: tuple[str, Access, set[Action]], rbac: tuple[str, set[tuple[str, str]], set[Action]]
) -> None:
    made = authorizer(Time(), rbac[1], [])
    target = Target("default", "front", grant[1])
    for action in Action:
        verdict = await made.decide(ANN, action, target)
        assert verdict.allowed is (action in grant[2] | rbac[2]), action


def test_every_action_has_its_rule() -> None:
    assert set(RULES) == set(Action)


async def test_kubernetes_is_asked_with_everything_it_knows_the_user_by() -> None:
    asked: list[AccessQuery] = []
    caller = Caller(Identity("sa", ("g",), uid="u"), "kubernetes", {"key": ["v"]})
    await authorizer(Time(), set(), asked).decide(caller, A.VIEW, Target("ns", "cam"))
    query = asked[0]
    assert (query.group, query.resource, query.subresource, query.verb) == ("sightline.dev", "cameras", "view", "get")
    assert (query.namespace, query.name) == ("ns", "cam")
    assert query.user == TokenUser("sa", "u", ("g",), {"key": ["v"]})


async def test_answers_are_kept_15_seconds_and_refusals_2() -> None:
    time, allowed = Time(), {("get", "view")}
    asked: list[AccessQuery] = []
    made = authorizer(time, allowed, asked)
    for action, lifetime in ((A.VIEW, 15), (A.UPDATE, 2)):
        asked.clear()
        for seconds in (0.0, lifetime - 0.1):
            time.move(seconds)
            await made.decide(ANN, action, Target("default", "front"))
        assert len(asked) == 1
        time.move(0.2)
        await made.decide(ANN, action, Target("default", "front"))
        assert len(asked) == 2


async def test_who_asks_the_same_at_the_same_moment_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, asked, go = MemoryCluster(), 0, asyncio.Event()

    async def slow(_: AccessQuery) -> bool:
        nonlocal asked
        asked += 1
        await go.wait()
        return True

    monkeypatch.setattr(cluster, "review_access", slow)
    time = Time()
    made = Authorizer(cluster, time.now, time.monotonic, Metrics())
    names = ("front", "front", "front", "back")
    deciding = [asyncio.create_task(made.decide(ANN, A.VIEW, Target("default", name))) for name in names]
    async with asyncio.timeout(60):
        while asked < 2:
            await asyncio.sleep(0)
    go.set()
    assert all(verdict.allowed for verdict in await asyncio.gather(*deciding))
    assert asked == 2


async def test_answers_are_not_mixed_up() -> None:
    asked: list[AccessQuery] = []
    made = authorizer(Time(), set(), asked)
    people = (ANN, Caller(Identity("ann"), "oidc"), Caller(Identity("ann", ("crew",)), "kubernetes", {"a": ["b"]}))
    for person, namespace, name in itertools.product(people, ("a", "b"), ("", "c")):
        await made.decide(person, A.VIEW, Target(namespace, name))
    assert len(asked) == 12


async def test_a_session_token_gives_no_other_right() -> None:
    asked: list[AccessQuery] = []
    made = authorizer(Time(), {("get", "view")}, asked)
    right = SessionRight("default", "front", "uid", "s-1")
    caller = Caller(Identity("ann", issuer="sightline"), "sightline", session=right)
    assert not (await made.decide(caller, A.VIEW, Target("default", "front", Access(owner="ann")))).allowed
    assert asked == []


async def test_a_refusal_says_what_was_refused() -> None:
    made = authorizer(Time(), set(), [])
    with pytest.raises(ProblemError) as refused:
        await made.require(ANN, A.UPDATE, Target("default", "front"))
    assert refused.value.problem.status == 403
    assert "update camera front" in refused.value.problem.detail


async def test_while_kubernetes_is_away_grants_count() -> None:
    time = Time()
    cluster = MemoryCluster(clock=time.now)
    made = Authorizer(cluster, time.now, time.monotonic, Metrics())
    await cluster.close()
    assert (await made.decide(ANN, A.VIEW, Target("default", "front", Access(owner="ann")))).allowed
    with pytest.raises(UnavailableError):
        await made.decide(ANN, A.VIEW, Target("default", "front"))


async def test_a_page_that_lists_every_five_seconds_does_not_ask_each_time(world: World) -> None:
    """Whoever has grants alone is refused by RBAC in every namespace, for every role, whenever it is asked."""
    for namespace in ("default", "docks", "yard"):
        if namespace != "default":
            await world.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        await world.add({**camera(), "metadata": {"name": "front", "namespace": namespace}})
    for _ in range(5):
        assert len((await world.call("GET", "/v1/cameras")).json()["items"]) == 3
        world.time.move(5)
    assert len(world.asked) == 3 * (1 + 3)
    world.access.add(("viewer", "update", "cameras"))
    world.time.move(10)
    assert "Manage" in (await world.call("GET", "/v1/cameras")).json()["items"][0]["rights"]
