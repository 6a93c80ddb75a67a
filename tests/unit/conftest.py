"""Every unit test starts with an empty stack configuration and an environment of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pulumi.runtime
import pytest
from hypothesis import HealthCheck, settings
from pulumi.runtime.settings import SETTINGS

# What a busy machine takes for an example tells nothing of the program.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in ("PULUMI_CONFIG", "PULUMI_CONFIG_SECRET_KEYS", "HCLOUD_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    pulumi.runtime.set_all_config({}, [])
    SETTINGS.dry_run = False  # whatever the last run of the program was
    yield
    pulumi.runtime.set_all_config({}, [])


@pytest.fixture(autouse=True)
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Pulumi's outputs need one to be made."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def update_goldens(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-goldens"))
