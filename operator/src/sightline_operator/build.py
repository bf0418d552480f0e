"""Pure builders of everything that a camera owns: the agent's pod, its config Secret, its Service.

Each object carries a hash of what was desired, and the Service that of the config too (docs/design/0005). The pod's
hash covers its template only: a changed AgentConfig is followed by the running agent (Secret and PUT), a changed image,
class or credentials reference needs another pod.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA, UDP_ROUTE
from sightline_model import names
from sightline_model.agent import (
    CONFIG_DIRECTORY,
    CONFIG_FILE,
    CONTROL_PORT,
    CREDENTIALS_DIRECTORY,
    MAIN_PROFILE,
    MEDIA_PORT,
    AgentConfig,
    AgentLifecycle,
    CameraIdentity,
)
from sightline_model.base import GROUP
from sightline_model.camera import CameraSpec
from sightline_model.cameraclass import CameraClassSpec, NetworkMode
from sightline_model.durations import seconds
from sightline_operator import network
from sightline_operator.facts import Options
from sightline_operator.network import Reach

CONTAINER = "agent"
ATTEMPT_ANNOTATION = f"{GROUP}/attempt"
"""How many pods in a row have failed before this one; the wait before the next one follows from it."""
CREDENTIALS_ANNOTATION = f"{GROUP}/credentials-hash"
"""What of the pod is the camera's own wish, as a hash; all the rest is the class's and the operator's. Counted in
another way it would look as if every camera had been edited, and all would move at once."""
USER = 65532
TERMINATION_GRACE_SECONDS = 10
LOST_NODE_SECONDS = 30
"""How long a pod stays bound to a node that does not answer; Kubernetes' own default is 300 s."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A camera that is to be run: everything that the builders read."""

    namespace: str
    name: str
    uid: str
    class_name: str
    spec: CameraSpec
    camera_class: CameraClassSpec
    options: Options


def agent_config(plan: Plan, reach: Reach | None = None) -> AgentConfig:
    """What the agent is to know; `revision` is the hash of the rest.

    With the way to one pod it is that pod's; without, it is what every pod starts from, and then a pod that viewers do
    not dial itself knows no address until it is told (`Decision.push`).
    """
    network_ = plan.camera_class.network
    own = reach.own if reach else network_.mode in (NetworkMode.POD_IP, NetworkMode.RELAY)
    lifecycle = plan.spec.lifecycle
    config = AgentConfig(
        camera=CameraIdentity(namespace=plan.namespace, name=plan.name, uid=plan.uid),
        source=plan.spec.source,
        profiles=plan.spec.profiles,
        audio=plan.spec.audio,
        transcode=plan.spec.transcode,
        lifecycle=AgentLifecycle(
            start=lifecycle.start,
            idle_timeout=seconds(lifecycle.idle_timeout),
            start_timeout=seconds(lifecycle.start_timeout),
            connect_timeout=seconds(plan.camera_class.defaults.connect_timeout),
        ),
        max_viewers=min(plan.spec.access.max_viewers, plan.camera_class.limits.max_viewers),
        advertise=list(network_.advertise if own or not reach else reach.addresses),
        own_addresses=own,
        token_keys=[dict(key) for key in plan.options.token_keys],
    )
    return config.model_copy(update={"revision": names.content_hash(config.to_wire())})


def config_secret(plan: Plan, config: AgentConfig) -> Obj:
    """The Secret with the agent's config; no credentials of the camera are in it. Its type makes it ours."""
    text = json.dumps(config.to_wire(), sort_keys=True)  # indented, Python would not write it in C
    body = {
        "type": names.AGENT_SECRET_TYPE,
        "data": {CONFIG_FILE: base64.b64encode(text.encode()).decode()},
    }
    return {"apiVersion": "v1", "kind": "Secret", **_with_metadata(plan, names.agent_secret(plan.name), body)}


def service(plan: Plan, config_hash: str) -> Obj:
    """The stable signaling endpoint inside the cluster; it also notes which config was written."""
    spec = {
        "type": "ClusterIP",
        "ipFamilyPolicy": "PreferDualStack",
        "selector": {names.CAMERA_LABEL: plan.name, names.COMPONENT_LABEL: "agent"},
        "ports": [
            {"name": "control", "port": CONTROL_PORT, "targetPort": "control", "protocol": "TCP"},
            {"name": "media", "port": MEDIA_PORT, "targetPort": "media", "protocol": "UDP"},
        ],
    }
    made = _with_metadata(plan, names.agent_service(plan.name), {"spec": spec})
    made["metadata"]["annotations"][names.CONFIG_HASH_ANNOTATION] = config_hash
    route = udp_route(plan)
    if route is not None:
        made["metadata"]["annotations"][names.ROUTE_HASH_ANNOTATION] = route["metadata"]["annotations"][
            names.HASH_ANNOTATION
        ]
    return {"apiVersion": "v1", "kind": "Service", **made}


def udp_route(plan: Plan) -> Obj | None:
    """What lets STUNner's gateway dial the camera's agent, and nothing else; None where the class names no gateway."""
    settings = plan.camera_class.network
    gateway = settings.turn.gateway_ref if settings.turn else None
    if gateway is None or settings.mode is not NetworkMode.RELAY:
        return None
    backend = {"name": names.agent_service(plan.name), "namespace": plan.namespace, "port": MEDIA_PORT}
    spec = {"parentRefs": [gateway.to_wire()], "rules": [{"backendRefs": [backend]}]}
    made = _with_metadata(plan, names.agent_service(plan.name), {"spec": spec})
    return {"apiVersion": UDP_ROUTE.api_version, "kind": UDP_ROUTE.kind, **made}


def exposing_service(plan: Plan, pod: str, port: int) -> Obj | None:
    """The Service that leads viewers to one pod; None in modes that need none."""
    mode = plan.camera_class.network.mode
    if mode not in (NetworkMode.NODE_PORT, NetworkMode.LOAD_BALANCER):
        return None
    name = names.balancer_service(plan.name) if mode is NetworkMode.LOAD_BALANCER else pod
    made = _with_metadata(plan, name, {"spec": network.service_spec(mode, pod, port)})
    made["metadata"]["labels"] = {**made["metadata"]["labels"], names.AGENT_LABEL: pod or network.NOBODY}
    return {"apiVersion": "v1", "kind": "Service", **made}


def agent_pod(plan: Plan, suffix: str, attempt: int = 0, port: int = MEDIA_PORT) -> Obj:
    """One generation of the agent; its port is its own, so it is not in the hash."""
    name = names.agent_pod(plan.name, suffix)
    pod = _with_metadata(plan, name, {"spec": pod_spec(plan)})
    pod["spec"] = pod_spec(plan, port)
    pod["metadata"]["labels"] = {**pod["metadata"]["labels"], names.AGENT_LABEL: name}
    pod["metadata"]["annotations"][CREDENTIALS_ANNOTATION] = credentials_hash(plan.spec)
    if attempt:
        pod["metadata"]["annotations"][ATTEMPT_ANNOTATION] = str(attempt)
    return {"apiVersion": "v1", "kind": "Pod", **pod}


def pod_hash(plan: Plan) -> str:
    """The hash that a pod of this plan carries."""
    return _hash(plan, {"spec": pod_spec(plan)})


def credentials(spec: CameraSpec) -> dict[str, str]:
    """The Secrets with the sources' credentials or tokens, by the names of the qualities that need any."""
    sources = {MAIN_PROFILE: spec.source} | {profile.name: profile.source for profile in spec.profiles}
    return {name: source.secret for name, source in sources.items() if source.secret is not None}


def credentials_hash(spec: CameraSpec) -> str:
    """The hash of what a camera wishes of its agent's pod."""
    return names.content_hash(credentials(spec))


def mounts_secrets_of(plan: Plan, pod: Obj) -> bool:
    """Whether the pod mounts the Secrets that the plan names now, for the same qualities, and no others."""
    return _secrets(pod["spec"].get("volumes") or []) == _secrets(_volumes(plan))


def _secrets(volumes: list[dict[str, Any]]) -> dict[str, str]:
    return {volume["name"]: volume["secret"]["secretName"] for volume in volumes if "secret" in volume}


def owner_reference(plan: Plan) -> dict[str, Any]:
    """The camera as controller: deleting it deletes what it owns."""
    return {
        "apiVersion": CAMERA.api_version,
        "kind": CAMERA.kind,
        "name": plan.name,
        "uid": plan.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _with_metadata(plan: Plan, name: str, body: Obj) -> Obj:
    metadata = {
        "name": name,
        "namespace": plan.namespace,
        "labels": names.agent_labels(plan.name, plan.class_name),
        "annotations": {names.HASH_ANNOTATION: _hash(plan, body)},
        "ownerReferences": [owner_reference(plan)],
    }
    return {"metadata": metadata, **body}


def _hash(plan: Plan, body: Obj) -> str:
    return names.content_hash({"labels": names.agent_labels(plan.name, plan.class_name), **body})


def pod_spec(plan: Plan, port: int = 0) -> dict[str, Any]:
    """The pod's spec; with port 0, what of it is the same for every pod of the plan."""
    scheduling = plan.camera_class.scheduling
    spec: dict[str, Any] = {
        "restartPolicy": "Always",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(plan)],
        "volumes": _volumes(plan),
        "tolerations": _tolerations(scheduling.tolerations),
        # Kubernetes' own default spreads the pods of one Service, and each camera has its own.
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {
                    "matchLabels": {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.COMPONENT_LABEL: "agent"}
                },
            }
        ],
    }
    pull_secrets = plan.camera_class.agent.pull_secrets
    optional = {
        "imagePullSecrets": [{"name": name} for name in pull_secrets],
        "nodeSelector": dict(scheduling.node_selector),
        "affinity": scheduling.affinity,
        "priorityClassName": scheduling.priority_class_name,
        "runtimeClassName": scheduling.runtime_class_name,
    }
    return network.dress(spec | {k: v for k, v in optional.items() if v}, plan.camera_class.network.mode, port)


def _container(plan: Plan) -> dict[str, Any]:
    agent, resources = plan.camera_class.agent, plan.camera_class.resources
    return {
        "name": CONTAINER,
        "image": agent.image or plan.options.agent_image,
        "imagePullPolicy": agent.pull_policy.value,
        "command": ["sightline-agent"],
        "args": ["--config", CONFIG_DIRECTORY, "--credentials", CREDENTIALS_DIRECTORY],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "POD_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
        ],
        "ports": [
            {"name": "control", "containerPort": CONTROL_PORT, "protocol": "TCP"},
            {"name": "media", "containerPort": MEDIA_PORT, "protocol": "UDP"},
        ],
        "resources": {"requests": resources.requests.to_wire(), "limits": resources.limits.to_wire()},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "livenessProbe": _probe("/healthz", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=1, failures=3),
        "volumeMounts": _mounts(plan),
    }


def _probe(path: str, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "control"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _mounts(plan: Plan) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own emptyDir
    ]
    # The Secret's name is in the path, so an agent whose config names another one by now finds nothing there.
    for name, secret in credentials(plan.spec).items():
        path = f"{CREDENTIALS_DIRECTORY}/{name}/{secret}"
        mounts.append({"name": _volume(name), "mountPath": path, "readOnly": True})
    return mounts


def _volume(profile: str) -> str:
    return "credentials" if profile == MAIN_PROFILE else f"credentials-{profile}"


def _volumes(plan: Plan) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "config", "secret": {"secretName": names.agent_secret(plan.name), "defaultMode": 0o440}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    for name, secret in credentials(plan.spec).items():
        source = {"secretName": secret, "defaultMode": 0o440, "optional": False}
        volumes.append({"name": _volume(name), "secret": source})
    return volumes


def _tolerations(wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The class's own, and a short patience with lost nodes unless the class has its own."""
    named = {toleration.get("key") for toleration in wanted}
    lost = [
        {
            "key": key,
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": LOST_NODE_SECONDS,
        }
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
        if key not in named
    ]
    return [dict(toleration) for toleration in wanted] + lost
