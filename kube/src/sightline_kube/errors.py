"""What can go wrong at the port.

ClusterError
+-- NotFoundError         404: it is not there (any more)
+-- AlreadyExistsError    409 on create
+-- ConflictError         409: resourceVersion or uid is not the one expected; read again
+-- InvalidError          422 or 400: the API server refuses the object; the message says what to do
+-- ForbiddenError        403: RBAC, quota or Pod Security; a person has to act
+-- UnauthenticatedError  401: our own credentials are not accepted
+-- GoneError             410: the watch's resourceVersion is too old; list again
+-- UnavailableError      429, 5xx, time-outs, broken connections: try again, after `retry_after` if it is given
"""


class ClusterError(Exception):
    """The base of all; its text is fit for people."""


class NotFoundError(ClusterError):
    """It is not there."""


class AlreadyExistsError(ClusterError):
    """An object of that name is there."""


class ConflictError(ClusterError):
    """Somebody else was faster."""


class InvalidError(ClusterError):
    """The object is refused."""


class ForbiddenError(ClusterError):
    """It may not be done."""


class UnauthenticatedError(ClusterError):
    """The caller's own credentials are not accepted."""


class GoneError(ClusterError):
    """The watch cannot go on from there."""


class UnavailableError(ClusterError):
    """Not now."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
