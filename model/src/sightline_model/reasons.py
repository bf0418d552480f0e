"""The closed lists of condition types and reasons: the part of a status that scripts, alerts and people rely on.

A reason is never renamed and never used for two things; `docs/reference/conditions.md` lists them with what to do, and
a contract test keeps the two in step.
"""

from enum import StrEnum


class ConditionType(StrEnum):
    """What a condition answers. Camera has the first seven, CameraClass `Accepted`, `RolledOut` and, where it asks for
    spare agents, `SparesReady`; StreamSession the last three."""

    ACCEPTED = "Accepted"
    AGENT_READY = "AgentReady"
    NETWORK_READY = "NetworkReady"
    SOURCE_READY = "SourceReady"
    LIVE = "Live"
    OUTPUTS_READY = "OutputsReady"
    READY = "Ready"
    ROLLED_OUT = "RolledOut"
    SPARES_READY = "SparesReady"
    AUTHORIZED = "Authorized"
    CONNECTED = "Connected"
    ENDED = "Ended"


class ConditionStatus(StrEnum):
    """Kubernetes' three-valued truth."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


PENDING = "Pending"
"""The reason of every condition that the operator has not looked at yet."""


class AcceptedReason(StrEnum):
    """Is the spec something that this version can run?"""

    ACCEPTED = "Accepted"
    PAUSED = "Paused"
    INVALID = "Invalid"
    NOT_SUPPORTED_YET = "NotSupportedYet"
    CLASS_NOT_FOUND = "ClassNotFound"
    CLASS_NOT_ACCEPTED = "ClassNotAccepted"


class AgentReason(StrEnum):
    """Does the camera have an agent that answers?"""

    READY = "Ready"
    STARTING = "Starting"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CRASH_LOOP = "CrashLoop"
    AGENT_ENDED = "AgentEnded"
    POD_FAILED = "PodFailed"
    POD_REFUSED = "PodRefused"
    QUOTA_EXCEEDED = "QuotaExceeded"
    NODE_LOST = "NodeLost"
    UNREACHABLE = "Unreachable"
    UNRESPONSIVE = "Unresponsive"
    WRONG_VERSION = "WrongVersion"
    SCALED_TO_ZERO = "ScaledToZero"
    NOT_WANTED = "NotWanted"


class NetworkReason(StrEnum):
    """Has the agent an address that viewers may reach?"""

    ADDRESS_PUBLISHED = "AddressPublished"
    ADDRESS_PENDING = "AddressPending"
    SCALED_TO_ZERO = "ScaledToZero"
    PORTS_EXHAUSTED = "PortsExhausted"
    ROUTE_REFUSED = "RouteRefused"
    PROBING = "Probing"
    PROBE_FAILED = "ProbeFailed"
    TURN_SECRET_MISSING = "TurnSecretMissing"  # noqa: S105 - a reason, no secret


class SourceReason(StrEnum):
    """What is the source doing, and if it does not work, why? Agents report these; the operator copies them."""

    IDLE = "Idle"
    CONNECTING = "Connecting"
    STREAMING = "Streaming"
    UNREACHABLE = "Unreachable"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    NO_FRAMES = "NoFrames"
    CODEC_UNSUPPORTED = "CodecUnsupported"
    NOT_FOUND = "NotFound"
    WAITING_FOR_PUBLISHER = "WaitingForPublisher"
    DEVICE_OFFLINE = "DeviceOffline"
    STALLED = "Stalled"
    PROTOCOL_ERROR = "ProtocolError"

    @property
    def failed(self) -> bool:
        """True where somebody has to act, or the camera has to come back, before a frame can be shown."""
        return self in _FAILED_SOURCE


_FAILED_SOURCE = frozenset(
    {
        SourceReason.UNREACHABLE,
        SourceReason.AUTHENTICATION_FAILED,
        SourceReason.NO_FRAMES,
        SourceReason.CODEC_UNSUPPORTED,
        SourceReason.NOT_FOUND,
        SourceReason.DEVICE_OFFLINE,
        SourceReason.STALLED,
        SourceReason.PROTOCOL_ERROR,
    }
)


class LiveReason(StrEnum):
    """Does the camera send pictures at this moment?"""

    STREAMING = "Streaming"
    NOT_STREAMING = "NotStreaming"


class OutputsReason(StrEnum):
    """Do the restream targets receive?"""

    NO_OUTPUTS = "NoOutputs"


class ReadyReason(StrEnum):
    """The summary: could somebody watch now?"""

    READY = "Ready"
    SCALED_TO_ZERO = "ScaledToZero"
    NOT_ACCEPTED = "NotAccepted"
    AGENT_NOT_READY = "AgentNotReady"
    NETWORK_NOT_READY = "NetworkNotReady"
    SOURCE_NOT_READY = "SourceNotReady"
    DELETING = "Deleting"


class RolledOutReason(StrEnum):
    """Do all agents of a class run what it asks for?"""

    UP_TO_DATE = "UpToDate"
    MOVING = "Moving"


class SparesReason(StrEnum):
    """Do as many spare agents wait as a class asks for?"""

    READY = "Ready"
    STARTING = "Starting"
    NO_CAMERA = "NoCamera"
    NOT_SWITCHED_ON = "NotSwitchedOn"
    REFUSED = "Refused"


class AuthorizedReason(StrEnum):
    """May the session's user do what the session asks for?"""

    GRANTED = "Granted"
    FRONT_DOOR = "FrontDoor"
    CAMERA_NOT_FOUND = "CameraNotFound"


class ConnectedReason(StrEnum):
    """Does media flow between the agent and the peer?"""

    WAITING_FOR_AGENT = "WaitingForAgent"
    CONNECTING = "Connecting"
    STREAMING = "Streaming"
    DISCONNECTED = "Disconnected"


class EndReason(StrEnum):
    """Why a session ended; the reason of the `Ended` condition and `status.endReason`."""

    HANGUP = "Hangup"
    REJECTED = "Rejected"
    CONNECT_TIMEOUT = "ConnectTimeout"
    ACK_TIMEOUT = "AckTimeout"
    SOCKET_LOST = "SocketLost"
    EXPIRED = "Expired"
    MAX_DURATION = "MaxDuration"
    IDLE = "Idle"
    REVOKED = "Revoked"
    SUPERSEDED = "Superseded"
    AGENT_LOST = "AgentLost"
    MOVED = "Moved"
    SOURCE_LOST = "SourceLost"
    CAMERA_DELETED = "CameraDeleted"
