"""Errors as people and machines read them: RFC 9457 problem details with a stable code.

The agent makes them, the front door passes them on or makes its own, the player shows them. `code` is the contract;
title and detail are for people and may change.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, computed_field

from sightline_model.base import LenientModel
from sightline_model.reasons import SourceReason

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "https://sightline.dev/problems/"


class ProblemCode(StrEnum):
    """Stable codes; each has one HTTP status and a title (`_TABLE`)."""

    INVALID_REQUEST = "invalid-request"
    INVALID_SDP = "invalid-sdp"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    CAMERA_NOT_FOUND = "camera-not-found"
    SESSION_NOT_FOUND = "session-not-found"
    PROFILE_NOT_FOUND = "profile-not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    CONFLICT = "conflict"
    ALREADY_EXISTS = "already-exists"
    PRECONDITION_FAILED = "precondition-failed"
    PRECONDITION_REQUIRED = "precondition-required"
    BODY_TOO_LARGE = "body-too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    INVALID_CAMERA = "invalid-camera"
    CODEC_NOT_OFFERED = "codec-not-offered"
    NOT_SUPPORTED_YET = "not-supported-yet"
    TOO_MANY_REQUESTS = "too-many-requests"
    TOO_MANY_VIEWERS = "too-many-viewers"
    CAMERA_NOT_READY = "camera-not-ready"
    AGENT_UNAVAILABLE = "agent-unavailable"
    AGENT_OVERLOADED = "agent-overloaded"
    CLUSTER_UNAVAILABLE = "cluster-unavailable"
    ISSUER_UNAVAILABLE = "issuer-unavailable"
    STOPPING = "stopping"
    SOURCE_NOT_READY = "source-not-ready"
    SOURCE_UNREACHABLE = "source-unreachable"
    SOURCE_AUTHENTICATION_FAILED = "source-authentication-failed"
    SOURCE_NO_FRAMES = "source-no-frames"
    SOURCE_CODEC_UNSUPPORTED = "source-codec-unsupported"
    SOURCE_NOT_FOUND = "source-not-found"
    SOURCE_STALLED = "source-stalled"
    SOURCE_PROTOCOL_ERROR = "source-protocol-error"
    INTERNAL = "internal"


_C = ProblemCode
_TABLE: dict[ProblemCode, tuple[int, str]] = {
    _C.INVALID_REQUEST: (400, "The request is not valid"),
    _C.INVALID_SDP: (400, "The session description is not valid"),
    _C.UNAUTHENTICATED: (401, "Sign in to continue"),
    _C.FORBIDDEN: (403, "You do not have the right to do this"),
    _C.NOT_FOUND: (404, "There is nothing here"),
    _C.CAMERA_NOT_FOUND: (404, "There is no such camera"),
    _C.SESSION_NOT_FOUND: (404, "There is no such session"),
    _C.PROFILE_NOT_FOUND: (404, "The camera has no such quality"),
    _C.METHOD_NOT_ALLOWED: (405, "This method is not for this resource"),
    _C.CONFLICT: (409, "Somebody else changed it meanwhile"),
    _C.ALREADY_EXISTS: (409, "It exists already"),
    _C.PRECONDITION_FAILED: (412, "The precondition does not hold"),
    _C.PRECONDITION_REQUIRED: (428, "A precondition is required"),
    _C.BODY_TOO_LARGE: (413, "The body is too large"),
    _C.UNSUPPORTED_MEDIA_TYPE: (415, "This content type is not for this resource"),
    _C.INVALID_CAMERA: (422, "The camera's description is not valid"),
    _C.CODEC_NOT_OFFERED: (422, "The offer has no codec that this camera can serve"),
    _C.NOT_SUPPORTED_YET: (422, "This version cannot do that yet"),
    _C.TOO_MANY_REQUESTS: (429, "Too many requests"),
    _C.TOO_MANY_VIEWERS: (503, "The camera has as many viewers as it may have"),
    _C.CAMERA_NOT_READY: (503, "The camera is not ready yet"),
    _C.AGENT_UNAVAILABLE: (503, "The camera's agent does not answer"),
    _C.AGENT_OVERLOADED: (503, "The camera's agent can serve no more viewers now"),
    _C.CLUSTER_UNAVAILABLE: (503, "Kubernetes does not answer"),
    _C.ISSUER_UNAVAILABLE: (503, "The sign-in service does not answer"),
    _C.STOPPING: (503, "The front door is being restarted"),
    _C.SOURCE_NOT_READY: (409, "The camera has not sent a picture yet"),
    _C.SOURCE_UNREACHABLE: (409, "The camera cannot be reached"),
    _C.SOURCE_AUTHENTICATION_FAILED: (409, "The camera refuses the credentials"),
    _C.SOURCE_NO_FRAMES: (409, "The camera sends no pictures"),
    _C.SOURCE_CODEC_UNSUPPORTED: (409, "The camera sends what browsers cannot play"),
    _C.SOURCE_NOT_FOUND: (409, "The camera has no stream at this address"),
    _C.SOURCE_STALLED: (409, "The camera stopped sending"),
    _C.SOURCE_PROTOCOL_ERROR: (409, "The camera's answer makes no sense"),
    _C.INTERNAL: (500, "Something went wrong here"),
}

_SOURCE_CODES = {
    SourceReason.UNREACHABLE: _C.SOURCE_UNREACHABLE,
    SourceReason.AUTHENTICATION_FAILED: _C.SOURCE_AUTHENTICATION_FAILED,
    SourceReason.NO_FRAMES: _C.SOURCE_NO_FRAMES,
    SourceReason.CODEC_UNSUPPORTED: _C.SOURCE_CODEC_UNSUPPORTED,
    SourceReason.NOT_FOUND: _C.SOURCE_NOT_FOUND,
    SourceReason.STALLED: _C.SOURCE_STALLED,
    SourceReason.PROTOCOL_ERROR: _C.SOURCE_PROTOCOL_ERROR,
}


class FieldError(LenientModel):
    """What is wrong with one field."""

    field: str
    message: str


class Problem(LenientModel):
    """An application/problem+json body."""

    code: ProblemCode
    detail: str = ""
    reason: SourceReason | None = None
    retry_after_seconds: Annotated[int | None, Field(ge=0)] = None
    errors: list[FieldError] | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def type(self) -> str:
        """Identifies the problem; leads to its page in the documentation."""
        return f"{TYPE_PREFIX}{self.code}"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def title(self) -> str:
        """The problem in one short sentence, the same each time."""
        return _TABLE[self.code][1]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def status(self) -> int:
        """The HTTP status."""
        return _TABLE[self.code][0]


def source_problem(reason: SourceReason, detail: str, retry_after_seconds: int) -> Problem:
    """The problem that tells a viewer why the source gives no picture."""
    code = _SOURCE_CODES.get(reason, ProblemCode.SOURCE_NOT_READY)
    return Problem(code=code, detail=detail, reason=reason, retry_after_seconds=retry_after_seconds)
