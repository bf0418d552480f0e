"""Pages of a sorted list: the opaque `continue` names the last key of the page before.

So a page needs nothing remembered, any replica serves the next one, and an object that came or went in between neither
repeats nor hides another.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

from sightline_api.problems import problem_error
from sightline_model.problems import ProblemCode

MAX_LIMIT = 500
MAX_CONTINUE = 1024

T = TypeVar("T")
PageKey = tuple[str, str]


def page(items: Iterable[T], key: Callable[[T], PageKey], limit: int, after: str | None) -> tuple[list[T], str | None]:
    """The first `limit` of `items` (sorted by `key`) after the point that `after` names, and how to go on.

    Takes no more of `items` than it needs, so a generator that filters does not filter the rest.
    """
    taken = list(islice(beyond(items, key, after), limit + 1))
    return taken[:limit], _encode(key(taken[limit - 1])) if len(taken) > limit else None


def beyond(items: Iterable[T], key: Callable[[T], PageKey], after: str | None) -> Iterable[T]:
    """The items after the point that `after` names."""
    if not after:
        return items
    last = _decode(after)
    return (item for item in items if key(item) > last)


def _encode(key: PageKey) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _decode(text: str) -> PageKey:
    try:
        value = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        namespace, name = value
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise problem_error(ProblemCode.INVALID_REQUEST, "`continue` is not one that we gave.") from error
    if not (isinstance(namespace, str) and isinstance(name, str)):
        raise problem_error(ProblemCode.INVALID_REQUEST, "`continue` is not one that we gave.")
    return namespace, name
