"""Training equals PEFT's with torch: a fresh adapter, and one that came from PEFT."""

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch

from lora_jax import config as run_config
from lora_jax.lora.export import export_adapter
from lora_jax.lora.load import load_adapter
from lora_jax.sharding import make_mesh
from lora_jax.training.optimizer import make_optimizer, make_schedule
from lora_jax.training.step import TrainState, make_step

MESH = make_mesh(devices=jax.devices()[:1])
STEPS = 5


def make_batch(rng, rows, length):
    """Return a padded batch with prompts and completions of different lengths."""
    tokens = rng.integers(0, 96, (rows, length + 1))
    lengths = rng.integers(length // 2, length + 1, rows)
    present = np.arange(length) < lengths[:, None]
    return {
        "tokens": np.where(present, tokens[:, :-1], 0),
        "targets": np.where(present, tokens[:, 1:], 0),
        "positions": np.where(present, np.arange(length), 0),
        "segment_ids": present.astype(np.int32),
        "loss_mask": present & (np.arange(length) >= rng.integers(1, 6, (rows, 1))),
    }


def torch_step(model, optimizer, schedule, batch):
    """Take one step as anyone would with PEFT; return the loss and the gradient's norm."""
    batch = {name: torch.tensor(x) for name, x in batch.items()}
    out = model(batch["tokens"], attention_mask=batch["segment_ids"])
    chosen = batch["loss_mask"]
    loss = torch.nn.functional.cross_entropy(out.logits[chosen], batch["targets"][chosen])
    optimizer.zero_grad()
    loss.backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    schedule.step()
    return loss.item(), norm.item()


def fresh(model, directory):
    """Write an adapter of ours."""
    spec = model.spec(["up"], "1-2", rank=1)
    export_adapter(directory, spec, model.declarations, model.draw(spec), str(model.directory))


def foreign(model, directory):
    """Write an adapter of PEFT's, with ranks and scales that differ within a projection."""
    config = peft.LoraConfig(
        r=4,
        target_modules=["q_proj", "o_proj", "down_proj"],
        use_rslora=True,
        rank_pattern={"layers.0.self_attn.q_proj": 1, "^model.layers.2.mlp.down_proj": 7},
        alpha_pattern={"layers.1.mlp.down_proj": 3},
        task_type="CAUSAL_LM",
    )
    adapted = peft.get_peft_model(model.theirs(), config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    adapted.save_pretrained(directory)


@pytest.mark.parametrize(("family", "write"), [("qwen2 tied", fresh), ("llama", foreign)])
def test_training_equals_pefts(small, tmp_path, family, write):
    """Loss, gradient, clipping, AdamW and the schedule, all at once, over five steps."""
    train = run_config.default_config().train
    train.learning_rate, train.weight_decay = 3e-3, 0.1
    model = small(family)
    write(model, tmp_path / "start")
    theirs = peft.PeftModel.from_pretrained(model.theirs(), tmp_path / "start", is_trainable=True)
    torch_optimizer = torch.optim.AdamW(
        [p for p in theirs.parameters() if p.requires_grad],
        lr=train.learning_rate,
        weight_decay=train.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(torch_optimizer, STEPS)
    spec, start = load_adapter(tmp_path / "start", model.declarations, MESH)
    optimizer = make_optimizer(train, STEPS, spec.declare(model.declarations))
    assert make_schedule(train, STEPS)(0) == train.learning_rate
    step = make_step(model.config, optimizer, spec=spec, compute_dtype=jnp.dtype("float32"))
    state = TrainState.start(jax.tree.map(jnp.copy, start), optimizer, seed=0)
    rng = np.random.default_rng(0)
    norms = []
    for _ in range(STEPS):
        batch = make_batch(rng, rows=3, length=17)
        state, measured = step(state, model.params, batch)
        expected = torch_step(theirs, torch_optimizer, schedule, batch)
        norms.append(expected[1])
        np.testing.assert_allclose((measured["loss"], measured["grad_norm"]), expected, rtol=2e-4)
    assert max(norms) > 1.0, "clipping was never at work"
    theirs.save_pretrained(tmp_path / "theirs")
    same_spec, reference = load_adapter(tmp_path / "theirs", model.declarations, MESH)
    assert same_spec == spec
    for place in spec.placements:
        for name, outer in (("a", "nir->nri"), ("b", "nro->nro")):
            values = [np.einsum(outer, tree[place.projection][name]) for tree in (start, state.trainable, reference)]  # fmt: skip
            own = np.arange(place.rank) < np.array(place.ranks)[:, None]
            before, after, wanted = (value[own] for value in values)
            np.testing.assert_allclose(after, wanted, atol=2e-5)
            assert np.abs(after - before).max() > 3e-3
            assert not values[1][~own].any(), "zeros beyond a layer's own rank are no longer zero"
