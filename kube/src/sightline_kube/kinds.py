"""The kinds of objects that Sightline reads or writes, and where the API server serves them."""

from dataclasses import dataclass

from sightline_model.base import API_VERSION


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the Kubernetes API."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of the collection or of one object; no namespace means all namespaces."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        if self.namespaced and namespace:
            root += f"/namespaces/{namespace}"
        root += f"/{self.plural}"
        return f"{root}/{name}" if name else root


CAMERA = Kind(API_VERSION, "Camera", "cameras")
CAMERA_CLASS = Kind(API_VERSION, "CameraClass", "cameraclasses", namespaced=False)
STREAM_SESSION = Kind(API_VERSION, "StreamSession", "streamsessions")
POD = Kind("v1", "Pod", "pods")
SECRET = Kind("v1", "Secret", "secrets")
SERVICE = Kind("v1", "Service", "services")
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
EVENT = Kind("v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
NODE = Kind("v1", "Node", "nodes", namespaced=False)
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False)
UDP_ROUTE = Kind("stunner.l7mp.io/v1", "UDPRoute", "udproutes")

KINDS = (
    CAMERA,
    CAMERA_CLASS,
    STREAM_SESSION,
    POD,
    SECRET,
    SERVICE,
    NAMESPACE,
    EVENT,
    LEASE,
    NODE,
    POD_DISRUPTION_BUDGET,
    CLUSTER_ROLE,
    UDP_ROUTE,
)


def kind_of(obj: dict[str, object]) -> Kind:
    """The Kind of an object that carries apiVersion and kind; KeyError if it is none of ours."""
    return _BY_NAME[str(obj.get("apiVersion")), str(obj.get("kind"))]


_BY_NAME = {(kind.api_version, kind.kind): kind for kind in KINDS}
