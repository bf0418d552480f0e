"""Names, labels and annotations of everything that Sightline makes.

Guarantees: every name is a DNS label of at most 63 characters; the Secret and the Service of a camera have one name
each for the camera's whole life; pods of one camera never share a name in a cluster's memory, because their suffix is
drawn at random. A camera's name has at most 52 characters (`base.MAX_CAMERA_NAME`), so no name is ever cut.
"""

import hashlib
import json
import secrets
from collections.abc import Callable
from typing import Any

from sightline_model.base import GROUP

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
NAME_LABEL = "app.kubernetes.io/name"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY = "sightline-operator"
CAMERA_LABEL = f"{GROUP}/camera"
CLASS_LABEL = f"{GROUP}/class"
AGENT_LABEL = f"{GROUP}/agent"
"""On a pod its own name, so that a Service can lead to this one alone; on that Service the pod's name."""
SPARE_LABEL = f"{GROUP}/spare"
"""On pods that began as spare agents: SPARE_WAITING, and SPARE_ADOPTED once they serve a camera."""
SPARE_WAITING = "waiting"
SPARE_ADOPTED = "adopted"
SPARE_KEYS_ANNOTATION = f"{GROUP}/spare-keys"
"""On the same pods: ids of the public keys that their process trusts whenever it starts."""
USER_LABEL = f"{GROUP}/user"
"""On sessions that the front door made: a hash of whom for."""
HASH_ANNOTATION = f"{GROUP}/desired-hash"
CONFIG_HASH_ANNOTATION = f"{GROUP}/config-hash"
"""On a camera's Service: the hash of the config Secret that was applied last, for nobody reads Secrets."""
ROUTE_HASH_ANNOTATION = f"{GROUP}/route-hash"
"""On a camera's Service: the hash of the UDPRoute that was applied last, for routes are not watched."""
AGENT_SECRET_TYPE = f"{GROUP}/agent-config"
"""The type of config Secrets. A type cannot be changed, so an apply of ours never takes over another Secret."""
SIGNING_KEY_FILE = "/etc/sightline/keys/signing.pem"
"""Where operator and front door find the key that signs media tokens."""
DEFAULT_CLASS_ANNOTATION = f"{GROUP}/is-default-class"
PAUSE_ANNOTATION = f"{GROUP}/pause"
OPERATOR_FIELD_MANAGER = "sightline-operator"
API_FIELD_MANAGER = "sightline-api"


def random_suffix(length: int, choice: Callable[[str], str] = secrets.choice) -> str:
    """`length` characters of [a-z0-9], by default from the system's CSPRNG."""
    return "".join(choice(_ALPHABET) for _ in range(length))


def new_session_id() -> str:
    """A StreamSession's name: 24 characters carry 124 bits, so it cannot be guessed."""
    return f"s-{random_suffix(24)}"


def agent_service(camera: str) -> str:
    """The Service of a camera's agent."""
    return f"camera-{camera}"


def balancer_service(camera: str) -> str:
    """The load balancer of a camera; no pod has this name, for their suffix has three characters."""
    return f"camera-{camera}-lb"


def agent_secret(camera: str) -> str:
    """The Secret with the config of a camera's agent."""
    return f"camera-{camera}"


def agent_pod(camera: str, suffix: str) -> str:
    """One generation of a camera's agent; `suffix` has 3 characters ([a-z0-9])."""
    return f"camera-{camera}-{suffix}"


def spare_pod(suffix: str) -> str:
    """A spare agent, whichever camera it comes to serve; `suffix` has 9 characters ([a-z0-9])."""
    return f"spare-{suffix}"


def spare_labels(class_name: str) -> dict[str, str]:
    """Labels of a spare agent's pod while it waits for a camera of that class."""
    return {
        NAME_LABEL: "sightline-agent",
        COMPONENT_LABEL: "agent",
        MANAGED_BY_LABEL: MANAGED_BY,
        CLASS_LABEL: class_name,
        SPARE_LABEL: SPARE_WAITING,
    }


def agent_labels(camera: str, class_name: str) -> dict[str, str]:
    """Labels of everything that is made for a camera."""
    return {
        NAME_LABEL: "sightline-agent",
        COMPONENT_LABEL: "agent",
        MANAGED_BY_LABEL: MANAGED_BY,
        CAMERA_LABEL: camera,
        CLASS_LABEL: class_name,
    }


def content_hash(value: dict[str, Any]) -> str:
    """A short, stable hash of JSON data, to tell whether what was desired has changed."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
