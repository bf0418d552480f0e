"""The contract of `sightline_kube.cluster.Cluster`: objects, one by one."""

import re
from typing import Any

import pytest

from sightline_kube.cluster import AccessQuery, Preconditions, TokenUser
from sightline_kube.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidError,
    NotFoundError,
)
from sightline_kube.kinds import CAMERA, NAMESPACE, POD, SECRET, STREAM_SESSION
from tests.helpers.kube_objects import camera, labelled, pod, secret, session
from tests.helpers.kube_worlds import World, generation, version

ABSENT_UID = "00000000-0000-4000-8000-000000000000"


# Reading


async def test_what_is_not_there_is_not_found(world: World) -> None:
    with pytest.raises(NotFoundError):
        await world.cluster.get(CAMERA, world.namespace, "front")
    with pytest.raises(NotFoundError):
        await world.cluster.get(NAMESPACE, None, "nowhere")
    with pytest.raises(NotFoundError):
        await world.cluster.delete(CAMERA, world.namespace, "front")


async def test_a_list_has_all_pages_and_says_what_its_items_are(world: World) -> None:
    for name in ("c", "a", "e", "b", "d"):
        await world.cluster.create(secret(name, world.namespace))
    listing = await world.cluster.list(SECRET, world.namespace)
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b", "c", "d", "e"]
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("v1", "Secret")}
    assert int(listing.resource_version) >= max(int(version(item)) for item in listing.items)


async def test_a_list_is_of_one_namespace_or_of_all(world: World) -> None:
    await world.cluster.create(camera("front", world.namespace))
    assert (await world.cluster.list(CAMERA, "kube-system")).items == []
    found = (await world.cluster.list(CAMERA)).items
    assert (world.namespace, "front") in {(i["metadata"]["namespace"], i["metadata"]["name"]) for i in found}


async def test_a_list_takes_labels(world: World) -> None:
    await world.cluster.create(labelled(camera("a", world.namespace), site="north", floor="1"))
    await world.cluster.create(labelled(camera("b", world.namespace), site="north"))
    await world.cluster.create(camera("c", world.namespace))

    async def names(**labels: str) -> list[str]:
        listing = await world.cluster.list(CAMERA, world.namespace, labels=labels)
        return [item["metadata"]["name"] for item in listing.items]

    assert await names(site="north") == ["a", "b"]
    assert await names(site="north", floor="1") == ["a"]
    assert await names(site="south") == []


# Creating


async def test_create_gives_an_identity(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    metadata = made["metadata"]
    assert re.fullmatch(r"[0-9a-f-]{36}", metadata["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["creationTimestamp"])
    assert metadata["generation"] == 1
    assert int(metadata["resourceVersion"]) > 0
    assert await world.cluster.get(CAMERA, world.namespace, "front") == made


async def test_create_fills_in_defaults_and_unanswered_conditions(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace) | {"status": {"viewers": 7}})
    assert made["spec"]["lifecycle"]["idleTimeout"] == "30s"
    assert made["spec"]["source"]["testPattern"]["fps"] == 30
    assert made["spec"]["access"] == {"maxViewers": 500}
    conditions = {c["type"]: (c["status"], c["reason"]) for c in made["status"]["conditions"]}
    assert conditions["Ready"] == ("Unknown", "Pending")
    assert made["status"]["viewers"] == 0  # status is not written by create
    assert made["status"]["phase"] == "Pending"


async def test_a_name_is_taken_once(world: World) -> None:
    await world.cluster.create(camera("front", world.namespace))
    with pytest.raises(AlreadyExistsError):
        await world.cluster.create(camera("front", world.namespace))


async def test_a_name_can_be_drawn(world: World) -> None:
    obj = secret("", world.namespace)
    obj["metadata"] = {"generateName": "key-", "namespace": world.namespace}
    names = {(await world.cluster.create(obj))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch(r"key-[a-z0-9]{5}", name) for name in names)


async def test_a_namespace_has_to_be_there(world: World) -> None:
    with pytest.raises(NotFoundError):
        await world.cluster.create(camera("front", "nowhere"))


@pytest.mark.parametrize("verb", ["create", "apply", "replace", "replace_status"])
async def test_an_object_of_a_namespace_names_it(world: World, verb: str) -> None:
    """Else it would be said that it is not there, as of one that is gone."""
    obj = camera("front")
    del obj["metadata"]["namespace"]
    obj["metadata"]["resourceVersion"] = "" if verb in {"create", "apply"} else "1"
    writing = getattr(world.cluster, verb)
    with pytest.raises(InvalidError, match=r"metadata\.namespace"):
        await (writing(obj, field_manager="test") if verb == "apply" else writing(obj))


async def test_create_takes_no_resource_version(world: World) -> None:
    obj = camera("front", world.namespace)
    obj["metadata"]["resourceVersion"] = "1"
    with pytest.raises(InvalidError):
        await world.cluster.create(obj)


async def test_a_kind_that_is_none_of_ours_is_refused(world: World) -> None:
    with pytest.raises(InvalidError):
        await world.cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": {"testPattern": {}, "push": {}}}, "exactly one"),
        ({"source": {}}, "exactly one"),
        ({"sauce": {}}, "sauce"),
        ({"lifecycle": {"idleTimeout": "soon"}}, "idleTimeout"),
        ({"access": {"maxViewers": 0}}, "maxViewers"),
        ({"source": {"rtsp": {"url": "rtsp://admin:hunter2@10.0.0.9/main"}}}, "credentialsRef"),
    ],
)
async def test_a_bad_camera_is_refused_in_words(world: World, change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        await world.cluster.create(camera("front", world.namespace, **change))
    assert words in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


async def test_a_long_name_is_refused(world: World) -> None:
    with pytest.raises(InvalidError, match="52"):
        await world.cluster.create(camera("x" * 70, world.namespace))


@pytest.mark.parametrize("name", ["Front", "front_door", "-front", "front/door"])
async def test_a_name_of_other_characters_is_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidError):
        await world.cluster.create(secret(name, world.namespace))


async def test_text_in_a_secret_is_encoded(world: World) -> None:
    made = await world.cluster.create(secret("login", world.namespace, password="hunter2"))
    assert made["data"] == {"password": "aHVudGVyMg=="}
    assert "stringData" not in made


async def test_a_secret_may_be_sealed_for_good(world: World) -> None:
    await world.cluster.create({**secret("login", world.namespace, password="hunter2"), "immutable": True})
    for change in ({"data": {"password": "AAAA"}}, {"immutable": False}):
        with pytest.raises(InvalidError):
            await world.cluster.merge_patch(SECRET, world.namespace, "login", change)


async def test_an_event_is_about_something(world: World) -> None:
    metadata = {"name": "noise", "namespace": world.namespace}
    with pytest.raises(InvalidError):
        await world.cluster.create({"apiVersion": "v1", "kind": "Event", "metadata": metadata, "reason": "Noise"})


async def test_a_session_is_immutable_but_for_its_end(world: World) -> None:
    made = await world.cluster.create(session("s-1", world.namespace))
    with pytest.raises(InvalidError):
        await world.cluster.merge_patch(STREAM_SESSION, world.namespace, "s-1", {"spec": {"user": "mallory"}})
    later = {"spec": {"expiresAt": "2030-01-01T01:00:00Z"}}
    longer = await world.cluster.merge_patch(STREAM_SESSION, world.namespace, "s-1", later)
    assert longer["spec"]["expiresAt"] == "2030-01-01T01:00:00Z"
    assert generation(longer) == generation(made) + 1


# Replacing and patching


async def test_replace_moves_version_and_generation(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    made["spec"]["presentation"] = {"title": "Front door"}
    made["status"] = {"viewers": 3}
    changed = await world.cluster.replace(made)
    assert changed["spec"]["presentation"]["title"] == "Front door"
    assert generation(changed) == 2
    assert int(version(changed)) > int(version(made))
    assert changed["status"]["viewers"] == 0


async def test_the_generation_does_not_move_for_metadata(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    changed = await world.cluster.replace(labelled(made, site="north"))
    assert generation(changed) == generation(made)
    assert int(version(changed)) > int(version(made))


async def test_replace_of_an_old_state_conflicts(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    await world.cluster.replace(labelled(made, site="north"))
    with pytest.raises(ConflictError):
        await world.cluster.replace(labelled(made, site="south"))


async def test_replace_wants_a_version(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    del made["metadata"]["resourceVersion"]
    with pytest.raises(InvalidError):
        await world.cluster.replace(made)


async def test_replace_of_what_is_gone(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    await world.cluster.delete(CAMERA, world.namespace, "front")
    with pytest.raises(NotFoundError):
        await world.cluster.replace(made)


async def test_replace_of_an_equal_state_writes_nothing(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    # The first write after create saves the defaults of status, which until then come with each read.
    made = await world.cluster.replace(labelled(made, site="north"))
    assert version(await world.cluster.replace(made)) == version(made)


async def test_identity_cannot_be_written(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    made["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z"
    made["metadata"]["generation"] = 99
    made["metadata"]["labels"] = {"site": "north"}
    changed = await world.cluster.replace(made)
    assert generation(changed) == 1
    assert not changed["metadata"]["creationTimestamp"].startswith("2001")


async def test_merge_patch_merges_and_removes(world: World) -> None:
    await world.cluster.create(labelled(camera("front", world.namespace), site="north", floor="1"))
    patch = {"metadata": {"labels": {"floor": None, "door": "2"}}, "spec": {"access": {"owner": "alice"}}}
    changed = await world.cluster.merge_patch(CAMERA, world.namespace, "front", patch)
    assert changed["metadata"]["labels"] == {"site": "north", "door": "2"}
    assert changed["spec"]["access"] == {"owner": "alice", "maxViewers": 500}
    again = await world.cluster.merge_patch(CAMERA, world.namespace, "front", patch)
    assert version(again) == version(changed)


async def test_merge_patch_does_not_reach_status(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    same = await world.cluster.merge_patch(CAMERA, world.namespace, "front", {"status": {"viewers": 3}})
    assert same["status"] == made["status"]


async def test_merge_patch_with_a_version_conflicts(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    await world.cluster.replace(labelled(made, site="north"))
    patch = {"metadata": {"resourceVersion": version(made), "labels": {"site": "south"}}}
    with pytest.raises(ConflictError):
        await world.cluster.merge_patch(CAMERA, world.namespace, "front", patch)


async def test_merge_patch_of_what_is_not_there(world: World) -> None:
    with pytest.raises(NotFoundError):
        await world.cluster.merge_patch(CAMERA, world.namespace, "front", {"metadata": {"labels": {"a": "b"}}})


async def test_merge_patch_is_validated(world: World) -> None:
    await world.cluster.create(camera("front", world.namespace))
    with pytest.raises(InvalidError):
        await world.cluster.merge_patch(CAMERA, world.namespace, "front", {"spec": {"source": {"push": {}}}})


# Status


async def test_status_is_written_alone(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    wanted = labelled(made, site="north") | {"status": made["status"] | {"viewers": 3, "phase": "Streaming"}}
    wanted["spec"] = {"source": {"push": {}}}
    changed = await world.cluster.replace_status(wanted)
    assert changed["status"]["viewers"] == 3
    assert changed["spec"] == made["spec"]
    assert "labels" not in changed["metadata"]
    assert generation(changed) == generation(made)
    assert int(version(changed)) > int(version(made))
    assert version(await world.cluster.replace_status(changed)) == version(changed)


async def test_status_wants_a_version(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    with pytest.raises(InvalidError):
        await world.cluster.replace_status({**made, "metadata": {"name": "front", "namespace": world.namespace}})


async def test_status_of_an_old_state_conflicts(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    await world.cluster.replace_status(made | {"status": made["status"] | {"viewers": 1}})
    with pytest.raises(ConflictError):
        await world.cluster.replace_status(made | {"status": made["status"] | {"viewers": 2}})


async def test_status_of_another_object_by_that_name_conflicts(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    await world.cluster.delete(CAMERA, world.namespace, "front")
    await world.cluster.create(camera("front", world.namespace))
    with pytest.raises(ConflictError):
        await world.cluster.replace_status(made | {"status": {"viewers": 2}})


async def test_unknown_status_fields_are_dropped_and_wrong_ones_refused(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    changed = await world.cluster.replace_status(made | {"status": made["status"] | {"mood": "good", "viewers": 1}})
    assert "mood" not in changed["status"]
    with pytest.raises(InvalidError):
        await world.cluster.replace_status(changed | {"status": {"viewers": "many"}})


async def test_status_needs_a_subresource(world: World) -> None:
    made = await world.cluster.create(secret("login", world.namespace))
    with pytest.raises(NotFoundError):
        await world.cluster.replace_status(made | {"status": {}})


async def test_status_of_a_pod(world: World) -> None:
    made = await world.cluster.create(pod("agent", world.namespace))
    changed = await world.cluster.replace_status(made | {"status": {"phase": "Running", "podIP": "10.1.2.3"}})
    assert (changed["status"]["phase"], changed["status"]["podIP"]) == ("Running", "10.1.2.3")


# Deleting


async def test_delete_has_preconditions(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    for wrong in (Preconditions(uid=ABSENT_UID), Preconditions(resource_version="1")):
        with pytest.raises(ConflictError):
            await world.cluster.delete(CAMERA, world.namespace, "front", preconditions=wrong)
    right = Preconditions(uid=made["metadata"]["uid"], resource_version=version(made))
    await world.cluster.delete(CAMERA, world.namespace, "front", preconditions=right)
    with pytest.raises(NotFoundError):
        await world.cluster.get(CAMERA, world.namespace, "front")


async def test_a_finalizer_holds_an_object(world: World) -> None:
    obj = camera("front", world.namespace)
    obj["metadata"]["finalizers"] = ["sightline.dev/test"]
    made = await world.cluster.create(obj)
    await world.cluster.delete(CAMERA, world.namespace, "front")
    held = await world.cluster.get(CAMERA, world.namespace, "front")
    assert held["metadata"]["deletionTimestamp"]
    assert generation(held) == generation(made) + 1
    await world.cluster.delete(CAMERA, world.namespace, "front")  # again: nothing new
    assert version(await world.cluster.get(CAMERA, world.namespace, "front")) == version(held)
    await world.cluster.merge_patch(CAMERA, world.namespace, "front", {"metadata": {"finalizers": None}})
    with pytest.raises(NotFoundError):
        await world.cluster.get(CAMERA, world.namespace, "front")


async def test_a_pod_with_a_node_ends_gracefully(world: World) -> None:
    obj = pod("agent", world.namespace)
    obj["spec"] |= {"nodeName": "node-1", "terminationGracePeriodSeconds": 7}
    await world.cluster.create(obj)
    await world.cluster.delete(POD, world.namespace, "agent")
    ending = await world.cluster.get(POD, world.namespace, "agent")
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 7
    await world.cluster.delete(POD, world.namespace, "agent", grace_seconds=0)
    with pytest.raises(NotFoundError):
        await world.cluster.get(POD, world.namespace, "agent")


async def test_a_pod_without_a_node_goes_at_once(world: World) -> None:
    await world.cluster.create(pod("agent", world.namespace))
    await world.cluster.delete(POD, world.namespace, "agent")
    with pytest.raises(NotFoundError):
        await world.cluster.get(POD, world.namespace, "agent")


# Reviews


async def test_a_token_is_reviewed(world: World) -> None:
    token = await world.token("watcher", "sightline")
    user = await world.cluster.review_token(token, ["sightline"])
    assert user
    assert user.username == f"system:serviceaccount:{world.namespace}:watcher"
    assert "system:serviceaccounts" in user.groups
    assert await world.cluster.review_token(token, ["somebody-else"]) is None
    assert await world.cluster.review_token("no-token", ["sightline"]) is None


async def test_access_is_reviewed(world: World) -> None:
    await world.allow("bob", "get", "cameras/view")

    async def may(user: str, subresource: str, namespace: str = world.namespace) -> bool:
        query = AccessQuery(TokenUser(user), "get", "sightline.dev", "cameras", subresource, namespace, "front")
        return await world.cluster.review_access(query)

    assert await may("bob", "view")
    assert not await may("bob", "publish")
    assert not await may("bob", "view", "kube-system")
    assert not await may("mallory", "view")
