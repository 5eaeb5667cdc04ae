"""The loop: a run that was interrupted ends exactly as one that was not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import config as run_config
from lora_jax import data
from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models import decoder
from lora_jax.models.config import DecoderConfig
from lora_jax.models.parameters import initialise
from lora_jax.sharding import make_mesh, replicated
from lora_jax.training.checkpoints import Checkpoints
from lora_jax.training.loop import Training
from lora_jax.training.metrics import MetricsWriter, read_metrics
from lora_jax.training.optimizer import make_optimizer, make_schedule
from lora_jax.training.step import TrainState, make_step

CONFIG = DecoderConfig("qwen2", 61, 16, 24, 2, heads=2, kv_heads=1, head_width=8)
DECLARATIONS = decoder.declare(CONFIG)
MESH = make_mesh(devices=jax.devices()[:1])
TRAIN = run_config.default_config().train
STEPS, SAVE_EVERY, LOG_EVERY = 13, 4, 3


class Interruption(Exception):
    """Stands for a kill."""


def make_rows(count=9):
    rng = np.random.default_rng(0)
    for number, length in enumerate(rng.integers(5, 15, count)):
        tokens = rng.integers(0, CONFIG.vocabulary, length).astype(np.int32)
        yield data.EncodedConversation(tokens, np.arange(length) >= 3, 3, f"row {number}")


class Run:
    """A run that can be started as often as one likes; its step is compiled once.

    Args:
        packing: Whether rows are packed.
    """

    def __init__(self, packing):
        self.batches = data.training_batches(
            list(make_rows()), batch_size=2, max_length=16, epochs=7, seed=0, packing=packing
        )
        ranks = masks.select(DECLARATIONS, ["up_proj"], [0, 1], rank=2)
        self.spec = AdapterSpec.from_ranks(ranks, alpha=16.0, dropout=0.2)
        self.base = initialise(DECLARATIONS, jax.random.key(0))
        self.base = jax.device_put(self.base, replicated(MESH))
        self.optimizer = make_optimizer(TRAIN, STEPS, self.spec.declare(DECLARATIONS))
        self.step = make_step(
            CONFIG, self.optimizer, spec=self.spec, compute_dtype=jnp.dtype("float32")
        )

    def start(self, workdir, interrupt_at=None):
        """Train in a workdir, to the end or until a step that raises."""
        taken = 0

        def step(*args):
            nonlocal taken
            taken += 1
            if interrupt_at is not None and taken > interrupt_at:
                raise Interruption
            return self.step(*args)

        training = Training(
            step, self.batches, STEPS, make_schedule(TRAIN, STEPS), MESH, LOG_EVERY, SAVE_EVERY
        )
        factors = self.spec.initialise(DECLARATIONS, jax.random.key(1))
        state = TrainState.start(factors, self.optimizer, seed=0)
        state = jax.device_put(state, replicated(MESH))
        with Checkpoints(workdir / "checkpoints", 2, 1) as checkpoints:
            return training.run(state, self.base, checkpoints, MetricsWriter(workdir))


def rows_without_timings(workdir):
    rows = read_metrics(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in rows]


@pytest.fixture(scope="module", params=["padded", "packed"])
def uninterrupted(request, tmp_path_factory):
    run, workdir = Run(request.param == "packed"), tmp_path_factory.mktemp("uninterrupted")
    return run, run.start(workdir), rows_without_timings(workdir)


@pytest.mark.parametrize(
    "interruptions", [(0, 0), (1, 3), (4,), (5, 1, 6), (12,)], ids=lambda i: "-".join(map(str, i))
)
def test_resumed_run_equals_an_uninterrupted_one(uninterrupted, tmp_path, interruptions):
    run, expected, rows = uninterrupted
    for interrupt_at in interruptions:
        with pytest.raises(Interruption):
            run.start(tmp_path, interrupt_at)
    jax.tree.map(np.testing.assert_array_equal, run.start(tmp_path), expected)
    assert rows_without_timings(tmp_path) == rows


def test_rows_are_logged_at_their_steps_and_at_saves(uninterrupted):
    run, state, rows = uninterrupted
    assert state.step == STEPS
    assert [row["step"] for row in rows] == [3, 4, 6, 8, 9, 12, 13]
    for row in rows:
        assert row["epoch"] == row["step"] / run.batches.steps_per_epoch
        assert np.isfinite([row["loss"], row["grad_norm"]]).all()
        rate = float(make_schedule(TRAIN, STEPS)(row["step"] - 1))
        assert row["learning_rate"] == pytest.approx(rate)


def test_finished_run_trains_no_further(uninterrupted, tmp_path):
    run, expected, rows = uninterrupted
    run.start(tmp_path)
    again = run.start(tmp_path, interrupt_at=0)
    jax.tree.map(np.testing.assert_array_equal, again, expected)
    assert rows_without_timings(tmp_path) == rows
