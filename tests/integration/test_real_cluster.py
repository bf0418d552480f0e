"""RealCluster when its API server goes away."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from sightline_kube.errors import UnavailableError
from sightline_kube.kinds import CAMERA
from sightline_kube.real import RealCluster
from tests.helpers.apiserver import ROOT, ApiserverMissingError, running_apiserver
from tests.helpers.kube_objects import camera

pytestmark = pytest.mark.apiserver


async def test_an_api_server_that_dies_is_unavailable(tmp_path: Path) -> None:
    try:
        with running_apiserver(tmp_path, crds=ROOT / "crds") as server:
            cluster = await RealCluster.from_kubeconfig(str(server.kubeconfig))
            made = await cluster.create(camera("front"))
            stream = cluster.watch(CAMERA, resource_version=made["metadata"]["resourceVersion"])
            waiting = asyncio.ensure_future(anext(stream, None))
            await cluster.create(camera("back"))
            event = await waiting
            assert event
            assert event.obj["metadata"]["name"] == "back"
            waiting = asyncio.ensure_future(anext(stream, None))
            await cluster.get(CAMERA, "default", "front")
    except ApiserverMissingError as error:
        pytest.fail(str(error), pytrace=False)
    async with asyncio.timeout(30):
        with suppress(UnavailableError):  # unless the server had the time to say good-bye
            assert await waiting is None
        for call in (cluster.list(CAMERA), cluster.get(CAMERA, "default", "front"), cluster.create(camera("new"))):
            with pytest.raises(UnavailableError):
                await call
    await cluster.close()
