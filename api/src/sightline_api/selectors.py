"""Kubernetes' label selectors: `a=b`, `a==b`, `a!=b`, `a`, `!a`, `a in (b,c)`, `a notin (b,c)`, joined by commas."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_LENGTH = 1024
_PART = re.compile(r"[^,(]+(?:\([^)]*\))?")
_SET = re.compile(r"(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL = re.compile(r"(?P<key>[^\s=!]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s=!]*)")
_EXISTS = re.compile(r"(?P<not>!?)\s*(?P<key>[^\s=!]+)")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One label must have (or must not have) one of these values; no values: must be there (or must not)."""

    key: str
    values: frozenset[str] | None
    wanted: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """As Kubernetes has it: an absent label satisfies `!=` and `notin`."""
        if self.values is None:
            return (self.key in labels) is self.wanted
        return (labels.get(self.key) in self.values) is self.wanted


def parse(selector: str) -> tuple[Requirement, ...]:
    """The requirements of a selector; ValueError if it is none."""
    if len(selector) > MAX_LENGTH:
        raise ValueError("the label selector is too long")
    if not selector.strip():
        return ()
    parts = _PART.findall(selector)
    if ",".join(parts) != selector:
        raise ValueError("the label selector has unbalanced parentheses or empty parts")
    return tuple(_requirement(part.strip()) for part in parts)


def _requirement(part: str) -> Requirement:
    if match := _SET.fullmatch(part):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Requirement(match["key"], values, match["op"] == "in")
    if match := _EQUAL.fullmatch(part):
        return Requirement(match["key"], frozenset({match["value"]}), match["op"] != "!=")
    if match := _EXISTS.fullmatch(part):
        return Requirement(match["key"], None, not match["not"])
    raise ValueError("a part of the label selector is not of the form key=value, key!=value, key, !key or key in (a,b)")
