"""Eight devices on the CPU, and small Hugging Face models to compare with."""

import jax
import pytest
import torch
import transformers

# Only takes effect before anything asks for devices, and is not inherited by subprocesses.
jax.config.update("jax_num_cpu_devices", 8)
# For models this small more threads only get in each other's way.
torch.set_num_threads(1)

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
FAMILIES = {
    "qwen2 tied": (transformers.Qwen2Config, {"tie_word_embeddings": True}),
    "qwen2 untied": (transformers.Qwen2Config, {"tie_word_embeddings": False}),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 16, "rms_norm_eps": 1e-5}),
    "llama": (transformers.LlamaConfig, {"attention_bias": True}),
    "llama without biases": (transformers.LlamaConfig, {"num_key_value_heads": 1}),
}


@pytest.fixture(scope="session")
def hf_model(tmp_path_factory):
    """Give directories of randomly initialised models, by the name of the family."""
    written = {}

    def write(family: str):
        if family not in written:
            cls, fields = FAMILIES[family]
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(cls(**(SMALL | fields)))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
            written[family] = tmp_path_factory.mktemp("model")
            model.save_pretrained(written[family])
        return written[family]

    return write
