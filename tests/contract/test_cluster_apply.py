"""The contract of `sightline_kube.cluster.Cluster`: server-side apply and who owns which field."""

from typing import Any

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
)
from sightline_kube.kinds import CAMERA, SECRET, SERVICE
from tests.helpers.kube_objects import camera, labelled, owned_by, pod, secret
from tests.helpers.kube_worlds import World, generation, version

ABSENT_UID = "00000000-0000-4000-8000-000000000000"
MANAGER = "sightline-operator"


def env(obj: Obj) -> dict[str, str]:
    return {item["name"]: item["value"] for item in obj["spec"]["containers"][0].get("env", [])}


async def test_apply_creates_and_then_writes_nothing(world: World) -> None:
    for obj in (pod("agent", world.namespace, {"A": "1"}), camera("front", world.namespace)):
        made = await world.cluster.apply(obj, field_manager=MANAGER)
        again = await world.cluster.apply(obj, field_manager=MANAGER)
        once_more = await world.cluster.apply(obj, field_manager=MANAGER)
        assert made["metadata"]["uid"] == again["metadata"]["uid"]
        assert version(again) == version(once_more)


async def test_apply_drops_what_is_no_longer_named(world: World) -> None:
    await world.cluster.apply(labelled(camera("front", world.namespace), a="1", b="2"), field_manager=MANAGER)
    changed = await world.cluster.apply(labelled(camera("front", world.namespace), a="3"), field_manager=MANAGER)
    assert changed["metadata"]["labels"] == {"a": "3"}
    bare = await world.cluster.apply(camera("front", world.namespace), field_manager=MANAGER)
    assert not bare["metadata"].get("labels")


async def test_apply_drops_to_the_default(world: World) -> None:
    busy = camera("front", world.namespace, access={"maxViewers": 9}, presentation={"title": "Front"})
    await world.cluster.apply(busy, field_manager=MANAGER)
    plain = await world.cluster.apply(camera("front", world.namespace), field_manager=MANAGER)
    assert plain["spec"]["access"] == {"maxViewers": 500}
    assert not plain["spec"].get("presentation")
    assert generation(plain) == 2


async def test_a_selector_is_one_value(world: World) -> None:
    spec = {"selector": {"app": "agent"}, "ports": [{"name": "control", "port": 8080}]}
    mine = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "gate", "namespace": world.namespace},
        "spec": spec,
    }
    await world.cluster.apply(mine, field_manager=MANAGER)
    bent = await world.cluster.merge_patch(SERVICE, world.namespace, "gate", {"spec": {"selector": {"more": "1"}}})
    assert bent["spec"]["selector"] == {"app": "agent", "more": "1"}
    again = await world.cluster.apply(mine, field_manager=MANAGER)
    assert again["spec"]["selector"] == {"app": "agent"}


async def test_apply_leaves_fields_of_others_alone(world: World) -> None:
    mine = labelled(camera("front", world.namespace), ours="1")
    await world.cluster.apply(mine, field_manager=MANAGER)
    theirs = {"metadata": {"labels": {"theirs": "2"}, "annotations": {"note": "x"}}}
    await world.cluster.merge_patch(CAMERA, world.namespace, "front", theirs)
    same = await world.cluster.apply(mine, field_manager=MANAGER)
    assert same["metadata"]["labels"] == {"ours": "1", "theirs": "2"}
    less = await world.cluster.apply(camera("front", world.namespace), field_manager=MANAGER)
    assert less["metadata"]["labels"] == {"theirs": "2"}
    assert less["metadata"]["annotations"] == {"note": "x"}


async def test_apply_repairs_what_others_changed(world: World) -> None:
    mine = labelled(camera("front", world.namespace), ours="1")
    await world.cluster.apply(mine, field_manager=MANAGER)
    await world.cluster.merge_patch(CAMERA, world.namespace, "front", {"metadata": {"labels": {"ours": "9"}}})
    repaired = await world.cluster.apply(mine, field_manager=MANAGER)
    assert repaired["metadata"]["labels"] == {"ours": "1"}


async def test_apply_does_not_take_over_a_secret_of_another_type(world: World) -> None:
    theirs = secret("front", world.namespace, password="word")
    await world.cluster.create(theirs)
    for type_ in ("sightline.dev/agent-config", "kubernetes.io/basic-auth"):
        ours = {**secret("front", world.namespace, ours="1"), "type": type_}
        with pytest.raises(InvalidError, match=r"type: .*immutable"):
            await world.cluster.apply(ours, field_manager=MANAGER)
    (found,) = (await world.cluster.list(SECRET, world.namespace)).items
    assert found["data"].keys() == {"password"}
    assert "ours" not in str(found["data"])


async def test_apply_takes_a_secret_over_from_an_owner_that_is_gone(world: World) -> None:
    former, later = [await world.cluster.create(camera(name, world.namespace)) for name in ("one", "two")]
    made = {**owned_by(secret("config", world.namespace, a="1"), former), "type": "sightline.dev/agent-config"}
    await world.cluster.apply(made, field_manager=MANAGER)
    taken = {**owned_by(secret("config", world.namespace, a="2"), later), "type": "sightline.dev/agent-config"}
    found = await world.cluster.apply(taken, field_manager=MANAGER)
    assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == [later["metadata"]["uid"]]


async def test_a_field_of_two_managers_stays_until_both_drop_it(world: World) -> None:
    shared = labelled(camera("front", world.namespace), shared="1")
    bare = camera("front", world.namespace)
    await world.cluster.apply(shared, field_manager="one")
    await world.cluster.apply(shared, field_manager="two")
    kept = await world.cluster.apply(bare, field_manager="one")
    assert kept["metadata"]["labels"] == {"shared": "1"}
    gone = await world.cluster.apply(bare, field_manager="two")
    assert not gone["metadata"].get("labels")


async def test_a_field_that_is_taken_over_is_not_dropped_by_its_former_manager(world: World) -> None:
    await world.cluster.apply(labelled(camera("front", world.namespace), site="1"), field_manager="one")
    await world.cluster.apply(labelled(camera("front", world.namespace), site="2"), field_manager="two")
    kept = await world.cluster.apply(camera("front", world.namespace), field_manager="one")
    assert kept["metadata"]["labels"] == {"site": "2"}


async def test_a_field_that_is_taken_over_goes_when_its_new_manager_drops_it(world: World) -> None:
    await world.cluster.apply(labelled(camera("front", world.namespace), site="1"), field_manager="one")
    await world.cluster.apply(labelled(camera("front", world.namespace), site="2"), field_manager="two")
    gone = await world.cluster.apply(camera("front", world.namespace), field_manager="two")
    assert not gone["metadata"].get("labels")


async def test_a_field_that_others_removed_comes_back_with_the_next_apply(world: World) -> None:
    mine = labelled(camera("front", world.namespace), ours="1")
    await world.cluster.apply(mine, field_manager=MANAGER)
    await world.cluster.merge_patch(CAMERA, world.namespace, "front", {"metadata": {"labels": None}})
    repaired = await world.cluster.apply(mine, field_manager=MANAGER)
    assert repaired["metadata"]["labels"] == {"ours": "1"}


async def test_apply_merges_lists_by_their_keys(world: World) -> None:
    def with_outputs(*names: str) -> Obj:
        outputs = [{"name": name, "rtmp": {"url": f"rtmp://out/{name}"}} for name in names]
        return camera("front", world.namespace, outputs=outputs)

    async def names(obj: Obj, manager: str) -> list[str]:
        applied = await world.cluster.apply(obj, field_manager=manager)
        return [output["name"] for output in applied["spec"].get("outputs", [])]

    assert await names(with_outputs("a", "b"), "one") == ["a", "b"]
    assert await names(with_outputs("c"), "two") == ["a", "b", "c"]
    assert await names(with_outputs("b"), "one") == ["b", "c"]
    assert await names(camera("front", world.namespace), "two") == ["b"]


async def test_apply_replaces_other_lists_whole(world: World) -> None:
    def granted(user: str) -> Obj:
        return camera("front", world.namespace, access={"grants": [{"subjects": [f"user:{user}"], "roles": ["View"]}]})

    await world.cluster.apply(granted("alice"), field_manager=MANAGER)
    changed = await world.cluster.apply(granted("bob"), field_manager=MANAGER)
    assert [grant["subjects"] for grant in changed["spec"]["access"]["grants"]] == [["user:bob"]]


async def test_apply_does_not_reach_status(world: World) -> None:
    obj = camera("front", world.namespace) | {"status": {"viewers": 3}}
    made = await world.cluster.apply(obj, field_manager=MANAGER)
    assert made["status"]["viewers"] == 0


async def test_apply_to_another_object_by_that_name_conflicts(world: World) -> None:
    for obj in (camera("front", world.namespace), pod("agent", world.namespace), secret("login", world.namespace)):
        expected = {**obj, "metadata": {**obj["metadata"], "uid": ABSENT_UID}}
        with pytest.raises(ConflictError):
            await world.cluster.apply(expected, field_manager=MANAGER)
        await world.cluster.apply(obj, field_manager=MANAGER)
        made = await world.cluster.apply(obj, field_manager=MANAGER)
        with pytest.raises(ConflictError):
            await world.cluster.apply(expected, field_manager=MANAGER)
        right = {**obj, "metadata": {**obj["metadata"], "uid": made["metadata"]["uid"]}}
        assert version(await world.cluster.apply(right, field_manager=MANAGER)) == version(made)


async def test_apply_with_an_old_version_conflicts(world: World) -> None:
    made = await world.cluster.apply(camera("front", world.namespace), field_manager=MANAGER)
    await world.cluster.merge_patch(CAMERA, world.namespace, "front", {"metadata": {"labels": {"a": "b"}}})
    stale = camera("front", world.namespace, presentation={"title": "Front"})
    stale["metadata"]["resourceVersion"] = version(made)
    with pytest.raises(ConflictError):
        await world.cluster.apply(stale, field_manager=MANAGER)


async def test_apply_is_validated(world: World) -> None:
    changes: list[dict[str, Any]] = [{"sauce": {}}, {"source": {"testPattern": {}, "push": {}}}]
    for change in changes:
        with pytest.raises(InvalidError):
            await world.cluster.apply(camera("front", world.namespace, **change), field_manager=MANAGER)
    with pytest.raises(NotFoundError):
        await world.cluster.apply(camera("front", "nowhere"), field_manager=MANAGER)


async def test_a_pod_cannot_be_changed_but_for_its_image(world: World) -> None:
    obj = pod("agent", world.namespace, {"A": "1"})
    await world.cluster.apply(obj, field_manager=MANAGER)
    with pytest.raises(InvalidError):
        await world.cluster.apply(pod("agent", world.namespace, {"A": "2"}), field_manager=MANAGER)
    obj["spec"]["containers"][0]["image"] = "example/agent:2"
    changed = await world.cluster.apply(labelled(obj, a="b"), field_manager=MANAGER)
    assert changed["spec"]["containers"][0]["image"] == "example/agent:2"
    assert env(changed) == {"A": "1"}


async def test_a_secret_is_applied_key_by_key(world: World) -> None:
    def data(**values: str) -> Obj:
        obj = secret("login", world.namespace)
        del obj["stringData"]
        return obj | {"data": values}

    await world.cluster.apply(data(a="YQ==", b="Yg=="), field_manager=MANAGER)
    changed = await world.cluster.apply(data(a="YQ==", c="Yw=="), field_manager=MANAGER)
    assert changed["data"] == {"a": "YQ==", "c": "Yw=="}


async def test_owner_references_are_applied(world: World) -> None:
    owner = await world.cluster.create(camera("front", world.namespace))
    obj = owned_by(secret("login", world.namespace), owner)
    made = await world.cluster.apply(obj, field_manager=MANAGER)
    assert [reference["uid"] for reference in made["metadata"]["ownerReferences"]] == [owner["metadata"]["uid"]]
    assert version(await world.cluster.apply(obj, field_manager=MANAGER)) == version(made)
