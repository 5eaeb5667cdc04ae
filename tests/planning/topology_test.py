"""Topologies are found by name, and a wrong name is answered with near ones."""

import importlib.util

import jax
import pytest

from lora_jax.errors import UserError
from lora_jax.planning import topology
from lora_jax.planning.chips import GIB, find_chip
from lora_jax.planning.topology import find_devices

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu, of the `tpu` extra"
)


def test_no_name_is_this_machine():
    assert find_devices("") == jax.devices()
    chip = find_chip(jax.devices()[0])
    assert GIB / 8 < chip.memory < 2**50 and chip.peak is None


def test_without_libtpu_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"libtpu.*pip install -e '\.\[tpu\]'"):
        find_devices("v5e:2x4")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("v5e:3x3", "near it are v5e:2x4, v5e:2x2, v5e:4x4"),
        ("v5p:1x1", "near it are v5p:2x2x1"),
        ("v9:2x2", "such are v2:4x8, .*v5e:2x4"),
        ("v5litepod-8", "such are "),
        ("v5e:", "near it are v5e:1x1"),
    ],
)
def test_a_wrong_name_is_answered_with_near_ones(monkeypatch, name, near):
    def refuse(**_):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(topology.topologies, "get_topology_desc", refuse)
    with pytest.raises(UserError, match=f"no TPU topology '{name}'; {near}"):
        find_devices(name)


def test_a_compiler_that_does_not_start_is_no_wrong_name(monkeypatch):
    def refuse(**_):
        raise jax.errors.JaxRuntimeError("ABORTED: the lockfile\nand a trace")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(topology.topologies, "get_topology_desc", refuse)
    with pytest.raises(UserError, match="does not start: ABORTED: the lockfile$"):
        find_devices("v5e:2x4")


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize(
    ("name", "devices", "memory"),
    [
        ("v2:2x2", 8, 7.48),
        ("v3:2x2", 8, 15.48),
        ("v4:2x2x1", 8, 15.25),
        ("v5e:1x1", 1, 15.75),
        ("v5e:2x4", 8, 15.75),
        ("v5p:2x2x2", 8, 95.74),
        ("v6e:1x1", 1, 31.25),
        ("tpu7x:2x2x1", 8, 94.75),
    ],
)
def test_libtpu_knows_it(name, devices, memory):
    found = find_devices(name)
    assert len(found) == devices
    assert find_chip(found[0]).memory == int(memory * GIB)


@pytest.mark.slow
@needs_libtpu
def test_libtpu_refuses_what_is_not_there():
    with pytest.raises(UserError, match="no TPU topology 'v5e:3x3'"):
        find_devices("v5e:3x3")
