"""PEFT and transformers as oracles: of the exported file, and of training itself."""

import json
import logging
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from lora_jax import config as run_config
from lora_jax.errors import UserError
from lora_jax.lora import masks
from lora_jax.lora import peft as ours
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models import checkpoint, decoder
from lora_jax.models.config import read_config
from lora_jax.sharding import make_mesh, parameter_shardings, replicated
from lora_jax.training.optimizer import make_optimizer, make_schedule
from lora_jax.training.step import TrainState, make_step

MESH = make_mesh(devices=jax.devices()[:1])
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TOKENS = np.random.default_rng(0).integers(0, 96, (2, 21))


class Exported:
    """Export an adapter with drawn factors for a model directory."""

    def __init__(
        self, base, directory, rank=1, targets=("up_proj",), layers="all", dtype="float32"
    ):
        self.base, self.directory = base, directory
        self.config = read_config(base)
        self.declarations = decoder.declare(self.config)
        shardings = parameter_shardings(self.declarations, MESH)
        self.params = checkpoint.load(base, self.declarations, shardings)
        chosen = masks.parse_layers(layers, self.config.layers)
        mask = masks.select(self.declarations, targets, chosen)
        self.spec = AdapterSpec.from_mask(mask, rank, alpha=16.0 if rank == 1 else 4.0 * rank)
        factors = self.spec.initialise(self.declarations, jax.random.key(0))
        leaves, tree = jax.tree.flatten(factors)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        noise = [0.1 * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
        self.factors = jax.tree.map(jnp.add, factors, jax.tree.unflatten(tree, noise))
        ours.export(directory, self.spec, self.declarations, self.factors, str(base), dtype)

    def logits(self, factors):
        """Return our logits of `TOKENS`, [B, T, V]."""
        positions = jnp.broadcast_to(jnp.arange(TOKENS.shape[1]), TOKENS.shape)
        mask = decoder.causal_mask(jnp.ones(TOKENS.shape, jnp.int32))

        @jax.jit
        def compute(params, factors):
            adapter = None if factors is None else self.spec.bind(factors)
            hidden, _ = decoder.hidden_states(
                self.config, params, jnp.asarray(TOKENS), positions, mask, adapter=adapter
            )
            return decoder.logits(params, hidden)

        return np.asarray(compute(self.params, factors))


def torch_base(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def torch_logits(model):
    with torch.no_grad():
        return model.eval()(torch.tensor(TOKENS)).logits.numpy()


@pytest.fixture
def no_complaints(caplog):
    """Turn warnings into errors, and anything logged as a warning too."""
    transformers.utils.logging.enable_propagation()
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        # Said by PEFT of itself to transformers, whatever the adapter.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
        yield
    transformers.utils.logging.disable_propagation()
    assert not caplog.records


@pytest.mark.usefixtures("no_complaints")
@pytest.mark.parametrize(
    ("family", "rank", "targets", "layers"),
    [
        ("qwen2 tied", 1, ["up_proj"], "all"),
        ("qwen2 tied", 8, ALL, "1-2"),
        ("qwen2 untied", 1, ["up_proj"], "1"),
        ("qwen3", 8, ["q_proj", "k_proj", "v_proj", "o_proj"], "all"),
        ("llama", 1, ["gate_proj", "up_proj", "down_proj"], "middle"),
        ("llama", 8, ALL, "all"),
    ],
)
def test_peft_computes_our_logits(hf_model, tmp_path, family, rank, targets, layers):
    exported = Exported(hf_model(family), tmp_path, rank, targets, layers)
    model = peft.PeftModel.from_pretrained(torch_base(exported.base), tmp_path)
    mine, base = exported.logits(exported.factors), exported.logits(None)
    np.testing.assert_allclose(mine, torch_logits(model), atol=1e-4)
    assert np.abs(mine - base).max() > 0.05, "the adapter is too small to tell anything"
    read = set(peft.get_peft_model_state_dict(model))
    assert read == set(load_file(tmp_path / ours.WEIGHTS))


@pytest.mark.usefixtures("no_complaints")
@pytest.mark.parametrize("family", ["qwen2 tied", "llama"])
def test_transformers_computes_our_logits(hf_model, tmp_path, family):
    exported = Exported(hf_model(family), tmp_path, 8, ["q_proj", "up_proj"], "0-1")
    model = torch_base(exported.base)
    model.load_adapter(str(tmp_path))
    mine = exported.logits(exported.factors)
    np.testing.assert_allclose(mine, torch_logits(model), atol=1e-4)


@pytest.mark.usefixtures("no_complaints")
def test_bfloat16_export_is_the_rounded_adapter(hf_model, tmp_path):
    exported = Exported(hf_model("qwen2 tied"), tmp_path, 4, ["up_proj"], dtype="bfloat16")
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), exported.factors)
    _, read = ours.load(tmp_path, exported.declarations, replicated(MESH))
    jax.tree.map(np.testing.assert_array_equal, read, rounded)
    model = peft.PeftModel.from_pretrained(torch_base(exported.base), tmp_path)
    mine = exported.logits(rounded)
    np.testing.assert_allclose(mine, torch_logits(model), atol=1e-4)


@pytest.mark.parametrize(("targets", "layers"), [(["up_proj"], "all"), (ALL, "1-2")])
def test_what_is_read_back_is_what_was_exported(hf_model, tmp_path, targets, layers):
    exported = Exported(hf_model("qwen3"), tmp_path, 8, targets, layers)
    spec, factors = ours.load(tmp_path, exported.declarations, replicated(MESH))
    assert spec == exported.spec and list(spec.layers) == list(exported.spec.layers)
    jax.tree.map(np.testing.assert_array_equal, factors, exported.factors)


def test_adapter_that_peft_saved_is_read(hf_model, tmp_path):
    exported = Exported(hf_model("qwen2 tied"), tmp_path / "one", 8, ["v_proj", "up_proj"], "1-2")
    peft.PeftModel.from_pretrained(torch_base(exported.base), tmp_path / "one").save_pretrained(
        tmp_path / "two"
    )
    spec, factors = ours.load(tmp_path / "two", exported.declarations, replicated(MESH))
    assert spec == exported.spec
    jax.tree.map(np.testing.assert_array_equal, factors, exported.factors)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"r": 2}, "has shape"),
        ({"r": "two"}, "cannot be read"),
        ({"lora_alpha": None}, "cannot be read"),
        ({"layers_to_transform": None}, "cannot be read"),
        ({"layers_to_transform": [0, 1, 9]}, "layers.9"),
        ({"target_modules": ["up_proj", "q_proj"]}, r"q_proj.* is missing"),
        ({"target_modules": ["lm_head"]}, "'lm_head', which is no projection"),
        ({"target_modules": ["gate_proj"]}, r"gate_proj.* is missing"),
        ({"use_rslora": True}, "use_rslora"),
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"up_proj": 4}}, "rank_pattern"),
        ({"peft_type": "IA3"}, "peft_type"),
    ],
)
def test_configuration_that_does_not_fit_is_refused(hf_model, tmp_path, fields, message):
    exported = Exported(hf_model("qwen2 untied"), tmp_path)
    path = tmp_path / ours.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(UserError, match=message):
        ours.load(tmp_path, exported.declarations, replicated(MESH))


@pytest.mark.parametrize("content", [None, "", "[]", '{"r": 1}'])
def test_broken_configuration_is_refused(hf_model, tmp_path, content):
    exported = Exported(hf_model("qwen2 tied"), tmp_path)
    path = tmp_path / ours.CONFIG
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=r"adapter_config\.json cannot be read"):
        ours.load(tmp_path, exported.declarations, replicated(MESH))


def test_broken_weights_are_refused(hf_model, tmp_path):
    exported = Exported(hf_model("qwen2 tied"), tmp_path)
    path = tmp_path / ours.WEIGHTS
    tensors = load_file(path)
    tensors.pop(min(tensors))
    save_file(tensors, path)
    with pytest.raises(UserError, match=r"lora_A\.weight is missing"):
        ours.load(tmp_path, exported.declarations, replicated(MESH))
    path.write_bytes(b"half")
    with pytest.raises(UserError, match="cannot be read"):
        ours.load(tmp_path, exported.declarations, replicated(MESH))


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


@pytest.mark.parametrize(
    ("family", "rank", "targets", "layers"),
    [("qwen2 tied", 1, ["up_proj"], "1-2"), ("llama", 8, ALL, "all")],
)
def test_training_equals_pefts(hf_model, tmp_path, family, rank, targets, layers):
    """Loss, gradient, clipping, AdamW and the schedule, all at once, over five steps."""
    steps = 5
    train = run_config.default_config().train
    train.learning_rate, train.weight_decay = 3e-3, 0.1
    exported = Exported(hf_model(family), tmp_path / "start", rank, targets, layers)
    model = peft.PeftModel.from_pretrained(
        torch_base(exported.base), tmp_path / "start", is_trainable=True
    )
    theirs = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=train.learning_rate,
        weight_decay=train.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, steps)
    declared = exported.spec.declare(exported.declarations)
    optimizer = make_optimizer(train, steps, declared)
    assert make_schedule(train, steps)(0) == train.learning_rate
    step = make_step(
        exported.config, optimizer, spec=exported.spec, compute_dtype=jnp.dtype("float32")
    )
    state = TrainState.start(jax.tree.map(jnp.copy, exported.factors), optimizer, seed=0)
    rng = np.random.default_rng(0)
    norms = []
    for _ in range(steps):
        batch = make_batch(rng, rows=3, length=17)
        state, measured = step(state, exported.params, batch)
        expected = torch_step(model, theirs, schedule, batch)
        norms.append(expected[1])
        np.testing.assert_allclose((measured["loss"], measured["grad_norm"]), expected, rtol=2e-4)
    assert max(norms) > 1.0, "clipping was never at work"
    ours.export(tmp_path / "ours", exported.spec, exported.declarations, state.trainable, "base")
    model.save_pretrained(tmp_path / "theirs")
    start, end, reference = (
        load_file(tmp_path / name / ours.WEIGHTS) for name in ("start", "ours", "theirs")
    )
    for name, tensor in reference.items():
        np.testing.assert_allclose(end[name], tensor, atol=2e-5, err_msg=name)
        assert np.abs(end[name] - start[name]).max() > 3e-3
