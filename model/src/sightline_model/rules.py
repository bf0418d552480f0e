"""Rules that a schema alone cannot say, each written once: as CEL for the API server and as Python for everybody else.

A rule sits on a model (`Model.rules`) or on a type (`Annotated[str, Checked(...)]`). Pydantic enforces it wherever the
model is read, the CRD carries it as `x-kubernetes-validations`, the in-memory cluster checks it in `validation`. The
message says what to do. It never repeats the value: a rejected URL may hold a password. The API server does repeat the
value of a string that breaks a pattern or a rule of its own, so rules about URLs sit on the object around them.

A test runs both halves of every rule on the same examples.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from sightline_model import durations

SCHEMA_KEY = "x-sightline-rules"
"""Where a JSON schema carries its Rule objects until `schema` has turned them into CEL."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule over a value as it is on the wire (a dict, a list, a scalar)."""

    cel: str
    """True for a valid value: `self`, and `oldSelf` where `transition` is set."""
    message: str
    """What to do."""
    holds: Callable[[Any], bool] = lambda value: True
    """The same in Python; total, also for values of the right type that break other rules."""
    transition: Callable[[Any, Any], bool] | None = None
    """For rules about changes: the new value and the old one. Checked where objects are updated."""
    field: str = ""
    """Which field of the object the message is about."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Annotation: the type's values obey the rules."""

    rules: tuple[Rule, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler(schema)
        json_schema[SCHEMA_KEY] = list(self.rules)
        return json_schema

    def _check(self, value: Any) -> Any:
        raise_if_broken(self.rules, value)
        return value


@dataclass(frozen=True, slots=True)
class Listed:
    """Annotation: how server-side apply merges a list, and what makes its items unique.

    With `key` a map by that field, else a set of scalars.
    """

    key: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler(schema)
        json_schema["x-kubernetes-list-type"] = "map" if self.key else "set"
        if self.key:
            json_schema["x-kubernetes-list-map-keys"] = [self.key]
        return json_schema

    def _check(self, items: list[Any]) -> list[Any]:
        seen = [getattr(item, self.key) if self.key else item for item in items]
        if len(set(seen)) != len(seen):
            raise ValueError(f"each {self.key or 'item'} may be there once only")
        return items


def raise_if_broken(rules: tuple[Rule, ...], value: Any) -> None:
    """ValueError with the messages of the rules that `value` breaks."""
    broken = [rule.message for rule in rules if not rule.holds(value)]
    if broken:
        raise ValueError("; ".join(broken))


def matching(pattern: str, message: str) -> Rule:
    """The whole string matches `pattern` (RE2 and Python alike, no single quotes)."""
    compiled = re.compile(pattern, re.ASCII)
    return Rule(f"self.matches(r'^({pattern})$')", message, lambda value: compiled.fullmatch(value) is not None)


def lasting(shortest: str, longest: str, or_never: bool = False) -> Checked:
    """A duration between two bounds; with `or_never` the word Never too."""
    least, most = durations.seconds(shortest), durations.seconds(longest)
    syntax = f"self.matches(r'^{durations.PATTERN}$')"
    bounds = f"duration(self) >= duration('{shortest}') && duration(self) <= duration('{longest}')"
    cel = f"{syntax} && {bounds}"

    def holds(value: str) -> bool:
        if or_never and value == "Never":
            return True
        return durations.is_duration(value) and least <= durations.seconds(value) <= most

    words = f"a duration from {shortest} to {longest}, for example 30s, 5m or 1h30m"
    if or_never:
        return Checked((Rule(f"self == 'Never' || ({cel})", f"write Never or {words}", holds),))
    return Checked((Rule(cel, f"write {words}", holds),))


_USER = r"[^\s/?#]*@"
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^\s/@:?#\[\]]+)(:[0-9]{1,5})?"


def address(field: str, *schemes: str, belongs_to: str = "") -> tuple[Rule, Rule]:
    """An object's `field` is a URL of one of the schemes without user name and password; those go into `belongs_to`."""
    examples = " or ".join(f"{scheme}://host[:port]/path" for scheme in schemes)
    advice = f"put user name and password into {belongs_to}, not" if belongs_to else "put no user name and password"
    # A password may hold a slash; then what is before it is no host with a port, and the second rule sees it.
    return (
        _field_rule(field, rf"[a-z]*://{_USER}.*", f"{advice} into the {field}", wanted=False),
        _field_rule(
            field,
            rf"({'|'.join(schemes)})://({_USER})?{_HOST}([/?]\S*)?",
            f"write {examples}, without spaces",
            wanted=True,
        ),
    )


def _field_rule(field: str, pattern: str, message: str, wanted: bool) -> Rule:
    compiled = re.compile(pattern, re.ASCII)
    match = f"self.{field}.matches(r'^({pattern})$')"

    def holds(value: Mapping[str, Any]) -> bool:
        return field not in value or (compiled.fullmatch(value[field]) is not None) is wanted

    cel = f"!has(self.{field}) || {'' if wanted else '!'}{match}"
    return Rule(cel, message, holds, field=field)


def exactly_one(*names: str) -> Rule:
    """Exactly one of the object's fields is set."""
    listed = ", ".join(f"has(self.{name})" for name in names)
    return Rule(
        f"[{listed}].exists_one(set, set)" if len(names) > 1 else listed,
        f"set exactly one of {', '.join(names)}" if len(names) > 1 else f"set {names[0]}",
        lambda value: sum(name in value for name in names) == 1,
    )


def named(kind: str, longest: int) -> tuple[Rule, ...]:
    """The object's own name is a DNS label that leaves room for what is made from it."""
    label = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")

    def name(value: Mapping[str, Any]) -> str:
        return str(value["metadata"].get("name", ""))

    return (
        Rule(
            f"self.metadata.name.size() <= {longest}",
            f"shorten the name: a {kind}'s name has at most {longest} characters",
            lambda value: len(name(value)) <= longest,
        ),
        Rule(
            f"self.metadata.name.matches('^{label.pattern}$')",
            f"name the {kind} with lower-case letters, digits and '-' only, no dots",
            lambda value: label.fullmatch(name(value)) is not None,
        ),
    )


def ordered(first: str, second: str, message: str) -> Rule:
    """Where both times are set, the first is before the second."""

    def holds(value: Mapping[str, Any]) -> bool:
        return first not in value or second not in value or moment(value[first]) < moment(value[second])

    return Rule(f"!has(self.{first}) || !has(self.{second}) || self.{first} < self.{second}", message, holds)


def moment(text: str) -> datetime:
    """An RFC 3339 time of the wire."""
    return datetime.fromisoformat(text)
