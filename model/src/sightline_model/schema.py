"""From pydantic's JSON schema to the structural schema that Kubernetes wants.

Structural means: every node says its type and nothing is said twice. So `$ref` and `anyOf` with null are dissolved,
titles and `additionalProperties: false` dropped (the API server prunes or refuses unknown fields by itself), and
defaults reduced to what defaulting cannot reach otherwise: the API server fills a property's default only inside an
object that is there, so objects with defaults inside get `default: {}`.

`Rule` objects stay in the tree under `rules.SCHEMA_KEY`; `publish` turns them into CEL, `validation` runs them.
"""

from collections.abc import Mapping
from typing import Any

from sightline_model.base import Model
from sightline_model.rules import SCHEMA_KEY, Rule

Schema = dict[str, Any]

_KEPT = (
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "multipleOf",
    "pattern",
    "type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    SCHEMA_KEY,
)
_DISSOLVED = ("$defs", "$ref", "additionalProperties", "anyOf", "const", "default", "items", "properties", "required")
_NOISE = ("title",)


class SchemaError(Exception):
    """A model uses something that has no place in a structural schema; the message names the field."""


def structural(model: type[Model], with_defaults: bool = True) -> Schema:
    """The structural schema of a model. A status has no defaults: what is not observed is not there."""
    source = model.model_json_schema(by_alias=True, mode="validation")
    return _Converter(source.get("$defs", {}), with_defaults).convert(source, model.__name__)


def publish(schema: Any) -> Any:
    """A copy as the API server reads it: rules as CEL, keys in a stable order."""
    if isinstance(schema, list):
        return [publish(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    published = {key: publish(value) for key, value in schema.items() if key != SCHEMA_KEY}
    if SCHEMA_KEY in schema:
        published["x-kubernetes-validations"] = [_cel(rule) for rule in schema[SCHEMA_KEY]]
    return published


def _cel(rule: Rule) -> Schema:
    published = {"rule": rule.cel, "message": rule.message}
    if rule.field:
        published["fieldPath"] = f".{rule.field}"
    return published


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema], with_defaults: bool) -> None:
        self._definitions = definitions
        self._with_defaults = with_defaults

    def convert(self, node: Schema, path: str) -> Schema:
        node = self._resolved(node, path)
        if unknown := set(node) - {*_KEPT, *_DISSOLVED, *_NOISE}:
            raise SchemaError(f"{path}: no place for {', '.join(sorted(unknown))}")
        schema = {key: node[key] for key in _KEPT if key in node}
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
        if "const" in node:
            schema["enum"] = [node["const"]]
        if schema.get("type") == "array":
            schema["items"] = self.convert(node["items"], f"{path}[]")
        elif schema.get("type") == "object":
            schema |= self._members(node, path)
        elif "type" not in schema:
            raise SchemaError(f"{path}: no type")
        return schema

    def _members(self, node: Schema, path: str) -> Schema:
        if "properties" not in node:
            values = node.get("additionalProperties", True)
            if values is True:
                return {"x-kubernetes-preserve-unknown-fields": True}
            return {"additionalProperties": self.convert(values, f"{path}{{}}")}
        properties = {}
        for name, member in node["properties"].items():
            properties[name] = self._member(member, f"{path}.{name}")
        members: Schema = {"properties": properties}
        if node.get("required"):
            members["required"] = sorted(node["required"])
        return members

    def _member(self, member: Schema, path: str) -> Schema:
        schema = self.convert(member, path)
        default = _without_nulls(self._resolved(member, path).get("default"))
        if self._with_defaults and default is not None and not _is_empty(default):
            if default == {} and "properties" not in schema:
                return schema
            inner = filled({}, schema) if "properties" in schema else None
            if isinstance(inner, dict):
                default = {key: value for key, value in default.items() if inner.get(key) != value}
                default = {key: value for key, value in default.items() if not _is_void(value)}
                if not default and not inner:
                    return schema  # nothing inside has a default
            schema["default"] = default
        return schema

    def _resolved(self, node: Schema, path: str) -> Schema:
        """Without `$ref` and without the null of an Optional; what stands beside them wins."""
        while "$ref" in node or "anyOf" in node:
            if "$ref" in node:
                inner = self._definitions[node["$ref"].rpartition("/")[2]]
            else:
                choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
                if len(choices) != 1:
                    raise SchemaError(f"{path}: a union has no structural schema")
                inner = choices[0]
            beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
            node = {**inner, **beside}
        return node


def filled(value: Any, schema: Schema) -> Any:
    """A copy of `value` with the defaults that the API server would set, from the top down."""
    if isinstance(value, list) and "items" in schema:
        return [filled(item, schema["items"]) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        if isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
            return {key: filled(item, schema["additionalProperties"]) for key, item in value.items()}
        return _copied(value)
    properties = schema["properties"]
    # A null means "not set" where the schema does not allow null, and ours never do.
    present = {key: item for key, item in value.items() if item is not None or key not in properties}
    missing = {
        key: member["default"] for key, member in properties.items() if key not in present and "default" in member
    }
    complete = {**present, **missing}
    return {key: filled(item, properties.get(key, {})) for key, item in complete.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _is_empty(default: Any) -> bool:
    """An absent list or text means the same as an empty one; writing it into each object would be noise."""
    return default in ("", [])


def _is_void(value: Any) -> bool:
    return _is_empty(value) or value == {}
