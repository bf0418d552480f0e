"""The generator's own parts: structural schemas, rules in two languages, YAML text, the command line."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from sightline_model import crd, reference
from sightline_model.base import Model, Name, Timestamp
from sightline_model.rules import Checked, Listed, Rule, exactly_one, lasting, matching
from sightline_model.schema import SchemaError, filled, publish, structural
from sightline_model.validation import problems
from sightline_model.yamltext import to_yaml


class Inner(Model):
    """What is inside."""

    number: Annotated[int, Field(ge=0)] = 3
    text: Annotated[str, Field(max_length=5)] = ""


class Plain(Model):
    """Nothing in here has a default."""

    word: Name | None = None


class Outer(Model):
    """What is
    outside.
    """

    inner: Inner = Inner()
    """The part."""
    other: Inner = Inner(number=7)
    plain: Plain = Plain()
    maybe: Inner | None = None
    words: Annotated[list[Name], Field(max_length=2), Listed()] = []
    table: Annotated[dict[str, Name], Field(max_length=2)] = {}
    free: dict[str, Any] | None = None


class Bounded(Model):
    """A bound of every kind."""

    even: Annotated[int, Field(ge=2, le=8, multiple_of=2)] = 2
    text: Annotated[str, Field(min_length=2, max_length=4, pattern=r"^[a-z]+$")] = "ab"
    items: Annotated[list[int], Field(min_length=1, max_length=2)] = [1]
    table: Annotated[dict[str, Name], Field(max_length=1)] = {}
    free: dict[str, Any] = {}
    time: Timestamp | None = None


class TestProblems:
    schema = structural(Bounded)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ({}, ""),
            ({"even": 8, "text": "abcd", "items": [1, 2], "table": {"a": "b"}, "time": "2030-01-01T00:00:00Z"}, ""),
            ({"free": {"any": [None, {"thing": True}]}}, ""),
            ({"even": 0}, "even: Invalid value: 0: even in body should be greater than or equal to 2"),
            ({"even": 10}, "even: Invalid value: 10: even in body should be less than or equal to 8"),
            ({"even": 3}, "even: Invalid value: 3: even in body should be a multiple of 2"),
            ({"even": True}, 'even: Invalid value: "boolean": even in body must be of type integer: "boolean"'),
            ({"text": "a"}, "text: Invalid value: text in body should be at least 2 chars long"),
            ({"text": "abcde"}, "text: Too long: may not be more than 4 bytes"),
            ({"text": "AB"}, "text: Invalid value: text in body should match '^[a-z]+$'"),
            ({"text": "ab\n"}, "text: Invalid value: text in body should match '^[a-z]+$'"),
            ({"items": []}, "items: Invalid value: 0: items in body should have at least 1 items"),
            ({"items": [1, 2, 3]}, "items: Too many: 3: must have at most 2 items"),
            ({"items": ["x"]}, 'items[0]: Invalid value: "string": items[0] in body must be of type integer: "string"'),
            ({"table": {"a": "b", "c": "d"}}, "table: Too many: 2: must have at most 1 items"),
            ({"table": {"a": "B"}}, "table.a: Invalid value: table.a in body should match"),
            ({"time": "yesterday"}, "time: Invalid value: time in body must be of type date-time"),
            ({"time": "2030-01-01T00:00:00"}, "time: Invalid value: time in body must be of type date-time"),
            ({"even": 3, "odd": 1}, 'strict decoding error: unknown field "odd"'),
        ],
    )
    def test_each_bound_is_told_in_the_words_of_the_api_server(self, value: dict[str, Any], words: str) -> None:
        first = next(iter(problems(value, self.schema)), "")
        assert first.startswith(words) if words else first == ""


class TestStructural:
    schema = structural(Outer)

    def test_an_object_with_defaults_inside_is_made(self) -> None:
        properties = self.schema["properties"]
        assert properties["inner"]["default"] == {}
        assert properties["other"]["default"] == {"number": 7}
        assert all("default" not in properties[name] for name in ("plain", "maybe", "words", "table", "free"))
        assert filled({}, self.schema) == {"inner": {"number": 3}, "other": {"number": 7}}

    def test_a_default_reaches_into_what_is_there_only(self) -> None:
        assert filled({"maybe": {}, "inner": None}, self.schema) == {
            "maybe": {"number": 3},
            "inner": {"number": 3},
            "other": {"number": 7},
        }

    def test_filling_changes_nothing_that_was_given(self) -> None:
        given_object = {"inner": {"text": "a"}, "free": {"x": [1]}}
        before = json.dumps(given_object)
        complete = filled(given_object, self.schema)
        complete["free"]["x"].append(2)
        assert json.dumps(given_object) == before
        assert json.dumps(self.schema["properties"]["inner"]["default"]) == "{}"

    def test_descriptions_are_one_line_and_the_fields_own_wins(self) -> None:
        assert self.schema["description"] == "What is outside."
        assert self.schema["properties"]["inner"]["description"] == "The part."
        assert self.schema["properties"]["other"]["description"] == "What is inside."

    def test_status_has_no_defaults(self) -> None:
        assert filled({}, structural(Outer, with_defaults=False)) == {}

    @pytest.mark.parametrize("annotation", [int | str, Any, Annotated[int, Field(examples=[1])]])
    def test_what_has_no_place_is_named(self, annotation: Any) -> None:
        class Odd(Model):
            field: annotation

        with pytest.raises(SchemaError, match=r"Odd\.field"):
            structural(Odd)

    def test_rules_are_published_as_cel(self) -> None:
        class Ruled(Model):
            one: Annotated[str, Field(max_length=9), Checked((matching("a+", "write some a"),))]

        published = publish(structural(Ruled))
        assert published["properties"]["one"]["x-kubernetes-validations"] == [
            {"rule": "self.matches(r'^(a+)$')", "message": "write some a"}
        ]
        assert problems({"one": "b"}, structural(Ruled)) == ['one: Invalid value: "b": write some a']


class TestRules:
    @pytest.mark.parametrize(("text", "holds"), [("1s", True), ("5m", True), ("999ms", False), ("5m1ms", False)])
    def test_lasting(self, text: str, holds: bool) -> None:
        (rule,) = lasting("1s", "5m").rules
        assert rule.holds(text) is holds

    @given(st.text(max_size=40))
    def test_lasting_is_total(self, text: str) -> None:
        for checked in (lasting("1s", "5m"), lasting("1s", "5m", or_never=True)):
            (rule,) = checked.rules
            rule.holds(text)

    def test_a_line_end_is_no_way_around_a_pattern(self) -> None:
        assert not matching("a", "").holds("a\n")
        assert not lasting("1s", "5m").rules[0].holds("30s\n")

    @pytest.mark.parametrize(("value", "holds"), [({}, False), ({"a": 1}, True), ({"a": 1, "b": 1}, False)])
    def test_exactly_one(self, value: dict[str, int], holds: bool) -> None:
        assert exactly_one("a", "b").holds(value) is holds

    def test_cel_strings_hold_no_quote_that_would_end_them(self) -> None:
        rules: list[Rule] = []

        def collect(node: Any) -> None:
            if isinstance(node, dict):
                rules.extend(node.get("x-sightline-rules", ()))
                for item in node.values():
                    collect(item)
            elif isinstance(node, list):
                for item in node:
                    collect(item)

        for kind in crd.KINDS:
            collect(crd.schema_of(kind))
        assert rules
        for rule in rules:
            for literal in re.findall(r"matches\(r'([^']*)'", rule.cel):
                re.compile(literal)
            assert rule.cel.count("'") % 2 == 0


texts = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | texts
data = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)


@pytest.mark.thorough
@given(st.dictionaries(texts, data, min_size=1))
def test_yaml_text_says_what_the_data_says(value: dict[str, Any]) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


@pytest.mark.parametrize(
    "word", ["yes", "No", "null", "~", "1", "1e3", "0x1", "a: b", "a #b", "-", "", " a", "2020-01-01"]
)
def test_strings_that_look_like_something_else_are_quoted(word: str) -> None:
    assert yaml.safe_load(to_yaml({"key": word})) == {"key": word}


class TestCommandLine:
    def test_check_tells_what_is_stale(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert crd.main(["--write", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
        assert crd.main(["--check", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
        stale = tmp_path / "b" / "sightline.dev_cameras.yaml"
        stale.write_text("changed")
        assert crd.main(["--check", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
        assert capsys.readouterr().err == f"{stale} is not what the models say; run make crds\n"

    def test_reference(self, tmp_path: Path) -> None:
        assert reference.main(["--write", str(tmp_path)]) == 0
        assert {path.name for path in tmp_path.iterdir()} == {"kinds.md", "problems.md"}
