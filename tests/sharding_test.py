"""Meshes: bad ones are refused, and good ones all train the same model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from lora_jax import config as run_config
from lora_jax import data, sharding
from lora_jax.errors import UserError
from lora_jax.jobs import align
from lora_jax.jobs.base import Base
from lora_jax.jobs.preparation import Preparation
from lora_jax.jobs.text import TrainingText
from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models import decoder
from lora_jax.models.config import DecoderConfig
from lora_jax.models.parameters import count, flatten, initialise
from lora_jax.training.metrics import read_metrics
from lora_jax.training.optimizer import make_optimizer
from lora_jax.training.step import TrainState

CONFIG = DecoderConfig(
    "qwen2", vocabulary=96, width=32, mlp_width=48, layers=3, heads=4, kv_heads=2, head_width=8,
    qkv_bias=True, tied_embeddings=True,
)  # fmt: skip
DECLARATIONS = decoder.declare(CONFIG)
STEPS = 20

pytestmark = pytest.mark.skipif(len(jax.devices()) < 8, reason="needs eight devices")


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ({}, (8, 1, 1)),
        ({"fsdp": 4}, (2, 4, 1)),
        ({"data": 1, "fsdp": -1, "tensor": 2}, (1, 4, 2)),
        ({"data": 2, "fsdp": 2, "tensor": 2}, (2, 2, 2)),
    ],
)
def test_mesh_takes_what_is_left(sizes, shape):
    assert tuple(sharding.make_mesh(**sizes).shape.items()) == tuple(
        zip(("data", "fsdp", "tensor"), shape, strict=True)
    )


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": 3}, "data=3, fsdp=1, tensor=1 does not fill the 8 devices"),
        ({"data": 16}, "does not fill the 8 devices"),
        ({"fsdp": 3}, "does not fill the 8 devices"),
        ({"fsdp": 16}, "does not fill the 8 devices"),
        ({"data": -1, "tensor": -1}, "only one of data, fsdp and tensor may be -1"),
    ],
)
def test_mesh_that_does_not_fit_the_devices_is_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        sharding.make_mesh(**sizes)


def test_heads_are_not_cut():
    mesh = sharding.make_mesh(tensor=4)
    sharding.check_heads(8, 4, mesh)
    with pytest.raises(UserError, match="tensor=4 does not divide the model's 8 query heads and 2"):
        sharding.check_heads(8, 2, mesh)
    with pytest.raises(UserError, match="does not divide the model's 6 query heads"):
        sharding.check_heads(6, 4, mesh)


def test_batch_spreads_evenly_or_is_refused():
    mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
    sharding.check_batch(8, mesh, "config.data.batch_size")
    with pytest.raises(UserError, match="batch_size=6 does not divide over data x fsdp = 4 parts"):
        sharding.check_batch(6, mesh, "config.data.batch_size")


def test_weights_that_do_not_divide_are_named():
    odd = decoder.declare(dataclasses.replace(CONFIG, mlp_width=50))
    with pytest.raises(UserError, match=r"tensor=4 does not divide layers\.mlp.* 50 elements"):
        sharding.parameter_shardings(odd, sharding.make_mesh(tensor=4))


def test_nothing_is_constrained_without_a_mesh():
    x = jnp.ones((3, 5))
    assert sharding.constrain(x, "batch", "embed") is x
    assert sharding.partition(("batch", None, "mlp")) == PartitionSpec(
        ("data", "fsdp"), None, "tensor"
    )


@pytest.mark.parametrize("sizes", [{"fsdp": 8}, {"fsdp": 4, "tensor": 2}])
def test_weights_and_moments_are_split_alike(sizes):
    mesh = sharding.make_mesh(**sizes)
    shardings = sharding.parameter_shardings(DECLARATIONS, mesh)
    params = jax.device_put(initialise(DECLARATIONS, jax.random.key(0)), shardings)
    optimizer = make_optimizer(run_config.default_config().train, STEPS, DECLARATIONS)
    state = TrainState.start(params, optimizer, seed=0)
    held = sum(x.addressable_shards[0].data.size for x in jax.tree.leaves(state.trainable))
    moments = sum(x.addressable_shards[0].data.size for x in jax.tree.leaves(state.optimizer))
    matrices = sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim > 2)
    assert held <= count(DECLARATIONS) - matrices * 7 // 8
    assert 2 * held <= moments <= 2 * held + 2  # Two counts besides.


def make_batches(batch_size: int) -> data.TrainingBatches:
    rng = np.random.default_rng(0)
    rows = []
    for number, length in enumerate(rng.integers(9, 17, 40)):
        tokens = rng.integers(0, CONFIG.vocabulary, length).astype(np.int32)
        supervised = np.arange(length) >= 3
        rows.append(data.EncodedConversation(tokens, supervised, 3, f"row {number}"))
    return data.training_batches(
        rows, batch_size=batch_size, max_length=16, epochs=STEPS, seed=0, packing=False
    )


def train(mode: str, devices: int, sizes: dict[str, int], workdir):
    """Train on a mesh; return losses, gradient norms and what was trained, as host arrays."""
    config = run_config.default_config()
    # Small steps of the whole model: Adam's first ones go by the sign of a gradient, and where that is
    # all but zero, rounding decides.
    config.train.learning_rate = 3e-3 if mode == "lora" else 1e-4
    config.train.log_every = 1
    mesh = sharding.make_mesh(**sizes, devices=jax.devices()[:devices])
    spec = None
    if mode == "lora":
        ranks = masks.select(DECLARATIONS, ["q_proj", "up_proj", "down_proj"], [1, 2], rank=2)
        spec = AdapterSpec.from_ranks(ranks, alpha=8.0, dropout=0.3)
    base = Base("made here", workdir, CONFIG, DECLARATIONS, mesh)
    text = TrainingText(None, None, [], [], None, make_batches(8))
    prepared = Preparation(config, base, spec, {}, text, STEPS)
    weights = jax.tree.map(lambda x: 5 * x, initialise(DECLARATIONS, jax.random.key(0)))
    weights = jax.device_put(weights, sharding.parameter_shardings(DECLARATIONS, mesh))
    trained = align.train(prepared, weights, align.start_factors(prepared), workdir)
    rows = read_metrics(workdir / "metrics.jsonl")
    measured = np.array([[row["loss"], row["grad_norm"]] for row in rows])
    return measured, flatten(jax.tree.map(np.asarray, trained))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Give the run on one device, by mode."""
    runs = {}

    def run(mode):
        if mode not in runs:
            runs[mode] = train(mode, 1, {}, tmp_path_factory.mktemp("alone"))
        return runs[mode]

    return run


@pytest.fixture
def compilations(monkeypatch):
    """Give the steps that are made, to ask how often each was compiled."""
    steps, make_step = [], align.make_step

    def record(*args, **kwargs):
        steps.append(make_step(*args, **kwargs))
        return steps[-1]

    monkeypatch.setattr(align, "make_step", record)
    return steps


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"data": 2, "fsdp": 2, "tensor": 2},
        pytest.param({"data": 8}, marks=pytest.mark.slow),
        pytest.param({"fsdp": 8}, marks=pytest.mark.slow),
        pytest.param({"fsdp": 4, "tensor": 2}, marks=pytest.mark.slow),
        pytest.param({"data": 4, "tensor": 2}, marks=pytest.mark.slow),
    ],
    ids=lambda sizes: "-".join(f"{axis}{size}" for axis, size in sizes.items()),
)
def test_every_mesh_trains_the_same_model(alone, compilations, tmp_path, mode, sizes):
    """Dropout included: which elements fall out must not depend on where they are computed."""
    expected, reference = alone(mode)
    measured, trained = train(mode, 8, sizes, tmp_path)
    assert len(measured) == STEPS and np.ptp(expected[:, 0]) > 0.1
    np.testing.assert_allclose(measured[0], expected[0], rtol=2e-5)
    np.testing.assert_allclose(measured, expected, rtol=1e-3)
    for path, value in trained.items():
        np.testing.assert_allclose(value, reference[path], atol=1e-3, err_msg=path)
    assert compilations[-1]._cache_size() == 1
