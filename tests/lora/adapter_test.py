"""Adapters on a decoder: where they act, what they add, and how dropout is drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec, Placement
from lora_jax.lora.targets import parse_layers
from lora_jax.models import decoder
from lora_jax.models.config import DecoderConfig
from lora_jax.models.parameters import count, initialise

CONFIG = DecoderConfig(
    "qwen2", vocabulary=61, width=16, mlp_width=24, layers=4, heads=2, kv_heads=1, head_width=8
)
DECLARATIONS = decoder.declare(CONFIG)
TOKENS = jnp.arange(20).reshape(2, 10)
PLACES = [
    (["up_proj"], "all"),
    (["up_proj"], "1-2"),
    (["up_proj"], "3"),
    (["all"], "0-2"),
    (["q:5", "down", r"re:.*[01]\.mlp\.up_proj:1", r"re:.*3\.mlp\.up_proj:4"], "0,1,3"),
]


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(lambda x: 5 * x, initialise(DECLARATIONS, jax.random.key(0)))


@pytest.fixture(scope="module")
def base_logits(params):
    return logits(params)


def describe(targets, layers, rank=3, alpha=6.0, dropout=0.0, rslora=False):
    ranks = masks.select(DECLARATIONS, targets, parse_layers(layers, CONFIG.layers), rank)
    return AdapterSpec.from_ranks(ranks, alpha, dropout, rslora)


def draw(spec):
    """Return factors that do something: B drawn too, within every layer's own rank."""
    factors = spec.initialise(DECLARATIONS, jax.random.key(1))
    for place in spec.placements:
        b = 0.3 * jax.random.normal(jax.random.key(2), factors[place.projection]["b"].shape)
        factors[place.projection]["b"] = jnp.where(own_rank(place)[..., None], b, 0)
    return factors


def own_rank(place):
    """Return which of the R columns a layer uses, [n, R]."""
    return np.arange(place.rank) < np.array(place.ranks)[:, None]


@functools.partial(jax.jit, static_argnames="spec")
def logits(params, spec=None, factors=None, key=None):
    positions = jnp.broadcast_to(jnp.arange(TOKENS.shape[1]), TOKENS.shape)
    mask = decoder.causal_mask(jnp.ones(TOKENS.shape, jnp.int32))
    adapter = None if spec is None else spec.bind(factors, key)
    hidden, _ = decoder.hidden_states(CONFIG, params, TOKENS, positions, mask, adapter=adapter)
    return decoder.logits(params, hidden)


@pytest.mark.parametrize(("targets", "layers"), PLACES)
def test_first_factors_leave_the_model_as_it_is(params, base_logits, targets, layers):
    spec = describe(targets, layers)
    factors = spec.initialise(DECLARATIONS, jax.random.key(0))
    np.testing.assert_allclose(logits(params, spec, factors), base_logits, atol=1e-6)


@pytest.mark.parametrize(("targets", "layers"), PLACES)
def test_adapter_equals_its_product_merged_into_the_kernels(params, base_logits, targets, layers):
    spec = describe(targets, layers)
    factors = draw(spec)
    merged = jax.tree.map(jnp.copy, params)
    for projection, chosen in spec.layers.items():
        block, name = projection.split(".")
        scale = jnp.array(spec.scales[projection])[:, None, None]
        update = scale * (factors[projection]["a"] @ factors[projection]["b"])
        kernel = merged["layers"][block][name]["kernel"]
        merged["layers"][block][name]["kernel"] = kernel.at[jnp.array(chosen)].add(update)
    ours = logits(params, spec, factors)
    np.testing.assert_allclose(ours, logits(merged), atol=2e-4)
    assert np.abs(ours - base_logits).max() > 0.05, "the update is too small to tell anything"


@pytest.mark.parametrize(
    ("rank", "alpha", "rslora", "scale"),
    [(1, 16.0, False, 16.0), (64, 16.0, False, 0.25), (64, 16.0, True, 2.0), (1, 5.0, True, 5.0)],
)
def test_scale_is_alpha_over_rank_or_over_its_root(rank, alpha, rslora, scale):
    spec = describe(["up_proj"], "all", rank, alpha, rslora=rslora)
    assert spec.scales == {"mlp.up_proj": (scale,) * 4}


def test_scale_follows_every_layers_own_rank():
    spec = describe(
        ["up:2", r"re:.*3\.mlp\.down_proj:8", r"re:.*0\.mlp\.down_proj:1"], "all", alpha=8.0
    )
    assert spec.placements == (
        Placement("mlp.down_proj", (0, 3), (1, 8), (8.0, 8.0)),
        Placement("mlp.up_proj", (0, 1, 2, 3), (2,) * 4, (8.0,) * 4),
    )
    assert spec.scales == {"mlp.down_proj": (8.0, 1.0), "mlp.up_proj": (4.0,) * 4}
    assert spec.rank == 8


def test_specs_are_equal_and_hash_by_what_they_say():
    one, same = (describe(["up", "q:2"], "1-2") for _ in range(2))
    assert one == same and hash(one) == hash(same)
    assert len({one, same, describe(["up", "q"], "1-2"), describe(["up", "q:2"], "1")}) == 3
    assert one != describe(["up", "q:2"], "1-2", rslora=True)


@pytest.mark.parametrize(
    ("targets", "rslora", "words"),
    [
        (["up_proj"], False, "LoRA rank 3 on up_proj"),
        (
            ["down", "attention:8"],
            False,
            "LoRA rank 8 on q_proj, k_proj, v_proj, o_proj; rank 3 on down_proj",
        ),
        (
            [r"re:.*[12]\.mlp\.up_proj:1", r"re:.*0\.mlp\.up_proj"],
            True,
            "rsLoRA rank 1 to 3 on up_proj",
        ),
    ],
)
def test_describe_says_what_is_adapted(targets, rslora, words):
    assert describe(targets, "all", rslora=rslora).describe() == words


def test_factors_exist_for_the_chosen_places_only():
    spec = describe(["up_proj", "q_proj"], "1-2", rank=3)
    declared = spec.declare(DECLARATIONS)
    assert declared.keys() == {"mlp.up_proj", "self_attn.q_proj"}
    assert count(declared) == 2 * 3 * ((16 + 24) + (16 + 16)) == spec.count(DECLARATIONS)
    drawn = spec.initialise(DECLARATIONS, jax.random.key(0))
    assert jax.tree.map(jnp.shape, drawn) == {
        "self_attn.q_proj": {"a": (2, 16, 3), "b": (2, 3, 16)},
        "mlp.up_proj": {"a": (2, 16, 3), "b": (2, 3, 24)},
    }
    assert not np.array_equal(drawn["mlp.up_proj"]["a"], drawn["self_attn.q_proj"]["a"])


def test_dropout_needs_a_key_and_depends_on_it_alone(params):
    spec = describe(["up_proj", "q_proj"], "all", dropout=0.5)
    factors = draw(spec)
    without = logits(params, describe(["up_proj", "q_proj"], "all"), factors)
    np.testing.assert_array_equal(logits(params, spec, factors), without)
    one, again, other = (logits(params, spec, factors, jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3 and np.abs(one - without).max() > 1e-3


def test_layers_of_smaller_rank_are_zero_beyond_it_and_count_less():
    spec = describe([r"re:.*0\.mlp\.up_proj:1", r"re:.*[23]\.mlp\.up_proj:4"], "all")
    first = spec.initialise(DECLARATIONS, jax.random.key(0))["mlp.up_proj"]
    [place] = spec.placements
    assert first["a"].shape == (3, 16, 4) and first["b"].shape == (3, 4, 24)
    used = np.abs(first["a"]).min(axis=1) > 0
    np.testing.assert_array_equal(used, own_rank(place))
    assert np.abs(first["a"]).max() <= 0.25, "the bound is of the input's width, not of the rank"
    assert spec.count(DECLARATIONS) == (1 + 4 + 4) * (16 + 24)


def test_zeros_beyond_a_layers_own_rank_outlive_training(params):
    spec = describe([r"re:.*2\.mlp\.up_proj:1", r"re:.*3\.mlp\.up_proj:4"], "all", dropout=0.3)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.05, weight_decay=0.1))

    @jax.jit
    def step(factors, state, key):
        def loss(factors):
            return logits(params, spec, factors, key)[..., 0].mean()

        updates, state = optimizer.update(jax.grad(loss)(factors), state, factors)
        return optax.apply_updates(factors, updates), state

    factors = first = spec.initialise(DECLARATIONS, jax.random.key(0))
    state = optimizer.init(factors)
    for number in range(4):
        factors, state = step(factors, state, jax.random.key(number))
    place = spec.placements[0]
    trained = factors[place.projection]
    assert place.ranks == (1, 4)
    for values in (trained["a"].swapaxes(1, 2), trained["b"]):
        np.testing.assert_array_equal((values != 0).all(axis=2), own_rank(place))
        np.testing.assert_array_equal((values != 0).any(axis=2), own_rank(place))
    assert np.abs(trained["a"] - first[place.projection]["a"])[0, :, 0].min() > 1e-3


def test_dropout_differs_between_layers_and_projections():
    spec = describe(["gate_proj", "up_proj"], "all", dropout=0.5)
    eye = {"a": jnp.eye(16), "b": jnp.eye(16), "scale": 2.0}
    bound = spec.bind({}, jax.random.key(0))
    x = jnp.ones((8, 16))
    dropped = {
        (projection, layer): np.asarray(bound.bind(projection, eye, layer)(x)).tobytes()
        for projection in spec.layers
        for layer in range(CONFIG.layers)
    }
    assert len(set(dropped.values())) == 2 * CONFIG.layers
