"""Objects and facts for the tests of decisions: dicts as the API server would send them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_model.agent import AgentReport, CameraIdentity, SessionReport, SourceReport
from sightline_model.base import API_VERSION
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionPhase
from sightline_operator import accept, build, pods
from sightline_operator.build import Plan
from sightline_operator.facts import AgentView, CameraFacts, LinkState, Options, SessionFacts

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
OPTIONS = Options(agent_image="agent:1", token_keys=({"kty": "OKP", "kid": "k1"},))


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def camera(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any) -> Obj:
    source = {"source": {"rtsp": {"url": "rtsp://camera.example/one"}}}
    return {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {
            "name": "gate",
            "namespace": "site",
            "uid": "u-1",
            "generation": 1,
            "creationTimestamp": text(ago(3600)),
            **metadata,
        },
        "spec": source if spec is None else spec,
        "status": status or {},
    }


def camera_class(spec: dict[str, Any] | None = None) -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": "CameraClass",
        "metadata": {"name": "default", "generation": 1},
        "spec": spec or {},
    }


def facts(**changes: Any) -> CameraFacts:
    """A camera with its class and nothing made yet."""
    values: dict[str, Any] = {
        "namespace": "site",
        "name": "gate",
        "camera": camera(),
        "class_name": "default",
        "camera_class": camera_class(),
        "pods": (),
        "service": None,
        "links": {},
        "options": OPTIONS,
        "fresh_suffix": "new",
    }
    return CameraFacts(**(values | changes))


def plan_of(given: CameraFacts) -> Plan:
    accepted = accept.camera(given)
    assert accepted.spec
    assert accepted.camera_class
    return Plan("site", "gate", "u-1", "default", accepted.spec, accepted.camera_class, given.options)


def running(age: float = 60.0, ip: str = "10.0.0.1") -> dict[str, Any]:
    return {
        "phase": "Running",
        "podIP": ip,
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": text(ago(age))}],
        "containerStatuses": [{"name": "agent", "state": {"running": {"startedAt": text(ago(age))}}}],
    }


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "agent", "state": state, **more}]}


def pod(suffix: str = "one", status: dict[str, Any] | None = None, age: float = 60.0, **metadata: Any) -> Obj:
    """A pod as the operator would have made it for the camera of `facts()`."""
    made = build.agent_pod(plan_of(facts()), suffix)
    created = {"uid": f"p-{suffix}", "creationTimestamp": text(ago(age))}
    return {
        **made,
        "metadata": {**made["metadata"], **created, **metadata},
        "spec": {**made["spec"], "nodeName": "node-1"},
        "status": running(age) if status is None else status,
    }


def revision() -> str:
    return build.agent_config(plan_of(facts())).revision


def report(
    reason: SourceReason = SourceReason.IDLE, verified: bool = True, *, uid: str = "u-1", **more: Any
) -> AgentReport:
    return AgentReport(
        camera=CameraIdentity(namespace="site", name="gate", uid=uid),
        version="1.2",
        instance="i-1",
        revision=more.pop("revision", None) or revision(),
        started_at=ago(60),
        source=SourceReport(reason=reason, verified=verified, **more),
    )


def link(*sessions: SessionReport, **changes: Any) -> LinkState:
    values: dict[str, Any] = {
        "connected": True,
        "report": report(),
        "sessions": {session.id: session for session in sessions},
        "followed_at": ago(60),
        "changed_at": ago(60),
    }
    return LinkState(**(values | changes))


def children(given: CameraFacts) -> dict[str, Any]:
    """The Service as it should be."""
    plan = plan_of(given)
    secret = build.config_secret(plan, build.agent_config(plan))
    service = build.service(plan, pods.desired_hash(secret))
    service["metadata"]["uid"] = "sv-1"
    service["spec"]["clusterIP"] = "10.96.0.7"
    return {"service": service}


def well(**changes: Any) -> CameraFacts:
    """Everything there, the agent connected."""
    values: dict[str, Any] = {"pods": (pod(),), "links": {"camera-gate-one": link()}, **children(facts())}
    return facts(**(values | changes))


def session(status: dict[str, Any] | None = None, age: float = 10.0, **spec: Any) -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": "StreamSession",
        "metadata": {
            "name": "s-1",
            "namespace": "site",
            "uid": "ss-1",
            "generation": 1,
            "creationTimestamp": text(ago(age)),
            "labels": {names.USER_LABEL: "x"},
        },
        "spec": {"cameraRef": {"name": "gate"}, "user": "alice", **spec},
        "status": status or {},
    }


def session_report(
    phase: SessionPhase, end: EndReason | None = None, message: str = "", age: float = 5.0
) -> SessionReport:
    return SessionReport(
        id="s-1",
        user="alice",
        phase=phase,
        end_reason=end,
        message=message,
        requested_at=ago(age),
        answered_at=ago(age - 1),
        connected_at=ago(age - 2) if phase is not SessionPhase.CONNECTING else None,
        ended_at=NOW if phase is SessionPhase.ENDED else None,
    )


def session_facts(*agents: AgentView, **changes: Any) -> SessionFacts:
    values: dict[str, Any] = {
        "namespace": "site",
        "name": "s-1",
        "session": session(),
        "revoked": False,
        "camera": camera(),
        "camera_class": camera_class(),
        "agents": agents,
        "public_url": "",
    }
    return SessionFacts(**(values | changes))
