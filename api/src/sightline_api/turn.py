"""What a viewer's peer connection needs beside the answer: STUN and TURN servers, with credentials of its own.

Credentials are those of the TURN REST interface that coturn, STUNner and others know: the user name holds the time at
which they end, the password is an HMAC of it with a secret that server and front door share. The secret is a mounted
file, named by the camera's class; it is read for each viewer, so that a changed one counts at once.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

import structlog

from sightline_api.cameras import CameraState
from sightline_api.recorder import user_label
from sightline_api.schemas import IceServerView, WebrtcConfig
from sightline_api.settings import IceServer
from sightline_model.cameraclass import NetworkMode

KEY = "secret"
LIFE_SECONDS = 3600
"""coturn looks at the time when a relay is allocated, others at each refresh too: then a player connects anew."""

_log = structlog.get_logger(__name__)


class TurnSecrets:
    """The shared secrets by the names of their Kubernetes Secrets."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def read(self, name: str) -> bytes:
        """The secret; empty where there is none."""
        # Names come from Camera.status, which only the operator writes; a path that leads elsewhere is no name.
        if self._directory is None or "/" in name or name in ("", ".", ".."):
            return b""
        try:
            return (self._directory / name / KEY).read_bytes().strip()
        except OSError as error:
            _log.warning("the secret of a TURN server cannot be read", secret=name, error=error.strerror)
            return b""


def credentials(secret: bytes, user: str, now: float) -> tuple[str, str]:
    """User name and password for a TURN server; the user is told to it as a hash only."""
    name = f"{int(now) + LIFE_SECONDS}:{user_label(user)}"
    digest = hmac.digest(secret, name.encode(), hashlib.sha1)
    return name, base64.b64encode(digest).decode()


def own_servers(servers: list[IceServer]) -> list[IceServerView]:
    """The servers of the front door's settings."""
    return [
        IceServerView(
            urls=server.urls,
            username=server.username or None,
            credential=server.credential.get_secret_value() or None,
        )
        for server in servers
    ]


def config_for(
    camera: CameraState, own: list[IceServerView], mint: Callable[[str], tuple[str, str] | None]
) -> WebrtcConfig:
    """What viewers of the camera are told; `mint` makes credentials from a named secret, if there is one."""
    network = camera.status.network
    if network is None:
        return WebrtcConfig(ice_servers=own)
    servers = [*own, *(IceServerView(urls=server.urls) for server in network.ice_servers)]
    made = mint(network.turn.secret_ref) if network.turn else None
    if network.turn and made:
        servers.append(IceServerView(urls=network.turn.urls, username=made[0], credential=made[1]))
    relayed = network.mode == NetworkMode.RELAY
    return WebrtcConfig(ice_servers=servers, ice_transport_policy="relay" if relayed else "all")
