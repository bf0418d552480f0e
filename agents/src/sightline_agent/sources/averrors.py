"""The border to FFmpeg: each of PyAV's error classes becomes a reason and a sentence.

FFmpeg's own texts repeat the address, and an RTMP address holds a stream key, so nothing of them is kept. The table is
read from the top; the last row takes every error that FFmpeg may invent. `tests` prove that no class is forgotten.
"""

import builtins
from dataclasses import dataclass
from typing import Any

from sightline_agent.sources.base import SourceError
from sightline_model.reasons import SourceReason

_R = SourceReason


@dataclass(frozen=True, slots=True)
class Row:
    """Names of PyAV's classes, and what they mean; `{it}` in the sentence is the source."""

    names: tuple[str, ...]
    reason: SourceReason
    sentence: str


TABLE = (
    Row(("HTTPUnauthorizedError", "HTTPForbiddenError"), _R.AUTHENTICATION_FAILED, "{it} may not be read: forbidden"),
    Row(("PermissionError",), _R.AUTHENTICATION_FAILED, "{it} may not be read"),
    Row(
        ("HTTPNotFoundError", "FileNotFoundError", "NotADirectoryError", "IsADirectoryError"),
        _R.NOT_FOUND,
        "{it} is not there",
    ),
    Row(("HTTPServerError", "HTTPTooManyRequestsError"), _R.UNREACHABLE, "the server of {it} has a failure of its own"),
    Row(
        ("HTTPBadRequestError", "HTTPOtherClientError", "HTTPClientError", "HTTPError"),
        _R.PROTOCOL_ERROR,
        "the server of {it} refuses the request",
    ),
    Row(("ConnectionRefusedError",), _R.UNREACHABLE, "{it} cannot be reached: the connection is refused"),
    Row(
        ("ConnectionResetError", "ConnectionAbortedError", "BrokenPipeError", "EOFError"),
        _R.UNREACHABLE,
        "the connection to {it} was closed by the other side",
    ),
    Row(("TimeoutError", "ExitError"), _R.UNREACHABLE, "{it} does not answer in time"),
    Row(
        ("DecoderNotFoundError", "EncoderNotFoundError", "PatchWelcomeError", "NotImplementedError"),
        _R.CODEC_UNSUPPORTED,
        "{it} uses something that cannot be decoded here",
    ),
    Row(
        (
            "InvalidDataError",
            "DemuxerNotFoundError",
            "ProtocolNotFoundError",
            "MuxerNotFoundError",
            "BSFNotFoundError",
            "FilterNotFoundError",
            "OptionNotFoundError",
            "LookupError",
            "ArgumentError",
            "OverflowError",
            "InputChangedError",
            "OutputChangedError",
        ),
        _R.PROTOCOL_ERROR,
        "{it} is nothing that can be read as video",
    ),
    Row(("OSError", "FFmpegError"), _R.UNREACHABLE, "{it} cannot be read"),
)


def translated(error: BaseException, it: str, special: tuple[Row, ...] = ()) -> SourceError:
    """The SourceError for an error of PyAV; rows in `special` come first. `it` is a phrase such as "the file"."""
    import av.error

    for row in (*special, *TABLE):
        if isinstance(error, tuple(_classes(av.error, row.names))):
            return SourceError(row.reason, row.sentence.format(it=it))
    return SourceError(_R.UNREACHABLE, f"{it} cannot be read")


def _classes(module: Any, names: tuple[str, ...]) -> list[type[BaseException]]:
    # Not every version of PyAV has every class. Python's own of the same name comes from opening a path, for example.
    found = [getattr(where, name, None) for name in names for where in (module, builtins)]
    return [one for one in found if one is not None]
