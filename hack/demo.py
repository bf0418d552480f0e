"""`python -m hack.demo`: Sightline on a real cluster, from nothing to the address of its page and a token.

The cluster is the local node built from source, kind when Docker and kind are there, or, on request only, the
one of the current kubeconfig context. Running it again brings what changed: images are named by their content.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import images, node, toolchain
from hack.cluster.console import Stopwatch, exit_code, run, say, succeeds
from hack.cluster.errors import ClusterError
from hack.cluster.paths import ROOT, build_dir

NAMESPACE = "sightline-system"
CHART = ROOT / "charts" / "sightline"
TOKEN_HOURS = 12
KIND_CLUSTER = "sightline"
LOCAL_PORT = 8080


@dataclass(frozen=True)
class Target:
    """A cluster with the images in it. `reachable` says that this machine reaches its Services directly."""

    kubeconfig: Path | None
    registry: str
    tag: str
    reachable: bool

    def kubectl(self, *arguments: str | Path, given: str | None = None) -> str:
        """Run kubectl against this cluster."""
        return run(self.command(toolchain.kubectl(), *arguments), given=given)

    def command(self, program: Path, *arguments: str | Path) -> list[str | Path]:
        """A command line of kubectl or helm for this cluster; without a kubeconfig, the current context."""
        chosen = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        return [program, *chosen, *arguments]


def main(arguments: Sequence[str] | None = None) -> int:
    """Set everything up, then print where it is."""
    options = _parser().parse_args(arguments)
    return exit_code(lambda: _demonstrate(options))


def _demonstrate(options: argparse.Namespace) -> None:
    watch = Stopwatch()
    target = _target(options)
    _install(target)
    _apply_examples(target, options.examples)
    token = _token(target)
    say(f"all of it took {watch}")
    _show(target, token)


def _target(options: argparse.Namespace) -> Target:
    cluster = options.cluster or ("kind" if _kind_is_there() else "local")
    say(f"cluster: {cluster}")
    match cluster:
        case "local":
            plane = node.start(None)
            return Target(plane.kubeconfig, images.REGISTRY, images.build_and_load(), reachable=True)
        case "kind":
            return _kind()
        case _:
            return _current(options.registry)


def _kind_is_there() -> bool:
    return shutil.which("kind") is not None and succeeds(["docker", "info"])


def _kind() -> Target:
    if not _kind_is_there():
        raise ClusterError("CLUSTER=kind needs kind and a Docker engine that answers; CLUSTER=local needs neither")
    kubeconfig = build_dir() / "kind.kubeconfig"
    build_dir().mkdir(parents=True, exist_ok=True)
    named = [f"--name={KIND_CLUSTER}", f"--kubeconfig={kubeconfig}"]
    if KIND_CLUSTER in run(["kind", "get", "clusters"]).split():
        run(["kind", "export", "kubeconfig", *named])
    else:
        say("creating a kind cluster")
        run(["kind", "create", "cluster", *named, "--wait=120s"])
    names, tag = _docker_images(images.REGISTRY)
    say("loading the images into kind")
    run(["kind", "load", "docker-image", f"--name={KIND_CLUSTER}", *names])
    return Target(kubeconfig, images.REGISTRY, tag, reachable=_route_to_kind())


def _route_to_kind() -> bool:
    """Let this machine reach pods and Services of kind's node, as viewers' media must; needs root."""
    inspect = ["docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"]
    address = run([*inspect, f"{KIND_CLUSTER}-control-plane"]).strip()
    routes = [["ip", "route", "replace", network, "via", address] for network in ("10.244.0.0/16", "10.96.0.0/16")]
    if os.geteuid() == 0 and all(succeeds(route) for route in routes):
        return True
    say("pods of kind are not reachable from here, so no picture would come through; as root, run:")
    for route in routes:
        say("  " + " ".join(route))
    return False


def _current(registry: str | None) -> Target:
    if registry is None:
        raise ClusterError(
            "CLUSTER=current needs a registry that the cluster pulls from: REGISTRY=registry.example/sightline"
        )
    names, tag = _docker_images(registry)
    for name in names:
        say(f"pushing {name}")
        run(["docker", "push", name])
    return Target(None, registry, tag, reachable=False)


def _docker_images(registry: str) -> tuple[list[str], str]:
    tag, names = images.content_tag(), []
    for component in images.COMPONENTS:
        name = f"{registry}/{component}:{tag}"
        if not succeeds(["docker", "image", "inspect", name]):
            say(f"building {name}")
            run(["docker", "build", f"--build-arg=COMPONENT={component}", f"--tag={name}", ROOT])
        names.append(name)
    return names, tag


def _install(target: Target) -> None:
    say(f"installing the chart into {NAMESPACE}")
    helm = toolchain.helm()
    values = {
        "image.registry": target.registry,
        "image.tag": target.tag,
        "image.pullPolicy": "IfNotPresent",
    }
    settings = [f"--set-string={key}={value}" for key, value in values.items()]
    release: list[str | Path] = [
        "upgrade",
        "--install",
        "sightline",
        CHART,
        f"--namespace={NAMESPACE}",
        "--create-namespace",
    ]
    try:
        run(target.command(helm, *release, *settings, "--wait", "--timeout=120s"))
    except ClusterError as error:
        # Where helm has waited in vain it does not say for what; the pods know.
        say(str(error))
        say(target.kubectl("get", "pods", f"--namespace={NAMESPACE}"))
        selector = "--selector=app.kubernetes.io/name=sightline"
        say(target.kubectl("logs", f"--namespace={NAMESPACE}", selector, "--prefix", "--tail=5"))
        raise


def _apply_examples(target: Target, patterns: Sequence[str]) -> None:
    found = (path for pattern in patterns for path in (ROOT / "examples").glob(pattern))
    folders = sorted(path for path in found if path.is_dir())
    for folder in folders:
        say(f"applying examples/{folder.name}")
        target.kubectl("apply", "-f", folder)
    if folders:
        target.kubectl("wait", "cameras.sightline.dev", "--all", "--for=condition=Ready", "--timeout=60s")


def _token(target: Target) -> str:
    target.kubectl("apply", "-f", ROOT / "hack" / "demo.yaml")
    request = ["create", "token", "demo", f"--namespace={NAMESPACE}"]
    return target.kubectl(*request, "--audience=sightline", f"--duration={TOKEN_HOURS}h").strip()


def _show(target: Target, token: str) -> None:
    service = f"svc/{_api_service(target)}"
    if target.kubeconfig:
        print(f"\n{toolchain.exports(target.kubeconfig)}")
    print(target.kubectl("get", "cameras.sightline.dev", "--all-namespaces"))
    if target.reachable:
        where = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}"
        address = target.kubectl("get", service, f"--namespace={NAMESPACE}", f"-o={where}")
        print(f"page:  http://{address}/\ntoken: {token}")
        return
    print(f"page:  http://127.0.0.1:{LOCAL_PORT}/   (forwarded until Ctrl-C)\ntoken: {token}", flush=True)
    forward = ["port-forward", f"--namespace={NAMESPACE}", service, f"{LOCAL_PORT}:http"]
    try:
        subprocess.run([str(part) for part in target.command(toolchain.kubectl(), *forward)], check=False)
    except KeyboardInterrupt:
        return


def _api_service(target: Target) -> str:
    selector = "--selector=app.kubernetes.io/component=api"
    first = "-o=jsonpath={.items[0].metadata.name}"
    return target.kubectl("get", "services", f"--namespace={NAMESPACE}", selector, first)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hack.demo", description=__doc__)
    parser.add_argument("--cluster", choices=("current", "kind", "local"), help="default: the best that is there")
    parser.add_argument("--registry", help="where to push the images to, with --cluster=current")
    parser.add_argument("--examples", nargs="*", default=["01-*"], help="folders of examples/ to apply")
    return parser


if __name__ == "__main__":
    sys.exit(main())
