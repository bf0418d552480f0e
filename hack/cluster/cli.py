"""The commands of the local cluster, each a few lines over the module that does the work."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from hack.cluster import images, node, teardown, testserver, toolchain
from hack.cluster.console import exit_code
from hack.cluster.errors import ClusterError
from hack.cluster.paths import node_dir
from hack.cluster.processes import Supervisor

Command = Callable[[argparse.Namespace], None]
TOOLS = {
    "go2rtc": toolchain.go2rtc,
    "helm": toolchain.helm,
    "kubectl": toolchain.kubectl,
    "kwok": toolchain.kwok,
    "mediamtx": toolchain.mediamtx,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an expected failure is one message and exit code 1."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    return exit_code(lambda: command(options))


def _up(options: argparse.Namespace) -> None:
    if options.control_plane_only:
        _up_control_plane(options)
        return
    plane = node.start(options.api_port)
    print(toolchain.exports(plane.kubeconfig))


def _build(_options: argparse.Namespace) -> None:
    toolchain.build_kube()


def _status(_options: argparse.Namespace) -> None:
    plane = node.running(node_dir())
    if plane is None or not plane.is_ready():
        raise ClusterError("the local node is not running")
    print(toolchain.exports(plane.kubeconfig))


def _down(options: argparse.Namespace) -> None:
    if options.directory:
        directory: Path = options.directory.resolve()
        testserver.stop(directory, Supervisor(directory))
    else:
        teardown.remove(node_dir())


def _images(_options: argparse.Namespace) -> None:
    if node.running(node_dir()) is None:
        raise ClusterError("the local node is not running: start it with `up`")
    print(images.build_and_load())


def _tools(options: argparse.Namespace) -> None:
    for name in options.names:
        print(TOOLS[name]())


def _up_control_plane(options: argparse.Namespace) -> None:
    if options.directory is None:
        raise ClusterError("--control-plane-only needs a folder of its own: --directory DIR")
    directory: Path = options.directory.resolve()
    wanted = testserver.TestServer(directory, options.api_port, options.crds, options.with_controller_manager)
    supervisor = Supervisor(directory)
    if not options.attached:
        plane = testserver.start(wanted, supervisor)
        print(toolchain.exports(plane.kubeconfig))
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        plane = testserver.start(wanted, supervisor)
        print(json.dumps({"kubeconfig": str(plane.kubeconfig), "url": plane.url}), flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        pass
    finally:
        testserver.stop(directory, supervisor)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hack.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="build the node's binary from source, once")
    build.set_defaults(command=_build)
    up = commands.add_parser("up", help="start the node (or a control plane alone) and print its kubeconfig")
    up.set_defaults(command=_up)
    up.add_argument("--control-plane-only", action="store_true", help="etcd and API server only, for tests")
    up.add_argument("--directory", type=Path, help="folder of the control plane (control plane only)")
    up.add_argument("--api-port", type=int, help="port of the API server")
    up.add_argument("--crds", type=Path, help="folder of CRDs to create first (control plane only)")
    up.add_argument("--with-controller-manager", action="store_true", help="deletion follows owners")
    up.add_argument("--attached", action="store_true", help="print JSON and end when standard input closes")
    down = commands.add_parser("down", help="end what `up` started and take its traces away")
    down.set_defaults(command=_down)
    down.add_argument("--directory", type=Path, help="a control plane's folder instead of the node")
    status = commands.add_parser("status", help="print the kubeconfig of the running node, or fail")
    status.set_defaults(command=_status)
    load = commands.add_parser("images", help="build the three images and put them into the node")
    load.set_defaults(command=_images)
    tools = commands.add_parser("tools", help="build tools that the machine lacks and print where they are")
    tools.set_defaults(command=_tools)
    tools.add_argument("names", nargs="+", choices=sorted(TOOLS))
    return parser
