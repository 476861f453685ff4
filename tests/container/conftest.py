"""What the container tests share: an engine, the image of this checkout, a network without neighbours."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.broker import MOSQUITTO, NO_MOSQUITTO, Mosquitto, Witness, mosquitto
from tests.container import building
from tests.container import engine as engines
from tests.container.engine import Engine
from tests.container.network import own_network
from tests.container.platform import Platform

FAILED = pytest.StashKey[bool]()  # whether a test has failed so far


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def engine() -> Engine:
    """`docker`, whoever answers to it."""
    found = engines.find()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The id of the image, built from this checkout."""
    return building.build(engine)


@pytest.fixture(scope="module")
def network(engine: Engine, image: str) -> Iterator[None]:
    """Host networking without the ports of whatever else runs here (a Docker engine has the real one)."""
    if not engine.private:
        yield
        return
    with own_network():
        yield


@pytest.fixture(scope="module")
def broker(network: None) -> Iterator[Mosquitto]:
    """mosquitto where everybody looks for it."""
    if MOSQUITTO is None:
        pytest.skip(NO_MOSQUITTO)
    with mosquitto(1883) as running:
        yield running


@pytest.fixture(scope="module")
def witness(broker: Mosquitto) -> Iterator[Witness]:
    with Witness(broker.port) as client:
        yield client


@pytest.fixture(scope="module")
def module_host(
    engine: Engine, network: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Platform]:
    name = request.module.__name__.rpartition(".")[2].replace("test_", "hub-").replace("_", "-")
    made = Platform(engine, tmp_path_factory.mktemp("platform"), name)
    yield made
    made.clear()


@pytest.fixture
def host(module_host: Platform, request: pytest.FixtureRequest) -> Iterator[Platform]:
    """A machine with the platform on it, the same for a module; on failure its containers tell their logs."""
    yield module_host
    if request.node.stash.get(FAILED, False):
        module_host.tell()
