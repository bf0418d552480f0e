"""What the API server does to an object before it keeps it: defaults, schema, rules. For the in-memory cluster.

The messages are worded as the API server's are. Types, bounds, enums, patterns, list types, required and unknown
fields are checked as `kubectl apply` would see them (strict field validation), then the rules of `rules.Rule`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sightline_model.rules import SCHEMA_KEY, Rule
from sightline_model.schema import Schema

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "string": str,
}
_BLOCKING = ("Required value", "Too long", "Too many", "Unsupported value", "must be of type")
_UNCHECKED = (
    "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
_JSON_NAMES: Mapping[type, str] = {
    bool: "boolean",
    dict: "object",
    float: "number",
    int: "integer",
    list: "array",
    str: "string",
    type(None): "null",
}


def problems(value: Any, schema: Schema, old: Any = None, path: str = "") -> list[str]:
    """Everything that is wrong with `value`, first the schema's findings, then the broken rules."""
    found = list(_schema(value, schema, path))
    if unknown := [finding for finding in found if finding.startswith("strict")]:
        return unknown  # such a request is not even decoded
    # The API server runs no CEL on an object whose shape is wrong; neither could our predicates.
    if any(mark in finding for finding in found for mark in _BLOCKING):
        return [*found, _UNCHECKED]
    return found + list(_rules(value, schema, old, path))


def _schema(value: Any, schema: Schema, path: str) -> Iterator[str]:
    wanted = schema.get("type")
    if wanted is None:
        return
    if not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
        kind = _JSON_NAMES.get(type(value), "object")
        yield f'{path}: Invalid value: "{kind}": {path} in body must be of type {wanted}: "{kind}"'
        return
    if isinstance(value, dict):
        yield from _object(value, schema, path)
    elif isinstance(value, list):
        yield from _array(value, schema, path)
    elif isinstance(value, str):
        yield from _string(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number(value, schema, path)
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(f'"{choice}"' for choice in schema["enum"])
        yield f'{path}: Unsupported value: "{value}": supported values: {allowed}'


def _object(value: dict[str, Any], schema: Schema, path: str) -> Iterator[str]:
    if "maxProperties" in schema and len(value) > schema["maxProperties"]:
        yield f"{path}: Too many: {len(value)}: must have at most {schema['maxProperties']} items"
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{_join(path, name)}: Required value"
    for name, item in value.items():
        if name in schema.get("properties", {}):
            yield from _schema(item, schema["properties"][name], _join(path, name))
        elif "additionalProperties" in schema:
            yield from _schema(item, schema["additionalProperties"], f"{path}.{name}")
        elif "properties" in schema:
            yield f'strict decoding error: unknown field "{_join(path, name)}"'


def _array(value: list[Any], schema: Schema, path: str) -> Iterator[str]:
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        yield f"{path}: Too many: {len(value)}: must have at most {schema['maxItems']} items"
    if len(value) < schema.get("minItems", 0):
        yield f"{path}: Invalid value: {len(value)}: {path} in body should have at least {schema['minItems']} items"
    for position, item in enumerate(value):
        yield from _schema(item, schema["items"], f"{path}[{position}]")
    yield from _duplicates(value, schema, path)


def _duplicates(value: list[Any], schema: Schema, path: str) -> Iterator[str]:
    keys = schema.get("x-kubernetes-list-map-keys", [])
    if schema.get("x-kubernetes-list-type") not in ("map", "set"):
        return
    seen = []
    for position, item in enumerate(value):
        identity = {key: item.get(key) for key in keys} if keys and isinstance(item, dict) else item
        if identity in seen:
            yield f"{path}[{position}]: Duplicate value: {json.dumps(identity, separators=(',', ':'))}"
        seen.append(identity)


def _string(value: str, schema: Schema, path: str) -> Iterator[str]:
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        yield f"{path}: Too long: may not be more than {schema['maxLength']} bytes"
    if len(value) < schema.get("minLength", 0):
        yield f"{path}: Invalid value: {path} in body should be at least {schema['minLength']} chars long"
    if "pattern" in schema and not re.search(schema["pattern"].replace("$", r"\Z"), value, re.ASCII):
        yield f"{path}: Invalid value: {path} in body should match '{schema['pattern']}'"
    if schema.get("format") == "date-time" and not _is_time(value):
        yield f"{path}: Invalid value: {path} in body must be of type date-time"


def _number(value: float, schema: Schema, path: str) -> Iterator[str]:
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{path}: Invalid value: {value}: {path} in body should be greater than or equal to {schema['minimum']}"
    if "maximum" in schema and value > schema["maximum"]:
        yield f"{path}: Invalid value: {value}: {path} in body should be less than or equal to {schema['maximum']}"
    if "multipleOf" in schema and value % schema["multipleOf"]:
        yield f"{path}: Invalid value: {value}: {path} in body should be a multiple of {schema['multipleOf']}"


def _rules(value: Any, schema: Schema, old: Any, path: str) -> Iterator[str]:
    for rule in schema.get(SCHEMA_KEY, ()):
        if not _holds(rule, value, old):
            shown = "" if isinstance(value, dict | list) else f"{json.dumps(value)}: "
            yield f"{_join(path, rule.field) or '<nil>'}: Invalid value: {shown}{rule.message}"
    if isinstance(value, dict):
        for name, item in value.items():
            member = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(member, dict):
                before = old.get(name) if isinstance(old, dict) else None
                yield from _rules(item, member, before, _join(path, name))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            # No rule about changes is on an item, so items need no counterpart in the old list.
            yield from _rules(item, schema.get("items", {}), None, f"{path}[{position}]")


def _holds(rule: Rule, value: Any, old: Any) -> bool:
    if rule.transition is not None:
        return old is None or rule.transition(value, old)
    return rule.holds(value)


def _is_time(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
