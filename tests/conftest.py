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
# Wavelengths of 6 to 190 tokens, so that an original length of 32 lies among them.
SCALED = {"head_dim": 16, "max_position_embeddings": 256}
LINEAR = {"rope_type": "linear", "rope_theta": 5e4, "factor": 3.0}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 50.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 50.0, "factor": 8.0, "beta_fast": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
FAMILIES = {
    "qwen2 tied": (transformers.Qwen2Config, {"tie_word_embeddings": True}),
    "qwen2 untied": (transformers.Qwen2Config, {"tie_word_embeddings": False}),
    "qwen2 yarn": (transformers.Qwen2Config, SCALED | {"rope_parameters": YARN}),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 16, "rms_norm_eps": 1e-5}),
    "qwen3 tied yarn": (
        transformers.Qwen3Config,
        SCALED
        | {
            "tie_word_embeddings": True,
            "rope_parameters": YARN | {"mscale": 1.4, "mscale_all_dim": 0.7, "truncate": False},
        },
    ),
    "llama": (transformers.LlamaConfig, {"attention_bias": True}),
    "llama without biases": (transformers.LlamaConfig, {"num_key_value_heads": 1}),
    "llama with gelu and all biases": (
        transformers.LlamaConfig,
        {"hidden_act": "gelu", "attention_bias": True, "mlp_bias": True},
    ),
    "llama linear": (transformers.LlamaConfig, SCALED | {"rope_parameters": LINEAR}),
    "llama 3": (transformers.LlamaConfig, SCALED | {"rope_parameters": LLAMA3}),
    "mistral": (
        transformers.MistralConfig,
        {"sliding_window": None, "head_dim": 16, "num_key_value_heads": 4},
    ),
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
