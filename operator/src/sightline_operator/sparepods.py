"""Pure builders of spare agents, and of what a spare becomes when a camera adopts it.

A spare's pod is a camera's pod of its class without what is the camera's own: no config Secret, no credentials. It
belongs to its class (owner reference, without a right to hinder the class's deletion) until its labels, owner and
hashes are changed in one patch that counts on the version that was seen: so it comes to one camera at most, and a pod
that is on its way out to none. Its spec stays as it was born, ports included.
"""

import json
from typing import Any

from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA_CLASS
from sightline_model import names
from sightline_model.agent import SPARE_VARIABLE, SpareStart, spare_identity
from sightline_model.camera import CameraSpec, Source, TestPatternSource
from sightline_model.cameraclass import CameraClassSpec
from sightline_operator import build, pods
from sightline_operator.build import Plan
from sightline_operator.facts import Options

CONFIG_VOLUME = "config"


def spare_plan(namespace: str, class_name: str, camera_class: CameraClassSpec, options: Options) -> Plan:
    """The plan of a camera of that class that there is not yet, and that needs no credentials."""
    nothing = CameraSpec(source=Source(test_pattern=TestPatternSource()))
    return Plan(namespace, "", "", class_name, nothing, camera_class, options)


def pod(plan: Plan, class_uid: str, name: str, attempt: int = 0, port: int = 0) -> Obj:
    """A spare; `port` where the network mode leases one."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": plan.namespace,
        "labels": {**names.spare_labels(plan.class_name), names.AGENT_LABEL: name},
        "annotations": {
            names.HASH_ANNOTATION: wanted_hash(plan),
            names.SPARE_KEYS_ANNOTATION: ",".join(_key_ids(plan.options)),
        },
        "ownerReferences": [
            {
                "apiVersion": CAMERA_CLASS.api_version,
                "kind": CAMERA_CLASS.kind,
                "name": plan.class_name,
                "uid": class_uid,
                "controller": True,
            }
        ],
    }
    if attempt:
        metadata["annotations"][build.ATTEMPT_ANNOTATION] = str(attempt)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _spec(plan, name, port)}


def wanted_hash(plan: Plan) -> str:
    """The hash that a spare of this plan carries: another one means another class, operator or set of keys."""
    return names.content_hash({"labels": names.spare_labels(plan.class_name), "spec": _spec(plan, "", 0)})


def adoption(plan: Plan, spare: Obj, attempt: int = 0) -> dict[str, Any]:
    """The patch by which the camera of `plan` takes this very spare, as it was seen."""
    labels = {**names.agent_labels(plan.name, plan.class_name), names.SPARE_LABEL: names.SPARE_ADOPTED}
    metadata = {
        "uid": pods.uid_of(spare),
        "resourceVersion": str(spare["metadata"]["resourceVersion"]),
        "labels": labels,
        "annotations": {
            names.HASH_ANNOTATION: build.pod_hash(plan),
            build.CREDENTIALS_ANNOTATION: build.credentials_hash(plan.spec),
            build.ATTEMPT_ANNOTATION: str(attempt) if attempt else None,
        },
        "ownerReferences": [build.owner_reference(plan)],
    }
    return {"metadata": metadata}


def waits(pod: Obj | None) -> bool:
    """Whether the pod is a spare that no camera has."""
    return _spare_label(pod) == names.SPARE_WAITING


def began_as_spare(pod: Obj | None) -> bool:
    """Whether its agent gets its config by adoption, also each time when its container has been started again."""
    return bool(_spare_label(pod))


def class_of(pod: Obj) -> str:
    """The class whose spare it is."""
    return str((pod["metadata"].get("labels") or {}).get(names.CLASS_LABEL, ""))


def trusts(pod: Obj, options: Options) -> bool:
    """Whether a process that starts in the pod trusts the key that this operator signs with."""
    known = pods.annotation(pod, names.SPARE_KEYS_ANNOTATION).split(",")
    return next(iter(_key_ids(options)), "") in known


def _spec(plan: Plan, name: str, port: int) -> dict[str, Any]:
    spec = build.pod_spec(plan, port)
    container, *others = spec["containers"]
    keys = [dict(key) for key in plan.options.token_keys]
    start = SpareStart(identity=spare_identity(plan.namespace, name), token_keys=keys)
    told = {"name": SPARE_VARIABLE, "value": json.dumps(start.to_wire(), sort_keys=True)}
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] != CONFIG_VOLUME]
    own = {**container, "args": [], "env": [*container["env"], told], "volumeMounts": mounts}
    volumes = [volume for volume in spec["volumes"] if volume["name"] != CONFIG_VOLUME]
    return {**spec, "containers": [own, *others], "volumes": volumes}


def _key_ids(options: Options) -> list[str]:
    return [str(key.get("kid", "")) for key in options.token_keys]


def _spare_label(pod: Obj | None) -> str:
    return str(((pod or {"metadata": {}})["metadata"].get("labels") or {}).get(names.SPARE_LABEL, ""))
