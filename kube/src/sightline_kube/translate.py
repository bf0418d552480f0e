"""The border where answers of the API server become `errors.ClusterError`: one table, total by its last rows.

An answer is told by its HTTP status and by the `reason` of the `Status` object in its body; the same object comes as an
ERROR event inside a watch, then its `code` stands for the HTTP status.
"""

import re
from collections.abc import Mapping
from typing import Any

from sightline_kube.errors import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)

# Reasons of our own, for answers that Kubernetes words badly.
_OTHER_UID = "OtherUid"
_NO_SUCH_FIELD = "NoSuchField"

BY_REASON: Mapping[tuple[int, str], type[ClusterError]] = {
    (409, "AlreadyExists"): AlreadyExistsError,
    (422, _OTHER_UID): ConflictError,
    (500, _NO_SUCH_FIELD): InvalidError,
}
BY_STATUS: Mapping[int, type[ClusterError]] = {
    400: InvalidError,
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: InvalidError,
    406: InvalidError,
    408: UnavailableError,
    409: ConflictError,
    410: GoneError,
    413: InvalidError,
    415: InvalidError,
    422: InvalidError,
    429: UnavailableError,
}
_USERINFO = re.compile(r"(?<=://)[^\s\"'<>]*@")  # to the last @ before a space or a quote: a password may hold / and @
_MESSAGE_BOUND = 2048
_LONGEST_PAUSE = 60.0
"""Seconds of a Retry-After that are believed: API servers ask for a few, what stands before them for hours."""


def error_of(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None, what: str = ""
) -> ClusterError:
    """The error that an answer stands for."""
    reason = _reason(status, body)
    words = str(body.get("message") or reason or f"HTTP {status}")
    message = f"{what}: {without_credentials(words)}" if what else without_credentials(words)
    kind = error_class(status, reason)
    if kind is UnavailableError:
        return UnavailableError(message, _retry_after(body, headers or {}))
    return kind(message)


def error_class(status: int, reason: str = "") -> type[ClusterError]:
    """The class for a status: by reason, by status, by hundred. What is no error answer at all was not understood, and
    may be so for a moment only: a proxy that redirects to its sign-in page, for example."""
    named = BY_REASON.get((status, reason)) or BY_STATUS.get(status)
    if named:
        return named
    return InvalidError if 400 <= status < 500 else UnavailableError


def without_credentials(text: str) -> str:
    """The text without user names and passwords in URLs, as long as a log line may be at most.

    The API server repeats refused values in its messages.
    """
    return _USERINFO.sub("***@", text)[:_MESSAGE_BOUND]


def _reason(status: int, body: Mapping[str, Any]) -> str:
    """The reason of an answer. An apply that names another object's uid is called invalid by Kubernetes, and one with a
    field that its schema does not have an internal error (seen with 1.37)."""
    details = body.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    if any(isinstance(cause, dict) and cause.get("field") == "metadata.uid" for cause in causes or []):
        return _OTHER_UID
    if status == 500 and str(body.get("message") or "").startswith("failed to create typed patch object"):
        return _NO_SUCH_FIELD
    return str(body.get("reason") or "")


def _retry_after(body: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    details = body.get("details")
    told = headers.get("Retry-After") or (details.get("retryAfterSeconds") if isinstance(details, dict) else None)
    try:
        return min(max(0.0, float(told)), _LONGEST_PAUSE) if told else None
    except (TypeError, ValueError):  # a date is allowed by HTTP, and not used by Kubernetes
        return None
