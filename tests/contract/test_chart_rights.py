"""Who may what under the chart: the programs' rights, and the policies at admission."""

import re
from collections.abc import Iterator
from typing import get_args

import pytest
from annotated_types import MaxLen
from helm_python import Chart
from helm_python.errors import HelmError
from pydantic import BaseModel

from sightline_model.camera import CameraSpec, SecretReference
from tests.contract.test_chart import EVERYTHING
from tests.helpers.chart import CHART, Obj, pick, render


@pytest.fixture(scope="module")
def chart() -> Iterator[Chart]:
    with Chart.load(CHART) as loaded:
        yield loaded


class TestRights:
    def test_a_list_of_namespaces_leaves_nothing_cluster_wide_but_classes_and_nodes(self, chart: Chart) -> None:
        objects = render(chart, EVERYTHING)
        (cluster_wide,) = [
            pick(objects, "ClusterRole", "sightline-operator")["rules"],
        ]
        resources = {resource for rule in cluster_wide for resource in rule["resources"]}
        assert resources == {"cameraclasses", "cameraclasses/status", "nodes", "clusterroles"}
        roles = [o for o in objects if o["kind"] == "Role" and o["metadata"]["name"] == "sightline-operator"]
        assert [role["metadata"]["namespace"] for role in roles] == ["doors", "gates"]
        everywhere = pick(render(chart), "ClusterRole", "sightline-operator")["rules"]
        for role in roles:
            assert cluster_wide + role["rules"] == everywhere

    @pytest.mark.parametrize("values", [{}, EVERYTHING])
    def test_the_operator_cannot_read_secrets(self, chart: Chart, values: Obj) -> None:
        verbs = {
            verb
            for obj in render(chart, values)
            if obj["kind"] in {"Role", "ClusterRole"} and obj["metadata"]["name"] == "sightline-operator"
            for rule in obj["rules"]
            if "secrets" in rule["resources"]
            for verb in rule["verbs"]
        }
        assert verbs == {"create", "patch"}

    @pytest.mark.parametrize(("values", "expected"), [({}, []), (EVERYTHING, [("Role", "doors", ["get"])])])
    def test_secrets_are_read_for_spare_agents_alone(self, chart: Chart, values: Obj, expected: list[object]) -> None:
        objects = render(chart, values)
        bound = {
            (obj["roleRef"]["kind"], obj["roleRef"]["name"], obj["metadata"].get("namespace"))
            for obj in objects
            if obj["kind"].endswith("RoleBinding") or obj["kind"] == "ClusterRoleBinding"
            for subject in obj["subjects"]
            if subject["name"] == "sightline-operator"
        }
        reading = [
            (obj["kind"], obj["metadata"].get("namespace"), rule["verbs"])
            for obj in objects
            if (obj["kind"], obj["metadata"]["name"], obj["metadata"].get("namespace")) in bound
            for rule in obj["rules"]
            if "secrets" in rule["resources"] and set(rule["verbs"]) & {"get", "list", "watch"}
        ]
        assert reading == expected

    def test_spare_agents_are_kept_where_the_operator_serves(self, chart: Chart) -> None:
        values = {"watchNamespaces": ["doors"], "warmAgents": {"namespaces": ["doors", "gates"]}}
        with pytest.raises(HelmError, match="gates is not among watchNamespaces"):
            render(chart, values)

    def test_no_rule_has_a_wildcard(self, chart: Chart) -> None:
        for obj in render(chart, EVERYTHING):
            for rule in obj.get("rules", ()) if obj["kind"] in {"Role", "ClusterRole"} else ():
                assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]

    def test_aggregation_can_be_switched_off(self, chart: Chart) -> None:
        for values, expected in (({}, True), (EVERYTHING, False)):
            labels = pick(render(chart, values), "ClusterRole", "sightline-view")["metadata"]["labels"]
            assert ("rbac.authorization.k8s.io/aggregate-to-view" in labels) is expected


def references(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[str]:
    """Where a Secret may be named in what the model describes: the fields on the way, by their names in JSON."""
    for name, field in model.model_fields.items():
        below = (*path, field.alias or name)
        kinds = [kind for kind in models(field.annotation) if issubclass(kind, BaseModel)]
        for kind in kinds:
            yield from [".".join(below)] if kind is SecretReference else references(kind, below)


def models(annotation: object) -> list[type]:
    """The classes of which an annotation is made."""
    parts = get_args(annotation)
    return [kind for part in parts for kind in models(part)] or ([annotation] if isinstance(annotation, type) else [])


class TestAdmission:
    def bindings(self, objects: list[Obj]) -> dict[str, Obj]:
        kind = "ValidatingAdmissionPolicyBinding"
        return {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == kind}

    def test_rules_for_people_may_be_left_out_and_those_for_the_operator_not(self, chart: Chart) -> None:
        assert sorted(self.bindings(render(chart))) == ["sightline-cameras", "sightline-operator", "sightline-sessions"]
        without = render(chart, {"admissionPolicy": {"enabled": False}})
        assert sorted(self.bindings(without)) == ["sightline-operator"]

    def test_every_secret_that_a_camera_may_name_is_asked_about(self, chart: Chart) -> None:
        """A new source with credentials must not be a way around the policy."""
        spec = pick(render(chart), "ValidatingAdmissionPolicy", "sightline-cameras")["spec"]
        (secrets,) = [variable["expression"] for variable in spec["variables"] if variable["name"] == "secrets"]
        asked = {path.replace("?", "") for path in re.findall(r"s\.\?([\w.?]+)\.\?name", secrets)}
        places = re.compile(r"^(source|profiles\.source|outputs)\.")
        assert {places.sub("", path) for path in references(CameraSpec)} == asked
        questions = [each for each in spec["validations"] if "variables.secrets[" in each["expression"]]
        (profiles, outputs) = [
            note.max_length
            for name in ("profiles", "outputs")
            for note in CameraSpec.model_fields[name].metadata
            if isinstance(note, MaxLen)
        ]
        assert len(questions) == 1 + profiles + outputs

    def test_they_hold_where_the_release_s_front_door_is(self, chart: Chart) -> None:
        for values, expected in (({}, None), (EVERYTHING, ["doors", "gates"])):
            for name in ("sightline-cameras", "sightline-sessions"):
                binding = self.bindings(render(chart, values))[name]
                assert (binding["policyName"], binding["validationActions"]) == (name, ["Deny"])
                found = binding.get("matchResources", {}).get("namespaceSelector", {}).get("matchExpressions")
                namespaces = found and found[0]["values"]
                assert namespaces == expected
