"""The REST API is a contract: its OpenAPI document changes only on purpose.

After a change on purpose: `python -m pytest tests/contract/test_openapi.py --snapshot-update`, and read the difference.
"""

import json
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension

from sightline_api.app import create_app
from sightline_api.settings import Settings
from sightline_kube.cache import Cache
from sightline_kube.kinds import CAMERA
from sightline_kube.memory import MemoryCluster
from sightline_model.tokens import Signer, generate_private_key_pem

METHODS = {"get", "head", "post", "put", "patch", "delete", "options"}


@pytest.fixture(scope="module")
def document() -> Any:
    signer = Signer.from_pem(generate_private_key_pem())
    app = create_app(Settings(), MemoryCluster(), Cache([CAMERA]), signer)
    return json.loads(json.dumps(app.openapi()))


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_the_document_is_the_one_that_clients_know(document: Any, snapshot: SnapshotAssertion) -> None:
    assert document == snapshot(name="openapi", extension_class=JSONSnapshotExtension)


def test_operations_have_names_of_their_own_and_say_what_they_do(document: Any) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(operation.get("description") for _, _, operation in operations(document))


def test_every_guarded_operation_declares_its_problems(document: Any) -> None:
    for path, method, operation in operations(document):
        if not path.startswith("/v1/") or method == "options":
            continue
        assert operation["security"] == [{"bearer": []}]
        assert {"401", "500"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (path, method, status)


def test_every_reference_leads_somewhere(document: Any) -> None:
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(item) for item in value.values()))
        if isinstance(value, list):
            return set().union(*(references(item) for item in value))
        return set()

    assert references(document) <= known
