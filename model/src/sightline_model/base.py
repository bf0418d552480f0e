"""The base of every model that crosses a wire, and the bounded string types they share.

Wire names are camelCase as Kubernetes has them, Python names snake_case. Unknown fields are refused: a typo in a
manifest must be an answer, not silence. Models are frozen, so that facts handed to a decision cannot change under it.
"""

from typing import Annotated, Any, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sightline_model.rules import SCHEMA_KEY, Rule, raise_if_broken

GROUP = "sightline.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

# RFC 1123 label; Kubernetes allows 253 characters for most names, but a camera's name becomes part of the names of its
# children (63 characters at most), so it is bounded to 52: see `names`.
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
MAX_CAMERA_NAME = 52

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=NAME_PATTERN)]
SecretName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
# Go's duration syntax, as kubectl users write it: "500ms", "30s", "1h30m"; fields add bounds with `rules.lasting`.
DurationText = Annotated[str, Field(min_length=1, max_length=32)]
Text = Annotated[str, Field(max_length=1024)]
ShortText = Annotated[str, Field(max_length=256)]
Timestamp = AwareDatetime


class Model(BaseModel):
    """A value on the wire: camelCase, closed, frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # a rejected URL may hold a password
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """What the fields must obey together."""
    _standing: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        # Rules about changes need the value before, which only whoever updates an object has.
        cls._standing = tuple(rule for rule in cls.rules if rule.transition is None)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler(schema)
        if cls.rules:
            handler.resolve_ref_schema(json_schema)[SCHEMA_KEY] = list(cls.rules)
        return json_schema

    @model_validator(mode="after")
    def _obeys_its_rules(self) -> Self:
        if self._standing:
            raise_if_broken(self._standing, self.to_wire())
        return self

    def to_wire(self) -> dict[str, Any]:
        """The JSON object to send: camelCase, no nulls."""
        return self.model_dump(mode="json", exclude_none=True)


class LenientModel(Model):
    """A value read from a cluster, where another version may have written fields that we do not know."""

    model_config = ConfigDict(extra="ignore")
