"""Contract: where `connect` finds the host, if nobody says it in the program."""

from __future__ import annotations

import pytest

import aiomanager
from aiomanager import ConfigurationError
from tests.support.hosts import KEY, serving

pytestmark = pytest.mark.every_python


@pytest.mark.anyio
@pytest.mark.may_block(reason="the host is started here")
async def test_the_address_in_the_environment(monkeypatch, socket_path):
    """Address and key are what a parent has handed down."""
    with serving(socket_path):
        monkeypatch.setenv("AIOMANAGER_ADDRESS", f"unix://{socket_path}")
        monkeypatch.setenv("AIOMANAGER_AUTHKEY", KEY.decode())
        async with aiomanager.connect() as manager:
            await manager.queue("jobs").put("item")
            assert manager.address == f"unix://{socket_path}"


@pytest.mark.parametrize("value", [None, ""])
def test_no_address(monkeypatch, value):
    """The error says how to give one."""
    monkeypatch.delenv("AIOMANAGER_ADDRESS", raising=False)
    if value is not None:
        monkeypatch.setenv("AIOMANAGER_ADDRESS", value)
    with pytest.raises(ConfigurationError, match="give the address of a host, or set"):
        aiomanager.connect()


@pytest.mark.anyio
@pytest.mark.may_block(reason="the host is started here")
async def test_a_name_that_is_nearly_right(socket_path):
    """The error says which one may be meant, and which there are."""
    with serving(socket_path):
        async with aiomanager.connect(socket_path, KEY) as manager:
            with pytest.raises(ConfigurationError, match=r"did you mean 'jobs'\?.*jobs, small"):
                await manager.queue("jbos").put(1)
            with pytest.raises(ConfigurationError, match=r"did you mean 'small'\?"):
                await manager.proxy("smal")
