"""The OpenAPI document: FastAPI's, with our problems instead of its validation errors, and with what Bearer guards."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sightline_api.schemas import SPEC_MARK
from sightline_model.camera import CameraSpec
from sightline_model.problems import Problem
from sightline_model.rules import SCHEMA_KEY

REFERENCE = "#/components/schemas/{model}"
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")


def describe_api(app: FastAPI) -> None:
    """Make `app.openapi` answer with our document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            app.openapi_schema = _ours(document)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _ours(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    for model, mode in ((Problem, "serialization"), (CameraSpec, "validation")):
        schema = model.model_json_schema(mode=mode, ref_template=REFERENCE)  # type: ignore[arg-type]
        for name, definition in {**schema.pop("$defs", {}), model.__name__: schema}.items():
            schemas.setdefault(name, definition)
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                _mend(path, method, operations[method])
    mended: dict[str, Any] = _spelled_out(document)
    return mended


def _spelled_out(value: Any) -> Any:
    """References where they were marked, and the model's rules as the CEL that the API server checks."""
    if isinstance(value, Mapping):
        if SPEC_MARK in value:
            return {"$ref": REFERENCE.format(model=value[SPEC_MARK])}
        spelled = {key: _spelled_out(item) for key, item in value.items() if key != SCHEMA_KEY}
        if SCHEMA_KEY in value:
            spelled["x-kubernetes-validations"] = [
                {"rule": rule.cel, "message": rule.message} for rule in value[SCHEMA_KEY]
            ]
        return spelled
    return [_spelled_out(item) for item in value] if isinstance(value, list) else value


def _mend(path: str, method: str, operation: dict[str, Any]) -> None:
    unprocessable = operation["responses"].get("422")
    if unprocessable and unprocessable.get("description") == "Validation Error":
        del operation["responses"]["422"]
    if path.startswith("/v1/") and method != "options":
        operation["security"] = [{"bearer": []}]
