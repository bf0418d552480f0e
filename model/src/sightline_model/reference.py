"""The reference of kinds and problem codes for readers: `python -m sightline_model.reference --write docs/reference`.

Generated, so that no field, default, bound or rule is ever described that is not so. What a reason means and what to do
about it is not in the models; people write that (docs/reference/conditions.md), and a test keeps the lists in step.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sightline_model.base import API_VERSION
from sightline_model.crd import KINDS, Kind, schema_of
from sightline_model.problems import TYPE_PREFIX, Problem, ProblemCode
from sightline_model.rules import SCHEMA_KEY
from sightline_model.schema import Schema, publish

_HEAD = "<!-- Generated from the models: make crds. Changes by hand are lost. -->\n"


def pages() -> dict[str, str]:
    """File names and contents."""
    return {"kinds.md": _HEAD + "\n".join(_kinds()) + "\n", "problems.md": _HEAD + "\n".join(_problems()) + "\n"}


def _kinds() -> Iterator[str]:
    yield "# Kinds\n"
    yield f"All in `{API_VERSION}`. Required fields are marked \\*. Bounds: characters, items or values, at most."
    yield "Fields without behaviour yet: [limits.md](../limits.md). Conditions: [conditions.md](conditions.md)."
    for kind in KINDS.values():
        yield from _kind(kind)


def _kind(kind: Kind) -> Iterator[str]:
    schema = schema_of(kind.kind)
    yield f"\n## {kind.kind}\n"
    scope = "namespaced" if kind.namespaced else "cluster-scoped"
    names = ", ".join(f"`{name}`" for name in (kind.plural, *kind.short_names))
    yield f"{kind.description} It is {scope}; kubectl knows it as {names}, and with the others as `sightline`."
    if kind.selectable:
        fields = ", ".join(f"`{path.removeprefix('.')}`" for path in kind.selectable)
        yield f"Field selectors: {fields}."
    conditions = ", ".join(f"`{type_}`" for type_ in kind.conditions)
    yield f"Conditions: {conditions}."
    rules = [f"* {rule.message[0].upper()}{rule.message[1:]}." for rule in schema[SCHEMA_KEY]]
    yield "\n" + "\n".join(rules)
    for part in ("spec", "status"):
        yield f"\n| {part} | type | default | what it says |\n|---|---|---|---|"
        yield from _rows(schema["properties"][part], part, {})


def _rows(schema: Schema, path: str, told: dict[str, str]) -> Iterator[str]:
    """A row for each field below; a large part that was `told` before is referred to."""
    for name, member in schema.get("properties", {}).items():
        mark = r"\*" if name in schema.get("required", ()) else ""
        below = f"{path}.{name}"
        inner = member["items"] if member["type"] == "array" else member
        where = below + ("[]" if member["type"] == "array" else "")
        before = told.setdefault(json.dumps(publish(inner.get("properties", where))), where)
        own = [rule.message for rule in schema.get(SCHEMA_KEY, ()) if rule.field == name]
        words = _words(member, own)
        if before != where and len(inner["properties"]) > 1:
            words += f" Fields as in `{before.partition('.')[2]}`."
        yield f"| `{below.partition('.')[2]}`{mark} | {_type(member)} | {_default(member)} | {words} |"
        if before == where or len(inner["properties"]) == 1:
            yield from _rows(inner, where, told)


def _type(member: Schema) -> str:
    if "enum" in member:
        return ", ".join(f"`{choice}`" for choice in member["enum"])
    bound = member.get("maxLength", member.get("maxItems", member.get("maxProperties")))
    words = str(member.get("format", member["type"]))
    if member["type"] == "array":
        words = f"list of {_type(member['items'])}"
    if "minimum" in member or "maximum" in member:
        words += f" {member.get('minimum', '')}..{member.get('maximum', '')}"
    return words if bound is None else f"{words} ({bound})"


def _default(member: Schema) -> str:
    default = member.get("default")
    if default is None or isinstance(default, dict | list):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _words(member: Schema, own: Sequence[str]) -> str:
    items: Any = member.get("items", {})
    rules = [rule for node in (member, items) for rule in node.get(SCHEMA_KEY, ()) if not rule.field]
    messages = [*own, *(rule.message for rule in rules)]
    text = str(member.get("description", ""))
    if messages:
        text += f" Rule: {'; '.join(messages)}."
    return text.replace("|", r"\|")


def _problems() -> Iterator[str]:
    yield "# Problems\n"
    yield "Errors of the front door and of agents are `application/problem+json` (RFC 9457). `code` is the contract; "
    yield f"`type` is `{TYPE_PREFIX}` with the code. Where a source failed, `reason` is the reason of the camera's"
    yield "`SourceReady` condition ([conditions.md](conditions.md)).\n"
    yield "| code | status | title |\n|---|---|---|"
    for code in ProblemCode:
        problem = Problem(code=code)
        yield f"| `{code}` | {problem.status} | {problem.title} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages into a folder."""
    parser = argparse.ArgumentParser(prog="python -m sightline_model.reference", description=main.__doc__)
    parser.add_argument("--write", metavar="FOLDER", type=Path, required=True)
    folder: Path = parser.parse_args(arguments).write
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
