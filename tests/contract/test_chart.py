"""The Helm chart, rendered offline: what it makes is valid, restricted, and set up as the programs expect."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
from helm_python import Chart
from helm_python.chart import lint
from helm_python.errors import HelmError

from sightline_api.settings import Settings as ApiSettings
from sightline_model import crd
from sightline_model.cameraclass import CameraClassSpec
from sightline_model.support import not_supported_yet
from sightline_model.tokens import Signer
from sightline_operator.settings import OperatorSettings
from tests.helpers.chart import CHART, NAMESPACE, Obj, pick, pod_specs, render

KUBERNETES = ("1.31", "1.37")

EVERYTHING: Obj = {
    "commonLabels": {"team": "video"},
    "image": {
        "registry": "registry.example/x/",
        "repositoryPrefix": "sightline-",
        "tag": "1.2",
        "pullSecrets": ["pull"],
    },
    "keys": {"existingSecret": "mine", "previous": True},
    "watchNamespaces": ["doors", "gates"],
    "warmAgents": {"namespaces": ["doors"]},
    "defaultClass": {"name": "edge", "spec": {"limits": {"maxViewers": 7}, "agent": {"pullPolicy": "Always"}}},
    "operator": {
        "replicas": 3,
        "leaseSeconds": 30,
        "workers": 4,
        "sweepIntervalSeconds": 30,
        "portQuarantineSeconds": 240,
        "logLevel": "DEBUG",
        "logFormat": "console",
        "serviceAccountAnnotations": {"a": "b"},
        "podAnnotations": {"a": "b"},
        "podLabels": {"a": "b"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
    },
    "api": {
        "replicas": 3,
        "publicUrl": "https://cameras.example.org",
        "oidc": [
            {
                "issuer": "https://login.example.org/realms/a",
                "audiences": ["sightline"],
                "issuerName": "https://login.example.org/realms/a/",
                "jwksUri": "https://login.example.org/keys",
                "caFile": "/etc/ca/ca.pem",
                "algorithms": ["ES256"],
                "userClaim": "email",
                "userPrefix": "x:",
                "groupsClaim": "roles",
                "groupsPrefix": "y:",
                "leewaySeconds": 5,
            }
        ],
        "kubernetes": {"enabled": False, "audiences": ["a", "b"]},
        "trustedProxies": ["10.0.0.0/8"],
        "corsOrigins": ["https://a.example.org"],
        "frameAncestors": ["https://b.example.org"],
        "iceServers": [{"urls": ["turn:turn.example.org"], "username": "u", "credential": "c"}],
        "turnSecrets": ["coturn", "edge.turn"],
        "quota": {"ratePerSecond": 1.5, "burst": 2, "concurrent": 3},
        "dev": {"enabled": True, "staticUsers": [{"token": "0123456789", "user": "alice", "groups": ["g"]}]},
        "logFormat": "console",
        "keepAliveSeconds": 90,
        "shutdownDelaySeconds": 2,
        "shutdownGraceSeconds": 3,
        "service": {"type": "NodePort", "ipFamilyPolicy": "SingleStack", "port": 8080, "annotations": {"a": "b"}},
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"a": "b"},
            "hosts": ["cameras.example.org"],
            "tls": [{"secretName": "tls", "hosts": ["cameras.example.org"]}],
        },
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
    },
    "metrics": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "stunner": {"routes": False},
    "networkPolicies": {
        "agentNamespaces": ["doors"],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "controlFrom": [{"podSelector": {"matchLabels": {"app": "recorder"}}}],
    },
    "admissionPolicy": {"enabled": True},
    "rbac": {"aggregate": False},
}
CASES: dict[str, Obj] = {
    "defaults": {},
    "everything": EVERYTHING,
    "least": {"crds": {"enabled": False}, "defaultClass": {"create": False}, "operator": {"replicas": 1}},
}


@pytest.fixture(scope="module")
def chart() -> Iterator[Chart]:
    with Chart.load(CHART) as loaded:
        yield loaded


def environment(objects: list[Obj], name: str) -> dict[str, str]:
    (container,) = pick(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


def secret_text(objects: list[Obj], name: str, key: str) -> str:
    return base64.b64decode(pick(objects, "Secret", name)["data"][key]).decode()


def test_lint() -> None:
    report = lint(CHART, strict=True)
    assert report["errors"] == []


@pytest.fixture(scope="module")
def schemas() -> Iterator[None]:
    """Kubernetes's schemas are read once, not again for each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_validate.utils, "schema_contents", cache(kubernetes_validate.utils.schema_contents))
        yield


@pytest.mark.usefixtures("schemas")
@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("case", CASES)
def test_objects_are_what_kubernetes_knows(chart: Chart, case: str, version: str) -> None:
    for obj in render(chart, CASES[case]):
        if "monitoring.coreos.com" in obj["apiVersion"]:
            continue
        kubernetes_validate.validate(obj, version, strict=True)


@pytest.mark.parametrize("case", CASES)
def test_names_labels_and_namespaces(chart: Chart, case: str) -> None:
    objects = render(chart, CASES[case])
    identities = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
    assert len(set(identities)) == len(identities)
    for obj in objects:
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "sightline"
        assert labels["app.kubernetes.io/instance"] == "sightline"
        kinds = ("ClusterRole", "CustomResourceDefinition", "ValidatingAdmissionPolicy")
        cluster_wide = obj["kind"].startswith(kinds)
        assert ("namespace" in obj["metadata"]) is not cluster_wide
        if case == "everything":
            assert labels["team"] == "video"


@pytest.mark.parametrize("name", ["x", "sightline", "my-sightline-two", "r" * 53])
def test_names_fit_whatever_the_release_is_called(chart: Chart, name: str) -> None:
    objects = render(chart, name=name)
    for obj in objects:
        if obj["kind"] != "CustomResourceDefinition":
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", obj["metadata"]["name"])
            assert all(len(str(value)) <= 63 for value in obj["metadata"]["labels"].values())
    accounts = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "ServiceAccount"}
    assert {spec["serviceAccountName"] for _, spec in pod_specs(objects)} == accounts


@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted(chart: Chart, case: str) -> None:
    """Pod Security Standard "restricted", and a file system that nobody writes."""
    for name, spec in pod_specs(render(chart, CASES[case])):
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["enableServiceLinks"] is False
        assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(spec)
        allowed = {"configMap", "emptyDir", "secret"}
        assert all(len(set(volume) & allowed) == 1 for volume in spec["volumes"])
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert all("hostPort" not in port for port in container.get("ports", ()))


def test_long_running_pods_have_probes(chart: Chart) -> None:
    objects = render(chart)
    for name in ("sightline-operator", "sightline-api"):
        (container,) = pick(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
        assert container["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]


def test_the_front_door_is_not_killed_while_it_ends_in_order(chart: Chart) -> None:
    for delay, grace in ((0, 0), (5, 10), (60, 30)):
        values = {"api": {"shutdownDelaySeconds": delay, "shutdownGraceSeconds": grace}}
        spec = pick(render(chart, values), "Deployment", "sightline-api")["spec"]["template"]["spec"]
        assert spec["terminationGracePeriodSeconds"] > delay + grace


def test_images(chart: Chart) -> None:
    def images(values: Obj) -> set[str]:
        objects = render(chart, values)
        run = {container["image"] for _, spec in pod_specs(objects) for container in spec["containers"]}
        return {*run, environment(objects, "sightline-operator")["SIGHTLINE_AGENT_IMAGE"]}

    version = chart.metadata["appVersion"]
    assert images({}) == {f"docker.io/sightline/{part}:{version}" for part in ("operator", "api", "agent")}
    assert images(EVERYTHING) == {f"registry.example/x/sightline-{part}:1.2" for part in ("operator", "api", "agent")}
    kept = images({"operator": {"agentImage": "registry.example/agent:1.1"}})
    assert kept == {
        *(f"docker.io/sightline/{part}:{version}" for part in ("operator", "api")),
        "registry.example/agent:1.1",
    }


class TestCrds:
    def test_are_those_of_the_models(self, chart: Chart) -> None:
        found = {o["metadata"]["name"]: o for o in render(chart) if o["kind"] == "CustomResourceDefinition"}
        assert len(found) == len(crd.KINDS)
        for kind in crd.KINDS:
            expected = json.loads(json.dumps(crd.definition(kind)))
            assert found[expected["metadata"]["name"]]["spec"] == expected["spec"]

    def test_stay_when_the_release_goes(self, chart: Chart) -> None:
        for values, expected in (({}, True), ({"crds": {"keep": False}}, False)):
            for obj in render(chart, values):
                if obj["kind"] == "CustomResourceDefinition":
                    annotations = obj["metadata"].get("annotations", {})
                    assert (annotations.get("helm.sh/resource-policy") == "keep") is expected

    def test_may_be_left_out(self, chart: Chart) -> None:
        kinds = {obj["kind"] for obj in render(chart, {"crds": {"enabled": False}})}
        assert "CustomResourceDefinition" not in kinds


class TestKeys:
    def test_a_key_is_made_that_the_programs_read(self, chart: Chart) -> None:
        pem = secret_text(render(chart), "sightline-keys", "signing.pem")
        assert Signer.from_pem(pem.encode()).public_jwk()["crv"] == "Ed25519"

    def test_both_programs_have_the_same_one(self, chart: Chart) -> None:
        for values, secret in (({}, "sightline-keys"), (EVERYTHING, "mine")):
            objects = render(chart, values)
            for name, variable in (
                ("sightline-operator", "SIGHTLINE_SIGNING_KEY_FILE"),
                ("sightline-api", "SIGHTLINE_API_SIGNING_KEY_FILE"),
            ):
                spec = pick(objects, "Deployment", name)["spec"]["template"]["spec"]
                (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "keys"]
                assert volume["secret"]["secretName"] == secret
                (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "keys"]
                assert environment(objects, name)[variable] == f"{mount['mountPath']}/signing.pem"

    def test_it_stays_as_long_as_agents_may(self, chart: Chart) -> None:
        for values, expected in (({}, {"helm.sh/resource-policy": "keep"}), ({"crds": {"keep": False}}, None)):
            assert pick(render(chart, values), "Secret", "sightline-keys")["metadata"].get("annotations") == expected

    @pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl")
    def test_a_key_made_by_hand_as_the_documentation_says_is_read(self, tmp_path: Path) -> None:
        page = (CHART.parents[1] / "docs/operations/keys.md").read_text()
        command = next(line for line in page.splitlines() if line.startswith("openssl"))
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
        assert Signer.from_pem((tmp_path / "signing.pem").read_bytes())

    def test_ones_own_secret_means_that_none_is_made(self, chart: Chart) -> None:
        secrets = [obj["metadata"]["name"] for obj in render(chart, EVERYTHING) if obj["kind"] == "Secret"]
        assert secrets == ["sightline-api-config"]


class TestSettings:
    """The chart sets what the programs read, and everything that they read can be set."""

    @pytest.fixture(autouse=True)
    def _clean_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in [name for name in os.environ if name.startswith("SIGHTLINE_")]:
            monkeypatch.delenv(variable)

    def test_operator(self, chart: Chart, monkeypatch: pytest.MonkeyPatch) -> None:
        variables = environment(render(chart, EVERYTHING), "sightline-operator")
        # Where to listen is a matter of the pod; the chart's probes know it.
        fields = {f"SIGHTLINE_{name.upper()}" for name in OperatorSettings.model_fields.keys() - {"host", "port"}}
        assert variables.keys() == fields
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings = OperatorSettings()  # type: ignore[call-arg, unused-ignore]
        assert settings.namespace_list == ("doors", "gates")
        assert settings.previous_signing_key_file == Path("/etc/sightline/keys/previous.pem")
        assert (settings.lease_namespace, settings.lease_seconds) == (NAMESPACE, 30)
        assert (settings.workers, settings.sweep_interval, settings.log_level) == (4, 30, "DEBUG")
        assert settings.port_quarantine == 240
        assert settings.known_turn_secrets == frozenset({"coturn", "edge.turn"})
        assert settings.spare_namespace_set == frozenset({"doors"})
        assert settings.public_url == "https://cameras.example.org"

    def test_operator_by_default(self, chart: Chart, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in environment(render(chart), "sightline-operator").items():
            monkeypatch.setenv(name, value)
        ours = OperatorSettings()  # type: ignore[call-arg, unused-ignore]
        theirs = OperatorSettings.model_validate({"agent_image": ours.agent_image})
        # Outside a cluster an operator is the only one.
        lease = {"lease_name": "sightline-operator", "lease_namespace": NAMESPACE}
        assert ours == theirs.model_copy(update={**lease, "owner_role": "sightline-operator"})

    def api(self, chart: Chart, values: Obj, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ApiSettings:
        objects = render(chart, values)
        path = folder / "config.json"
        path.write_text(secret_text(objects, "sightline-api-config", "config.json"))
        for name, value in environment(objects, "sightline-api").items():
            monkeypatch.setenv(name, str(path) if name == "SIGHTLINE_API_CONFIG_FILE" else value)
        return ApiSettings()

    def test_api(self, chart: Chart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = self.api(chart, EVERYTHING, tmp_path, monkeypatch)
        by_itself = {"host", "port", "agent_connect_timeout", "agent_timeout_margin"}
        assert settings.model_fields_set == ApiSettings.model_fields.keys() - by_itself
        (issuer,) = settings.oidc
        assert issuer.model_fields_set == type(issuer).model_fields.keys()
        assert str(issuer.jwks_uri) == "https://login.example.org/keys"
        assert (issuer.groups_prefix, issuer.leeway_seconds) == ("y:", 5)
        assert (settings.kubernetes.enabled, settings.kubernetes.audiences) == (False, ["a", "b"])
        assert (settings.quota.rate_per_second, settings.quota.burst, settings.quota.concurrent) == (1.5, 2, 3)
        (user,) = settings.static_users
        assert (user.user, user.token.get_secret_value(), user.groups) == ("alice", "0123456789", ["g"])
        assert settings.ice_servers[0].credential.get_secret_value() == "c"
        assert settings.turn_directory == Path("/etc/sightline/turn")

    def test_api_by_default(self, chart: Chart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = self.api(chart, {}, tmp_path, monkeypatch)
        ours, theirs = settings.model_dump(), ApiSettings.model_construct().model_dump()
        assert {name for name in ours if ours[name] != theirs[name]} == {"web_root"}

    def test_a_changed_setting_makes_new_pods(self, chart: Chart) -> None:
        def annotations(values: Obj) -> Mapping[str, str]:
            template = pick(render(chart, values), "Deployment", "sightline-api")["spec"]["template"]
            return dict(template["metadata"]["annotations"])

        assert annotations({}) == annotations({})
        assert annotations({}) != annotations({"api": {"quota": {"burst": 31}}})

    def test_fixed_tokens_need_the_development_mode(self, chart: Chart) -> None:
        users = [{"token": "0123456789", "user": "alice"}]
        with pytest.raises(HelmError, match=r"set api\.dev\.enabled"):
            render(chart, {"api": {"dev": {"staticUsers": users}}})

    def test_no_secret_is_in_the_environment_or_a_config_map(self, chart: Chart) -> None:
        objects = [obj for obj in render(chart, EVERYTHING) if obj["kind"] != "Secret"]
        assert "0123456789" not in json.dumps(objects)


class TestDefaultClass:
    def applied(self, chart: Chart, values: Obj) -> Obj:
        text = pick(render(chart, values), "ConfigMap", "sightline-class")["data"]["class.json"]
        return dict(json.loads(text))

    @pytest.mark.parametrize("values", [{}, EVERYTHING])
    def test_is_valid_and_supported(self, chart: Chart, values: Obj) -> None:
        made = self.applied(chart, values)
        complete = crd.defaulted("CameraClass", made)
        assert crd.validate("CameraClass", complete) == []
        assert not_supported_yet(CameraClassSpec.model_validate(complete["spec"])) == []
        assert made["metadata"]["annotations"] == {"sightline.dev/is-default-class": "true"}

    def test_follows_the_values(self, chart: Chart) -> None:
        assert self.applied(chart, {"image": {"pullPolicy": "Never"}})["spec"] == {"agent": {"pullPolicy": "Never"}}
        made = self.applied(chart, EVERYTHING)
        assert made["metadata"]["name"] == "edge"
        assert made["spec"] == {
            "agent": {"pullPolicy": "Always", "pullSecrets": ["pull"]},
            "limits": {"maxViewers": 7},
        }

    def test_the_job_comes_after_the_release(self, chart: Chart) -> None:
        job = pick(render(chart), "Job", "sightline-class")
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade,post-rollback"
        (container,) = job["spec"]["template"]["spec"]["containers"]
        shown = pick(render(chart), "ConfigMap", "sightline-class")["data"]
        mount = container["volumeMounts"][0]["mountPath"]
        assert container["command"] == ["python", *(f"{mount}/{name}" for name in sorted(shown))]
        assert shown["apply_class.py"].strip() == (CHART / "files/apply_class.py").read_text().strip()

    def test_may_be_left_out(self, chart: Chart) -> None:
        names = {obj["metadata"]["name"] for obj in render(chart, {"defaultClass": {"create": False}})}
        assert "sightline-class" not in names


class TestSpares:
    def test_what_ends_them_is_there_at_the_end_alone(self, chart: Chart) -> None:
        """All of it is made for the Job, and before it, by `helm uninstall`, and none of it stays."""
        made = [obj for obj in render(chart, EVERYTHING) if obj["metadata"]["name"] == "sightline-spares"]
        places = {(obj["kind"], obj["metadata"]["namespace"]) for obj in made}
        assert places == {
            ("ServiceAccount", NAMESPACE),
            ("Role", "doors"),
            ("RoleBinding", "doors"),
            ("Job", NAMESPACE),
        }
        for obj in made:
            notes = obj["metadata"]["annotations"]
            assert notes["helm.sh/hook"] == "post-delete"
            assert "hook-succeeded" in notes["helm.sh/hook-delete-policy"]
            assert (int(notes.get("helm.sh/hook-weight", "0")) < 0) is (obj["kind"] != "Job")

    def test_the_job_runs_the_program_for_the_namespaces(self, chart: Chart) -> None:
        job = pick(render(chart, EVERYTHING), "Job", "sightline-spares")
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["command"] == ["python", "-c"]
        assert container["args"] == [(CHART / "files/end_spares.py").read_text(), "doors"]

    def test_nothing_of_it_is_there_without_namespaces(self, chart: Chart) -> None:
        assert "sightline-spares" not in {obj["metadata"]["name"] for obj in render(chart)}


class TestReplicas:
    @pytest.mark.parametrize(
        ("values", "replicas"),
        [
            ({}, {"sightline-operator": 2, "sightline-api": 1}),
            (EVERYTHING, {"sightline-operator": 3, "sightline-api": 3}),
            ({"operator": {"replicas": 1}, "api": {"replicas": 2}}, {"sightline-operator": 1, "sightline-api": 2}),
        ],
    )
    def test_they_are_kept_apart_and_leave_one_by_one(
        self, chart: Chart, values: Obj, replicas: dict[str, int]
    ) -> None:
        objects = render(chart, values)
        budgets = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "PodDisruptionBudget"}
        assert budgets.keys() == {name for name, number in replicas.items() if number > 1}
        for name, number in replicas.items():
            spec = pick(objects, "Deployment", name)["spec"]
            assert spec["replicas"] == number
            assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
            (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
            assert spread["labelSelector"] == spec["selector"]
            assert number == 1 or budgets[name] == {"maxUnavailable": 1, "selector": spec["selector"]}

    @pytest.mark.parametrize("values", [{}, EVERYTHING])
    def test_the_lease_is_in_the_release_s_namespace_alone(self, chart: Chart, values: Obj) -> None:
        objects = render(chart, values)
        about_leases = [
            (obj["kind"], obj["metadata"]["namespace"], rule["verbs"], rule.get("resourceNames"))
            for obj in objects
            if obj["kind"] in {"Role", "ClusterRole"}
            for rule in obj["rules"]
            if "leases" in rule["resources"]
        ]
        name = environment(objects, "sightline-operator")["SIGHTLINE_LEASE_NAME"]
        assert about_leases == [
            ("Role", NAMESPACE, ["create"], None),
            ("Role", NAMESPACE, ["get", "update"], [name]),
        ]


class TestValues:
    def test_defaults_obey_the_schema(self, chart: Chart) -> None:
        chart.validate_schema()

    def test_the_schema_knows_exactly_the_values(self, chart: Chart) -> None:
        def compare(schema: Obj, values: Obj, path: str) -> None:
            assert schema["additionalProperties"] is False, path
            assert schema["properties"].keys() - {"global"} == values.keys(), path
            for key, value in values.items():
                below = schema["properties"][key]
                if isinstance(value, dict) and "properties" in below and key not in {"requests", "limits"}:
                    compare(below, value, f"{path}.{key}")

        assert chart.schema
        compare(chart.schema, chart.values, "values")

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"replicas": 2}, "additional properties 'replicas' not allowed"),
            ({"api": {"replica": 2}}, "additional properties 'replica' not allowed"),
            ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
            ({"api": {"oidc": [{"issuer": "https://a"}]}}, "audiences"),
            ({"api": {"oidc": [{"issuer": "https://a", "audiences": ["b"], "clientId": "c"}]}}, "clientId"),
            ({"api": {"publicUrl": "https://user:word@host"}}, "publicUrl"),
            ({"api": {"dev": {"staticUsers": [{"token": "short", "user": "a"}]}}}, "token"),
            ({"watchNamespaces": ["Doors"]}, "watchNamespaces"),
            ({"operator": {"replicas": 0}}, "replicas"),
            ({"operator": {"leaseSeconds": 1}}, "leaseSeconds"),
        ],
    )
    def test_what_is_refused(self, chart: Chart, values: Obj, words: str) -> None:
        with pytest.raises(HelmError, match=re.escape(words)):
            chart.validate_schema(values)

    def test_an_ingress_without_a_host_is_refused(self, chart: Chart) -> None:
        with pytest.raises(HelmError, match="name at least one host"):
            render(chart, {"api": {"ingress": {"enabled": True}}})

    def test_notes(self, chart: Chart) -> None:
        def notes(values: Obj) -> str:
            return chart.render(values, name="sightline", namespace=NAMESPACE)["sightline/templates/NOTES.txt"]

        assert "port-forward service/sightline-api 8080:http" in notes({})
        assert "kubectl create token default --audience sightline" in notes({})
        for pods_alone in ({}, {"network": None}, {"network": {"mode": "PodIP"}}):
            assert "network.mode=NodePort" in notes({"defaultClass": {"spec": pods_alone}})
        assert "network.mode" not in notes({"defaultClass": {"spec": {"network": {"mode": "Relay"}}}})
        assert "WARNING" not in notes({})
        assert "The page: https://cameras.example.org" in notes(EVERYTHING)
        assert "WARNING: api.dev.enabled" in notes(EVERYTHING)
        assert "networkPolicies.agentNamespaces={default}" in notes({})
        closed: list[Obj] = [
            EVERYTHING,
            {"networkPolicies": {"agentNamespaces": ["doors"]}},
            {"networkPolicies": {"enabled": False}},
        ]
        assert not any("agentNamespaces" in notes(values) for values in closed)
