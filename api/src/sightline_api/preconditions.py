"""What must still be true of a camera for a change to be made: `If-Match` (RFC 9110, section 13.1.1) for the routes.

An entity tag is the object's resourceVersion in quotes, so it says the same as `resourceVersion` in a body, which is
older than the header here and answers 409 instead of 412.
"""

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header

from sightline_api.problems import ProblemError, problem_error
from sightline_kube.cluster import Obj
from sightline_kube.errors import ConflictError
from sightline_model.problems import ProblemCode

_ANY = "*"
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def changed() -> ProblemError:
    """The answer to an If-Match that does not hold."""
    return problem_error(ProblemCode.PRECONDITION_FAILED, "The camera has changed since it was read.")


def entity_tag(obj: Obj) -> str:
    """The tag of an object as it is."""
    return f'"{obj["metadata"].get("resourceVersion", "")}"'


@dataclass(frozen=True, slots=True)
class Expected:
    """What the caller knows of the object that is to be changed; nothing by default."""

    version: str | None = None
    """The body's resourceVersion."""
    tags: frozenset[str] | None = None
    """The tags of If-Match, of which one must be the object's."""

    @property
    def asks(self) -> bool:
        """Whether it matters which version of the object is there."""
        return self.version is not None or (self.tags is not None and _ANY not in self.tags)

    def require(self, obj: Obj) -> None:
        """ProblemError, or ConflictError, unless it is so."""
        if self.tags is not None and not self.tags & {_ANY, entity_tag(obj)}:
            raise changed()
        if self.version and obj["metadata"].get("resourceVersion") != self.version:
            raise ConflictError("the camera has changed since it was read")


def _tags(
    if_match: Annotated[
        list[str] | None,
        Header(
            alias="If-Match",
            description="The `ETag` of what was read: refused (412) if the camera is no longer as it was then.",
            examples=[['"1234"']],
        ),
    ] = None,
) -> frozenset[str] | None:
    """The tags that the header names, each as it is written; weak ones equal none of ours, as they should."""
    if if_match is None:
        return None
    text = ",".join(if_match)
    if text.strip(" \t") == _ANY:
        return frozenset({_ANY})
    found = frozenset(_TAG.findall(text))
    between = {part.strip(" \t") for part in _TAG.sub("\0", text).split(",")}  # a tag may hold a comma
    if not found or between - {"", "\0"}:
        raise problem_error(ProblemCode.INVALID_REQUEST, 'If-Match: entity tags such as "1234", or *, are wanted.')
    return found


IfMatch = Annotated[frozenset[str] | None, Depends(_tags)]
"""The tags of the request's If-Match."""
