"""Checkpoints: exact, as many as asked for, and never half of one."""

import gc
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lora_jax.errors import UserError
from lora_jax.training.checkpoints import Checkpoints
from lora_jax.training.step import TrainState


def make_state(step: int = 0) -> TrainState:
    """Return a state in which everything depends on the step."""
    a, b = jax.random.split(jax.random.key(step))
    trainable = {"up": {"a": jax.random.normal(a, (2, 5, 1)), "b": jax.random.normal(b, (2, 1, 3))}}
    optimizer = optax.adamw(1e-3)
    state = TrainState.start(trainable, optimizer, seed=step)
    _, moments = optimizer.update(trainable, state.optimizer, trainable)
    return TrainState(trainable, moments, jnp.int32(step), state.key)


def save(directory, losses, keep_last=2, keep_best=0):
    """Save one state a loss, and return the steps that remain."""
    with Checkpoints(directory, keep_last, keep_best) as checkpoints:
        for step, loss in enumerate(losses, 1):
            checkpoints.save(step, make_state(step), {"next": step}, loss)
        checkpoints.wait()
        return checkpoints.steps


def restore(directory):
    with Checkpoints(directory, 2, 0) as checkpoints:
        return checkpoints.restore(make_state())


def test_nothing_is_restored_from_nothing(tmp_path):
    assert restore(tmp_path / "checkpoints") is None


def test_restored_state_is_the_saved_one_bit_for_bit(tmp_path):
    save(tmp_path, [1.0, 0.5, 0.7])
    state, position = restore(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state, make_state(3))
    expected = jax.tree.map(lambda x: x.dtype, make_state(3))
    assert jax.tree.map(lambda x: x.dtype, state) == expected
    assert position == {"next": 3}


def test_state_that_changes_after_the_call_is_saved_as_it_was(tmp_path):
    state = make_state(1)
    with Checkpoints(tmp_path, 1, 0) as checkpoints:
        checkpoints.save(1, state, {}, 0.0)
        # What the step does to its state, while the save may still be going on.
        jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(state)
        checkpoints.wait()
    restored, _ = restore(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, restored, make_state(1))


@pytest.mark.parametrize(
    ("keep_last", "keep_best", "expected"),
    [(1, 0, [5]), (2, 0, [4, 5]), (1, 2, [2, 3, 5]), (2, 1, [3, 4, 5])],
)
def test_last_and_best_are_kept(tmp_path, keep_last, keep_best, expected):
    losses = [0.9, 0.2, 0.1, 0.5, 0.4]
    assert save(tmp_path, losses, keep_last, keep_best) == expected
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == expected
    assert restore(tmp_path)[1] == {"next": 5}


def test_torn_checkpoint_is_ignored(tmp_path):
    """A save that was killed has its temporary name still; the one before it is the latest."""
    save(tmp_path, [1.0, 0.5])
    torn = pathlib.Path(shutil.copytree(tmp_path / "2", tmp_path / "3.orbax-checkpoint-tmp"))
    next(path for path in torn.rglob("*") if path.is_file() and path.stat().st_size).unlink()
    state, position = restore(tmp_path)
    assert state.step == 2 and position == {"next": 2}
    assert not torn.exists()


@pytest.mark.parametrize("lost", ["state", "everything"])
def test_damaged_checkpoint_is_one_sentence(tmp_path, lost):
    save(tmp_path, [1.0, 0.5])
    for path in (tmp_path / "2").iterdir():
        if lost == "everything" or path.name == "state":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match="delete that directory") as refusal:
        restore(tmp_path)
    assert str(tmp_path / "2") in str(refusal.value) and "\n" not in str(refusal.value)
    shutil.rmtree(tmp_path / "2")
    assert restore(tmp_path)[1] == {"next": 1}


# Orbax abandons the reads that were still going on, and says so when they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_checkpoint_of_another_shape_is_one_sentence(tmp_path):
    save(tmp_path, [1.0])
    other = make_state()
    other.trainable["up"]["a"] = jnp.zeros((2, 5, 4))
    with Checkpoints(tmp_path, 2, 0) as checkpoints, pytest.raises(UserError, match="be read"):
        checkpoints.restore(other)
    gc.collect()


def test_what_was_trained_is_read_alone(tmp_path):
    save(tmp_path, [1.0, 0.5, 0.7])
    with Checkpoints(tmp_path, 2, 0) as checkpoints:
        step, trainable = checkpoints.restore_trainable(make_state().trainable)
    assert step == 3
    jax.tree.map(np.testing.assert_array_equal, trainable, make_state(3).trainable)


def test_other_shapes_are_refused_in_one_sentence(tmp_path):
    save(tmp_path, [1.0])
    like = jax.tree.map(lambda x: jnp.zeros((5, *x.shape[1:])), make_state().trainable)
    with (
        Checkpoints(tmp_path, 2, 0) as checkpoints,
        pytest.raises(UserError, match=r"checkpoint .*1 cannot be read \(Requested shape") as error,
    ):
        checkpoints.restore_trainable(like)
    assert "\n" not in str(error.value)


def test_nothing_was_trained_yet(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", 2, 0) as checkpoints:
        assert checkpoints.restore_trainable(make_state().trainable) is None
