"""The clusters that the contract is tested on: one in memory for each test, and a namespace of its own in a real one.

The real one is an API server with the controllers that collect garbage; one serves the whole run.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kubernetes.aio import client as kubernetes
from kubernetes.aio import config

from sightline_kube.real import RealCluster, RealSettings
from tests.helpers.apiserver import Apiserver, ApiserverMissingError, running_apiserver
from tests.helpers.kube_worlds import MemoryWorld, RealWorld, World

CRDS = Path(__file__).resolve().parents[2] / "crds"


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    """One real API server for the whole run."""
    directory = tmp_path_factory.mktemp("apiserver")
    try:
        with running_apiserver(directory, with_controller_manager=True, crds=CRDS) as server:
            yield server
    except ApiserverMissingError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.apiserver)])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Both clusters, one after the other."""
    if request.param == "memory":
        memory = MemoryWorld()
        yield memory
        await memory.cluster.close()
        return
    server: Apiserver = request.getfixturevalue("apiserver")
    settings = RealSettings(page_size=2)  # so that lists have several pages
    cluster = await RealCluster.from_kubeconfig(str(server.kubeconfig), settings=settings)
    configuration = kubernetes.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        str(server.kubeconfig), client_configuration=configuration, persist_config=False
    )
    admin = kubernetes.ApiClient(configuration)
    try:
        namespace = await cluster.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "contract-"}}
        )
        yield RealWorld(cluster, admin, namespace["metadata"]["name"])
    finally:
        await admin.close()  # type: ignore[no-untyped-call]
        await cluster.close()
