"""What journeys begin with: `fed up` with its own etcd, and engines of sites that are ended with it."""

import os
import signal

import pytest

from broker.store.base import StoreError
from broker.store.embedded import find_binary
from tests.running import Up


@pytest.fixture(scope="session")
def etcd_program():
    """Skips where there is no etcd to embed."""
    try:
        find_binary()
    except StoreError as error:
        pytest.skip(f"{error}")


@pytest.fixture
def home(tmp_path):
    """The broker's own folder."""
    return tmp_path


@pytest.fixture
def settings():
    """The broker's, beside those of all journeys."""
    return {}


@pytest.fixture
def engines_end(tmp_path):
    """Engines of sites outlive their broker, so they are ended here."""
    yield
    for pid in tmp_path.rglob(".fed/engine/daemon.pid"):
        os.kill(int(pid.read_text()), signal.SIGTERM)


@pytest.fixture
def up(etcd_program, engines_end, home, settings):
    """A broker that listens."""
    home.mkdir(exist_ok=True)
    broker = Up(home, **settings)
    broker.start()
    yield broker
    broker.kill()
