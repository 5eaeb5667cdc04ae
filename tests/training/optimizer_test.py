"""AdamW, clipping and schedules against PyTorch's; state for what is trained and nothing else."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from lora_jax import config as run_config
from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models import decoder
from lora_jax.models.config import DecoderConfig
from lora_jax.models.parameters import Parameter, count, flatten, tree_map
from lora_jax.training.optimizer import make_optimizer, make_schedule

STEPS = 20
DECLARATIONS = {
    "kernel": Parameter((3, 4), ("embed", "mlp"), "kernel", transposed=True),
    "stacked": Parameter((4, 2), ("embed", "rank"), "layer.{layer}.lora_A").stack(range(2)),
    "norm": Parameter((5,), (None,), "layer.{layer}.norm").stack(range(2)),
    "bias": Parameter((4,), ("mlp",), "bias"),
}
DECAYING = ("kernel", "stacked")


def settings(**fields):
    train = run_config.default_config().train
    train.learning_rate = 0.01
    train.weight_decay = 0.3
    train.update(fields)
    return train


def torch_factor(train, step):
    """Return the learning rate's factor at a step, from the definition."""
    if step < train.warmup_steps:
        return step / train.warmup_steps
    if train.schedule == "constant":
        return 1.0
    done = (step - train.warmup_steps) / (STEPS - train.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"warmup_steps": 5},
        {"schedule": "constant", "b1": 0.8, "b2": 0.95, "eps": 1e-3},
        {"clip_norm": 0.1, "weight_decay": 0.0},
    ],
)
def test_updates_equal_torchs(fields):
    train = settings(**fields)
    rng = np.random.default_rng(0)
    ours = tree_map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), DECLARATIONS
    )
    theirs = {name: torch.nn.Parameter(torch.tensor(np.asarray(x))) for name, x in ours.items()}
    groups = [
        {"params": [theirs[name] for name in DECAYING], "weight_decay": train.weight_decay},
        {"params": [theirs["norm"], theirs["bias"]], "weight_decay": 0.0},
    ]
    oracle = torch.optim.AdamW(groups, train.learning_rate, (train.b1, train.b2), train.eps)
    schedule = torch.optim.lr_scheduler.LambdaLR(oracle, lambda step: torch_factor(train, step))
    optimizer = make_optimizer(train, STEPS, DECLARATIONS)
    state, update = optimizer.init(ours), jax.jit(optimizer.update)
    for step in range(STEPS):
        # Small and large gradients in turn, so that some are clipped and some are not.
        size = (0.01, 10.0)[step % 2]
        gradient = {name: np.float32(size * rng.normal(size=x.shape)) for name, x in ours.items()}
        updates, state = update(gradient, state, ours)
        ours = jax.tree.map(jnp.add, ours, updates)
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(gradient[name])
        torch.nn.utils.clip_grad_norm_(list(theirs.values()), train.clip_norm)
        oracle.step()
        schedule.step()
        for name, parameter in theirs.items():
            np.testing.assert_allclose(ours[name], parameter.detach().numpy(), atol=2e-5)


@pytest.mark.parametrize("fields", [{}, {"warmup_steps": 5}, {"schedule": "constant"}])
def test_schedule_is_its_definition(fields):
    train = settings(**fields)
    schedule = make_schedule(train, STEPS)
    rates = [float(schedule(step)) for step in range(STEPS)]
    expected = [train.learning_rate * torch_factor(train, step) for step in range(STEPS)]
    np.testing.assert_allclose(rates, expected, atol=1e-8)


def test_cosine_ends_at_zero_and_warmup_longer_than_the_run_never_passes_the_rate():
    assert float(make_schedule(settings(), STEPS)(STEPS)) < 1e-9
    long = make_schedule(settings(warmup_steps=50), STEPS)
    assert 0 < float(long(STEPS - 1)) < 0.01
    assert float(make_schedule(settings(), 1)(0)) == pytest.approx(0.01)


def test_matrices_decay_and_norms_and_biases_do_not():
    train = settings(schedule="constant")
    ones = tree_map(lambda leaf: jnp.ones(leaf.shape), DECLARATIONS)
    optimizer = make_optimizer(train, STEPS, DECLARATIONS)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, ones), optimizer.init(ones), ones)
    for name, update in updates.items():
        expected = -train.learning_rate * train.weight_decay if name in DECAYING else 0.0
        np.testing.assert_allclose(update, expected, rtol=1e-6)


def test_state_is_two_moments_of_the_trainable_tree():
    declarations = decoder.declare(DecoderConfig("qwen2", 61, 16, 24, 4, 2, 1, 8))
    ranks = masks.select(declarations, ["up_proj"], [1, 2], rank=1)
    spec = AdapterSpec.from_ranks(ranks, alpha=16.0)
    declared = spec.declare(declarations)
    factors = spec.initialise(declarations, jax.random.key(0))
    leaves = jax.tree.leaves(make_optimizer(settings(), STEPS, declared).init(factors))
    arrays = [leaf for leaf in leaves if leaf.ndim]
    assert len(arrays) == 2 * len(flatten(declared))
    assert sum(leaf.nbytes for leaf in arrays) == 2 * 4 * count(declared) == 2 * 4 * 2 * (16 + 24)
    assert len(leaves) - len(arrays) <= 2 and {leaf.dtype for leaf in arrays} == {
        jnp.dtype("float32")
    }
