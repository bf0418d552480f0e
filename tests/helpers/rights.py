"""A service account on the test API server that has exactly the rights that the chart gives a program."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from helm_python import Chart
from kubernetes.aio import client as kubernetes
from kubernetes.aio import config

from sightline_kube.cluster import AccessQuery, Obj, TokenUser
from tests.helpers.apiserver import Apiserver
from tests.helpers.chart import CHART, render
from tests.helpers.fault_proxy import Call
from tests.helpers.operator_objects import connected

_PATIENCE = 60.0


@dataclass(frozen=True)
class Rights:
    """The rules of a program: in the namespaces that it serves, where its Lease is, and besides."""

    served: Sequence[Obj]
    own: Sequence[Obj]
    cluster_wide: Sequence[Obj]

    @property
    def all(self) -> list[Obj]:
        """All rules."""
        return [*self.served, *self.own, *self.cluster_wide]


def rights(program: str, namespaces: Sequence[str] = (), warm: Sequence[str] = ()) -> Rights:
    """What the rendered chart binds to the program's service account; `warm`: where spare agents are kept."""
    with Chart.load(CHART) as chart:
        objects = render(chart, {"watchNamespaces": [*namespaces], "warmAgents": {"namespaces": [*warm]}})
    account = f"sightline-{program}"
    bound = {
        (obj["roleRef"]["kind"], obj["roleRef"]["name"], obj["metadata"].get("namespace", ""))
        for obj in objects
        if obj["kind"] in {"RoleBinding", "ClusterRoleBinding"}
        and any(subject["name"] == account for subject in obj["subjects"])
    }
    served, own, cluster_wide = list[Obj](), list[Obj](), list[Obj]()
    for obj in objects:
        namespace = obj["metadata"].get("namespace", "")
        if (obj["kind"], obj["metadata"]["name"], namespace) not in bound:
            continue
        if obj["kind"] == "ClusterRole":
            cluster_wide += obj["rules"]
        elif namespace in namespaces[:1]:
            served += obj["rules"]
        elif namespace not in namespaces:
            own += obj["rules"]
    return Rights(served, own, cluster_wide)


def covers(rule: Obj, call: Call) -> bool:
    """Whether RBAC would say yes to the call because of this rule."""
    return (
        call.group in rule["apiGroups"]
        and call.resource in rule["resources"]
        and call.verb in rule["verbs"]
        and (not rule.get("resourceNames") or call.name in rule["resourceNames"])
    )


def granted(rules: Sequence[Obj]) -> set[tuple[str, str, str]]:
    """Each single right: API group, resource, verb."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def unruly(calls: Sequence[Call], given: Rights) -> list[str]:
    """Calls that were refused, or that no rule allows."""
    return [
        f"{call.verb} {call.group}/{call.resource} {call.namespace}/{call.name}: {call.status}"
        for call in calls
        if call.status == 403 or not any(covers(rule, call) for rule in given.all)
    ]


async def token_with(apiserver: Apiserver, given: Rights, served: str, own: str, audiences: Sequence[str] = ()) -> str:
    """A token of a service account with these rights: in the served namespace, in its own, and cluster-wide."""
    configuration = kubernetes.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        str(apiserver.kubeconfig), client_configuration=configuration, persist_config=False
    )
    admin = kubernetes.ApiClient(configuration)
    name = f"program-{served}"
    named = {"metadata": {"name": name}}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": own}]
    try:
        core, rbac = kubernetes.CoreV1Api(admin), kubernetes.RbacAuthorizationV1Api(admin)
        await core.create_namespaced_service_account(own, kubernetes.V1ServiceAccount.model_validate(named))
        for place, part, rules in ((served, "served", given.served), (own, "own", given.own)):
            titled = {"metadata": {"name": f"{name}-{part}"}}
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": f"{name}-{part}"}
            role = kubernetes.V1Role.model_validate({**titled, "rules": [*rules]})
            binding = {**titled, "roleRef": reference, "subjects": subjects}
            await rbac.create_namespaced_role(place, role)
            await rbac.create_namespaced_role_binding(place, kubernetes.V1RoleBinding.model_validate(binding))
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        wide = kubernetes.V1ClusterRole.model_validate({**named, "rules": [*given.cluster_wide]})
        await rbac.create_cluster_role(wide)
        bound = {**named, "roleRef": reference, "subjects": subjects}
        await rbac.create_cluster_role_binding(kubernetes.V1ClusterRoleBinding.model_validate(bound))
        request = kubernetes.AuthenticationV1TokenRequest.model_validate({"spec": {"audiences": [*audiences]}})
        answer = await core.create_namespaced_service_account_token(name, own, request)
        assert answer.status
        token = str(answer.status.token)
    finally:
        await admin.close()  # type: ignore[no-untyped-call]
    user = TokenUser(f"system:serviceaccount:{own}:{name}")
    async with connected(apiserver) as cluster, asyncio.timeout(_PATIENCE):
        for place, rules in ((served, given.served), (own, given.own), ("", given.cluster_wide)):
            for rule in rules[:1]:
                while not await cluster.review_access(_question(user, rule, place)):
                    await asyncio.sleep(0.05)
    return token


def _question(user: TokenUser, rule: Obj, namespace: str) -> AccessQuery:
    """Whether a rule is in force: the authorizer learns of roles and bindings some moments after they were made."""
    resource, _, part = rule["resources"][0].partition("/")
    (name, *_) = rule.get("resourceNames") or [""]
    return AccessQuery(user, rule["verbs"][0], rule["apiGroups"][0], resource, part, namespace, name)
