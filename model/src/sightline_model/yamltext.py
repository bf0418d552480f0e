"""JSON data as YAML text, just enough for generated manifests: block style, strings quoted unless plainly harmless.

A YAML library would be the only reason for this package to depend on one.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./$-]*(?: [A-Za-z0-9_./$(-][A-Za-z0-9_./$(),;-]*)*", re.ASCII)
# What YAML 1.1 readers take for something else than a string.
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "never"})


def to_yaml(value: dict[str, Any]) -> str:
    """A YAML document."""
    return "\n".join(_block(value, 0)) + "\n"


def _block(value: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, dict) and value:
        for key, item in value.items():
            if _is_nested(item):
                yield f"{indent}{_scalar(key)}:"
                yield from _block(item, depth + (0 if isinstance(item, list) else 1))
            else:
                yield f"{indent}{_scalar(key)}: {_scalar(item)}"
    elif isinstance(value, list) and value:
        for item in value:
            if not _is_nested(item):
                yield f"{indent}- {_scalar(item)}"
                continue
            first, *rest = _block(item, depth + 1)
            yield f"{indent}- {first.lstrip()}"
            yield from rest
    else:
        yield f"{indent}{_scalar(value)}"


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    # JSON's escapes are YAML's too, within the basic multilingual plane.
    return json.dumps(value, ensure_ascii=isinstance(value, str) and not value.isprintable())
