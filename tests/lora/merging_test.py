"""Updates are scale times A times B, in fp32, and only where there is an adapter."""

import jax.numpy as jnp
import numpy as np

from lora_jax.lora.merging import updates


def test_update_is_the_scaled_product_of_its_layer(small):
    model = small("qwen2 tied")
    spec = model.spec(["up:2", r"re:.*\.2\.mlp\.down_proj"], "0,2", rank=4, alpha=6.0)
    factors = model.draw(spec)
    update = updates(spec, factors)
    for row, layer in enumerate((0, 2)):
        two = factors["mlp.up_proj"]
        expected = 3.0 * two["a"][row] @ two["b"][row]
        found = update("layers.mlp.up_proj.kernel", layer)
        assert found.dtype == np.float32 and found.shape == (32, 48)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    two = factors["mlp.down_proj"]
    found = update("layers.mlp.down_proj.kernel", 2)
    np.testing.assert_allclose(found, 1.5 * two["a"][0] @ two["b"][0], atol=1e-6)


def test_there_is_none_where_nothing_is_adapted(small):
    model = small("qwen2 tied")
    spec = model.spec(["up"], "1")
    update = updates(spec, model.draw(spec))
    assert update("layers.mlp.up_proj.kernel", 1) is not None
    for path, layer in (
        ("layers.mlp.up_proj.kernel", 0),
        ("layers.mlp.gate_proj.kernel", 1),
        ("layers.input_layernorm.weight", 1),
        ("embed_tokens.embedding", 0),
    ):
        assert update(path, layer) is None


def test_bfloat16_factors_are_multiplied_in_float32(small):
    model = small("qwen2 tied")
    spec = model.spec(["up"], rank=4)
    low = {
        "mlp.up_proj": {
            k: v.astype(jnp.bfloat16) for k, v in model.draw(spec)["mlp.up_proj"].items()
        }
    }
    high = {"mlp.up_proj": {k: v.astype(jnp.float32) for k, v in low["mlp.up_proj"].items()}}
    path = "layers.mlp.up_proj.kernel"
    np.testing.assert_array_equal(updates(spec, low)(path, 1), updates(spec, high)(path, 1))
