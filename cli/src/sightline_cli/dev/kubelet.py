"""A kubelet for one kind of pod: runs each agent pod of the in-memory cluster as a process of this machine.

One task per pod owns its process, files and status; the kubelet itself only starts and ends those tasks as pods come
and go. Each pod gets a loopback address of its own (all of 127.0.0.0/8 is loopback on Linux), so that ports are as in
a cluster. Processes end with this one: by SIGTERM in an orderly stop, by the kernel (PR_SET_PDEATHSIG through setpriv)
when this process is killed.
"""

import asyncio
import base64
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import aiohttp
import structlog

from sightline_cli.dev import pods
from sightline_kube import errors
from sightline_kube.cache import Key
from sightline_kube.cluster import Cluster, Obj
from sightline_kube.kinds import POD, SECRET
from sightline_model.agent import CONTROL_PORT, MEDIA_PORT

STOP_SECONDS = 6.0
PROBE_SECONDS = 0.2
log = structlog.get_logger(__name__)


def log_file(directory: Path, pod: str) -> Path:
    """What the agent of a pod of that name says."""
    return directory / "logs" / f"{pod}.log"


def loopback_addresses() -> Iterator[str]:
    """127.77.0.2 and on, leaving out those where another program has one of our ports."""
    for number in range(2, 250 * 250):
        address = f"127.77.{number // 250}.{number % 250 + 1}"
        if _is_free(address):
            yield address


def _is_free(address: str) -> bool:
    for kind, port in ((socket.SOCK_STREAM, CONTROL_PORT), (socket.SOCK_DGRAM, MEDIA_PORT)):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


class ProcessKubelet:
    """Runs the pods that it is told of; subscribe `observe` to a cache of pods."""

    def __init__(
        self,
        cluster: Cluster,
        directory: Path,
        now: Callable[[], datetime],
        addresses: Iterator[str] | None = None,
    ) -> None:
        self._cluster = cluster
        self._directory = directory
        self._now = now
        self._addresses = addresses or loopback_addresses()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._names: dict[tuple[str, str], str] = {}

    def observe(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        """A pod has come, changed or gone."""
        if key.kind is not POD:
            return
        gone = now is None or now["metadata"].get("deletionTimestamp") is not None
        uid = (now or before or {"metadata": {"uid": ""}})["metadata"]["uid"]
        current = self._names.get((key.namespace, key.name))
        if current and (gone or current != uid):
            self._end(current)
            del self._names[key.namespace, key.name]
        if now is not None and not gone and uid not in self._tasks:
            self._names[key.namespace, key.name] = uid
            task = asyncio.create_task(self._run(now), name=f"pod {key.name}")
            self._tasks[uid] = task
            task.add_done_callback(lambda done: self._ended(uid, done))

    async def stop(self) -> None:
        """End every process; returns when all are gone."""
        tasks = list(self._tasks.values())
        for uid in list(self._tasks):
            self._end(uid)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, uid: str) -> None:
        if task := self._tasks.get(uid):
            task.cancel()

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(uid, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("pod task failed", error=repr(error))

    async def _run(self, pod: Obj) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            await PodProcess(self._cluster, session, pod, next(self._addresses), self._directory, self._now).run()


class PodProcess:
    """One pod: its files, its process, its status."""

    def __init__(
        self,
        cluster: Cluster,
        session: aiohttp.ClientSession,
        pod: Obj,
        address: str,
        directory: Path,
        now: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._session = session
        self._pod = pod
        self._address = address
        self._root = directory / "pods" / pod["metadata"]["name"]
        self._log = log_file(directory, pod["metadata"]["name"])
        self._now = now
        self._attempt = pods.Attempt()

    async def run(self) -> None:
        """Start the process, again whenever it ends, until cancelled; its files go then, for Secrets are among them."""
        try:
            await self._run_for_ever()
        finally:
            shutil.rmtree(self._root, ignore_errors=True)

    async def _run_for_ever(self) -> None:
        while True:
            await asyncio.sleep(pods.restart_delay(self._attempt.restarts))
            try:
                await self._materialise()
            except errors.NotFoundError as error:
                await self._report(waiting="CreateContainerConfigError", message=str(error))
                await asyncio.sleep(1.0)
                continue
            code = await self._run_once()
            await self._report(
                running=False,
                ready=False,
                restarts=self._attempt.restarts + 1,
                waiting="CrashLoopBackOff",
                message=f"the agent ended with code {code}; its log: {self._log}",
            )

    async def _materialise(self) -> None:
        namespace = self._pod["metadata"]["namespace"]
        shutil.rmtree(self._root, ignore_errors=True)
        for mount in pods.mounts(self._pod):
            folder = self._root / mount.path.lstrip("/")
            folder.mkdir(parents=True, mode=0o700)
            try:
                secret = await self._cluster.get(SECRET, namespace, mount.secret)
            except errors.NotFoundError:
                if mount.optional:
                    continue
                raise
            for key, value in secret.get("data", {}).items():
                (folder / key).write_bytes(base64.b64decode(value))

    async def _run_once(self) -> int:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **pods.environment(self._pod, self._address)}
        command = [sys.executable, "-m", "sightline_agent", *pods.arguments(self._root)]
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "TERM", *command]
        with self._log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            await self._report(running=True, ready=False, started_at=self._now(), waiting="", message="")
            return await self._watch(process)
        finally:
            await _end(process)

    async def _watch(self, process: asyncio.subprocess.Process) -> int:
        ended = asyncio.create_task(process.wait())
        try:
            while not ended.done():
                if not self._attempt.ready and await self._is_ready():
                    await self._report(ready=True)
                await asyncio.wait({ended}, timeout=None if self._attempt.ready else PROBE_SECONDS)
            return ended.result()
        finally:
            ended.cancel()

    async def _is_ready(self) -> bool:
        try:
            async with self._session.get(f"http://{self._address}:{CONTROL_PORT}/readyz") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _report(self, **changes: object) -> None:
        self._attempt = replace(self._attempt, **changes)  # type: ignore[arg-type]
        metadata = self._pod["metadata"]
        with suppress(errors.NotFoundError, errors.ConflictError):
            current = await self._cluster.get(POD, metadata["namespace"], metadata["name"])
            if current["metadata"]["uid"] == metadata["uid"]:
                status = pods.status(current, self._attempt, self._address, self._now())
                await self._cluster.replace_status({**current, "status": status})


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, then SIGKILL when the time is up; shielded, so that a second cancellation leaves no process behind."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except (TimeoutError, asyncio.CancelledError):
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
