"""The manifests of a camera's children, whole."""

import base64
import json
from typing import Any

import pytest

from sightline_model import names
from sightline_model.camera import CameraSpec
from sightline_model.cameraclass import CameraClassSpec
from sightline_operator import build
from sightline_operator.build import Plan
from sightline_operator.facts import Options

KEY = {"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "k1"}
OWNER = {
    "apiVersion": "sightline.dev/v1alpha1",
    "kind": "Camera",
    "name": "gate",
    "uid": "u-1",
    "controller": True,
    "blockOwnerDeletion": True,
}
LABELS = {
    "app.kubernetes.io/name": "sightline-agent",
    "app.kubernetes.io/component": "agent",
    "app.kubernetes.io/managed-by": "sightline-operator",
    "sightline.dev/camera": "gate",
    "sightline.dev/class": "default",
}
LOST_NODES = [
    {
        "key": f"node.kubernetes.io/{state}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 30,
    }
    for state in ("not-ready", "unreachable")
]


def plan(spec: dict[str, Any] | None = None, camera_class: dict[str, Any] | None = None) -> Plan:
    source = {"source": {"rtsp": {"url": "rtsp://camera.example/one"}}}
    return Plan(
        namespace="site",
        name="gate",
        uid="u-1",
        class_name="default",
        spec=CameraSpec.model_validate(source | (spec or {})),
        camera_class=CameraClassSpec.model_validate(camera_class or {}),
        options=Options(agent_image="registry.example/agent:1", token_keys=(KEY,)),
    )


def test_pod() -> None:
    made = build.agent_pod(plan(), "abc")
    digest = made["metadata"]["annotations"].pop("sightline.dev/desired-hash")
    assert digest == build.pod_hash(plan())
    assert made == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "camera-gate-abc",
            "namespace": "site",
            "labels": {**LABELS, names.AGENT_LABEL: "camera-gate-abc"},
            "annotations": {"sightline.dev/credentials-hash": build.credentials_hash(plan().spec)},
            "ownerReferences": [OWNER],
        },
        "spec": {
            "restartPolicy": "Always",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 10,
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {
                        "matchLabels": {
                            "app.kubernetes.io/managed-by": "sightline-operator",
                            "app.kubernetes.io/component": "agent",
                        }
                    },
                }
            ],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "agent",
                    "image": "registry.example/agent:1",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sightline-agent"],
                    "args": ["--config", "/etc/sightline/config", "--credentials", "/etc/sightline/credentials"],
                    "env": [
                        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        {"name": "POD_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
                    ],
                    "ports": [
                        {"name": "control", "containerPort": 8080, "protocol": "TCP"},
                        {"name": "media", "containerPort": 5004, "protocol": "UDP"},
                    ],
                    "resources": {
                        "requests": {"cpu": "50m", "memory": "128Mi"},
                        "limits": {"memory": "512Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "livenessProbe": {
                        "httpGet": {"path": "/healthz", "port": "control"},
                        "periodSeconds": 10,
                        "timeoutSeconds": 2,
                        "failureThreshold": 3,
                    },
                    "readinessProbe": {
                        "httpGet": {"path": "/readyz", "port": "control"},
                        "periodSeconds": 1,
                        "timeoutSeconds": 2,
                        "failureThreshold": 3,
                    },
                    "volumeMounts": [
                        {"name": "config", "mountPath": "/etc/sightline/config", "readOnly": True},
                        {"name": "tmp", "mountPath": "/tmp"},
                    ],
                }
            ],
            "volumes": [
                {"name": "config", "secret": {"secretName": "camera-gate", "defaultMode": 0o440}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            ],
            "tolerations": LOST_NODES,
        },
    }


def test_pod_with_everything_that_a_class_may_say() -> None:
    camera_class = {
        "agent": {"image": "other/agent:2", "pullPolicy": "Always", "pullSecrets": ["registry"]},
        "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}},
        "scheduling": {
            "nodeSelector": {"video": "yes"},
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
            "runtimeClassName": "gvisor",
        },
    }
    source = {"source": {"rtsp": {"url": "rtsp://camera.example/one", "credentialsRef": {"name": "gate-login"}}}}
    spec = build.agent_pod(plan(source, camera_class), "abc")["spec"]
    container = spec["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("other/agent:2", "Always")
    assert container["resources"] == {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    assert container["volumeMounts"][-1] == {
        "name": "credentials",
        "mountPath": "/etc/sightline/credentials/main/gate-login",
        "readOnly": True,
    }
    assert spec["volumes"][-1] == {
        "name": "credentials",
        "secret": {"secretName": "gate-login", "defaultMode": 0o440, "optional": False},
    }
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"video": "yes"}
    assert spec["tolerations"] == [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}, LOST_NODES[1]]
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("high", "gvisor")
    assert spec["affinity"] == {"nodeAffinity": {}}


@pytest.mark.parametrize(
    "source",
    [
        {"rtmp": {"url": "rtmp://media.example/live", "credentialsRef": {"name": "login"}}},
        {"whep": {"url": "https://media.example/whep", "tokenRef": {"name": "login"}}},
    ],
)
def test_every_source_gets_its_credentials(source: dict[str, Any]) -> None:
    spec = build.agent_pod(plan({"source": source}), "abc")["spec"]
    assert spec["volumes"][-1]["secret"]["secretName"] == "login"
    assert spec["containers"][0]["volumeMounts"][-1]["mountPath"] == "/etc/sightline/credentials/main/login"


def test_each_quality_gets_its_own_credentials() -> None:
    profiles = [
        {"name": "sd", "source": {"rtsp": {"url": "rtsp://camera.example/two", "credentialsRef": {"name": "login"}}}},
        {"name": "tiny", "source": {"testPattern": {}}},
    ]
    made = plan({"profiles": profiles})
    spec = build.agent_pod(made, "abc")["spec"]
    assert spec["volumes"][-1] == {
        "name": "credentials-sd",
        "secret": {"secretName": "login", "defaultMode": 0o440, "optional": False},
    }
    assert spec["containers"][0]["volumeMounts"][-1] == {
        "name": "credentials-sd",
        "mountPath": "/etc/sightline/credentials/sd/login",
        "readOnly": True,
    }
    assert [profile.name for profile in build.agent_config(made).profiles] == ["sd", "tiny"]
    # Qualities that need no Secret are news for the agent, but no reason for another pod.
    assert build.pod_hash(plan({"profiles": profiles[1:]})) == build.pod_hash(plan())
    assert build.pod_hash(made) != build.pod_hash(plan())
    assert build.credentials_hash(made.spec) != build.credentials_hash(plan().spec)


def test_the_hash_of_credentials_is_the_same_in_every_version() -> None:
    """Or all cameras would get new agents at once with the version that counts otherwise."""
    source = {"rtsp": {"url": "rtsp://camera.example/one", "credentialsRef": {"name": "login"}}}
    made = plan({"source": source, "profiles": [{"name": "sd", "source": source}]})
    assert build.credentials_hash(made.spec) == "df28d3c0135df72e"
    assert build.credentials_hash(plan({"source": {"testPattern": {}}}).spec) == "44136fa355b3678a"


def test_config_secret() -> None:
    config = build.agent_config(plan())
    made = build.config_secret(plan(), config)
    text = base64.b64decode(made.pop("data")["agent.json"])
    assert json.loads(text) == {
        "camera": {"namespace": "site", "name": "gate", "uid": "u-1"},
        "source": {"rtsp": {"url": "rtsp://camera.example/one", "transport": "Auto"}},
        "profiles": [],
        "audio": "Auto",
        "transcode": "Auto",
        "lifecycle": {"start": "OnDemand", "idleTimeout": 30.0, "startTimeout": 10.0, "connectTimeout": 20.0},
        "maxViewers": 500,
        "advertise": [],
        "ownAddresses": True,
        "tokenKeys": [KEY],
        "revision": config.revision,
    }
    assert made["metadata"]["annotations"].pop(names.HASH_ANNOTATION)
    assert made == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "camera-gate",
            "namespace": "site",
            "labels": LABELS,
            "annotations": {},
            "ownerReferences": [OWNER],
        },
        "type": "sightline.dev/agent-config",
    }


def test_service() -> None:
    made = build.service(plan(), "0123456789abcdef")
    assert made["metadata"]["annotations"].pop(names.HASH_ANNOTATION)
    assert made["metadata"]["annotations"].pop(names.CONFIG_HASH_ANNOTATION) == "0123456789abcdef"
    assert made == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "camera-gate",
            "namespace": "site",
            "labels": LABELS,
            "annotations": {},
            "ownerReferences": [OWNER],
        },
        "spec": {
            "type": "ClusterIP",
            "ipFamilyPolicy": "PreferDualStack",
            "selector": {"sightline.dev/camera": "gate", "app.kubernetes.io/component": "agent"},
            "ports": [
                {"name": "control", "port": 8080, "targetPort": "control", "protocol": "TCP"},
                {"name": "media", "port": 5004, "targetPort": "media", "protocol": "UDP"},
            ],
        },
    }


@pytest.mark.parametrize(
    ("spec", "camera_class", "another_pod"),
    [
        ({"source": {"rtsp": {"url": "rtsp://camera.example/two"}}}, {}, False),
        ({"lifecycle": {"idleTimeout": "60s"}}, {}, False),
        ({"access": {"maxViewers": 3}}, {}, False),
        ({"presentation": {"title": "Gate"}}, {}, False),
        ({}, {"network": {"advertise": ["192.0.2.1"]}}, False),
        ({"source": {"testPattern": {}}}, {}, False),
        (
            {"source": {"rtsp": {"url": "rtsp://camera.example/one", "credentialsRef": {"name": "login"}}}},
            {},
            True,
        ),
        ({}, {"agent": {"image": "agent:2"}}, True),
        ({}, {"scheduling": {"nodeSelector": {"video": "yes"}}}, True),
        ({}, {"resources": {"limits": {"memory": "1Gi"}}}, True),
    ],
)
def test_what_needs_another_pod(spec: dict[str, Any], camera_class: dict[str, Any], another_pod: bool) -> None:
    assert (build.pod_hash(plan(spec, camera_class)) != build.pod_hash(plan())) is another_pod
    edited = build.credentials_hash(plan(spec, camera_class).spec) != build.credentials_hash(plan().spec)
    assert edited is bool(another_pod and spec)


def test_the_revision_covers_keys_and_limits() -> None:
    base = build.agent_config(plan())
    fewer = build.agent_config(plan({}, {"limits": {"maxViewers": 7}}))
    assert fewer.max_viewers == 7
    assert fewer.revision != base.revision
    assert build.agent_config(plan()).revision == base.revision


def test_an_attempt_is_noted_and_does_not_count_as_a_change() -> None:
    pod = build.agent_pod(plan(), "abc", attempt=3)
    assert pod["metadata"]["annotations"] == {
        "sightline.dev/desired-hash": build.pod_hash(plan()),
        "sightline.dev/credentials-hash": build.credentials_hash(plan().spec),
        "sightline.dev/attempt": "3",
    }
