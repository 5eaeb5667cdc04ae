"""What a decoder looks like, read from a Hugging Face `config.json`."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from lora_jax.errors import UserError
from lora_jax.models.activations import ACTIVATIONS
from lora_jax.models.fields import flag, positive
from lora_jax.models.rope import Rope, parse_rope

# What a field means where it is absent, which differs by family (`model_type`). The five sizes that
# every model has are never assumed.
_DEFAULTS = {
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "head_dim": None,
}
_QWEN = {
    "num_key_value_heads": 32,
    "max_position_embeddings": 32_768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}
FAMILIES = {
    "qwen2": _DEFAULTS | _QWEN,
    "qwen3": _DEFAULTS | _QWEN | {"head_dim": 128},
    "llama": _DEFAULTS | {"num_key_value_heads": None, "max_position_embeddings": 2048},
    "mistral": _DEFAULTS
    | {"num_key_value_heads": 8, "max_position_embeddings": 131_072, "sliding_window": 4096},
}
# Fields that change the computation wherever a model follows them, and the values at which they do
# not. They come from other families, and from software that extends these; null is always neutral.
_NEUTRAL: dict[str, tuple] = {
    # Experts.
    "num_experts": (0, 1),
    "num_local_experts": (0, 1),
    "n_routed_experts": (0,),
    # Factors and bounds on activations.
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "query_pre_attn_scalar": (),
    "attention_multiplier": (),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "scale_emb": (1,),
    "scale_depth": (),
    "clip_qkv": (),
    # Positions.
    "partial_rotary_factor": (1,),
    "rotary_pct": (1,),
    "use_mrope": (False,),
    "alibi": (False,),
    "no_rope_layers": ([],),
    # Who attends to whom.
    "is_causal": (True,),
    "use_bidirectional_attention": (False,),
    "attention_chunk_size": (),
    # Other layers.
    "use_parallel_residual": (False,),
    "num_kv_shared_layers": (0,),
    "attn_output_gate": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    # Other weights.
    "quantization_config": ({},),
    "compression_config": ({},),
}


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Describe one decoder-only transformer; the letters are those used in every shape.

    Attributes:
        family: Hugging Face `model_type`, one of `FAMILIES`.
        vocabulary: V, rows of the embedding.
        width: D, size of the residual stream.
        mlp_width: F, size of the gated MLP's inner layer.
        layers: L.
        heads: H, query heads.
        kv_heads: K, key/value heads; G = H / K query heads share one.
        head_width: h; not always D / H.
        rope: The rotary position embedding.
        norm_eps: Added to the mean square in every RMSNorm.
        qkv_bias: Whether the q, k and v projections have a bias.
        o_bias: Whether the attention's output projection has one.
        mlp_bias: Whether the MLP's three projections have one.
        activation: The MLP's nonlinearity, a key of `ACTIVATIONS`.
        qk_norm: Whether queries and keys are RMS-normalised per head (Qwen3).
        tied_embeddings: Whether the output projection is the embedding itself.
        max_positions: Longest sequence the checkpoint was made for, in tokens.
    """

    family: str
    vocabulary: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    rope: Rope = dataclasses.field(default_factory=Rope)
    norm_eps: float = 1e-6
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    activation: str = "silu"
    qk_norm: bool = False
    tied_embeddings: bool = False
    max_positions: int = 32_768

    @property
    def groups(self) -> int:
        """Return G, the number of query heads that share one key/value head."""
        return self.heads // self.kv_heads


def read_config(directory: pathlib.Path) -> DecoderConfig:
    """Read `config.json` of a Hugging Face model directory.

    Args:
        directory: The model directory.

    Returns:
        The decoder it describes.

    Raises:
        UserError: The file is missing or broken, or asks for a computation that is not supported.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise UserError(f"{directory} has no config.json: give a Hugging Face model directory.")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): download it again.") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} must hold a JSON object: download it again.")
    return parse_config(fields, str(path))


def parse_config(fields: dict[str, Any], origin: str) -> DecoderConfig:
    """Turn the fields of a Hugging Face configuration into a `DecoderConfig`.

    Args:
        fields: The content of `config.json`.
        origin: Where the fields come from, for error messages.

    Raises:
        UserError: A field is missing, or would change the computation in a way we do not follow.
    """
    family = fields.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise UserError(
            f"{origin}: model_type {family!r} is not supported; use one of {', '.join(FAMILIES)}."
        )
    _refuse_unsupported(fields, family, origin)
    fields = FAMILIES[family] | fields
    heads = positive(fields, "num_attention_heads", origin)
    width = positive(fields, "hidden_size", origin)
    layers = positive(fields, "num_hidden_layers", origin)
    _refuse_sliding_window(fields, layers, origin)
    if fields["num_key_value_heads"] is None:
        fields["num_key_value_heads"] = heads
    if fields["head_dim"] is None and family != "qwen3":  # There it is a number of its own.
        fields["head_dim"] = width // heads
    attention_bias = flag(fields, "attention_bias", origin)
    max_positions = positive(fields, "max_position_embeddings", origin)
    config = DecoderConfig(
        family=family,
        vocabulary=positive(fields, "vocab_size", origin),
        width=width,
        mlp_width=positive(fields, "intermediate_size", origin),
        layers=layers,
        heads=heads,
        kv_heads=positive(fields, "num_key_value_heads", origin),
        head_width=positive(fields, "head_dim", origin),
        rope=parse_rope(fields, max_positions, origin),
        norm_eps=positive(fields, "rms_norm_eps", origin, float),
        # Qwen2's biases are part of the family, whatever the field says.
        qkv_bias=family == "qwen2" or attention_bias,
        o_bias=family != "qwen2" and attention_bias,
        mlp_bias=flag(fields, "mlp_bias", origin),
        activation=_activation(fields, origin),
        qk_norm=family == "qwen3",
        tied_embeddings=flag(fields, "tie_word_embeddings", origin),
        max_positions=max_positions,
    )
    if config.heads % config.kv_heads:
        raise UserError(
            f"{origin}: num_attention_heads {config.heads} is not a multiple of "
            f"num_key_value_heads {config.kv_heads}: correct the file."
        )
    if config.head_width % 2:
        raise UserError(f"{origin}: head_dim {config.head_width} is odd: correct the file.")
    return config


def _activation(fields: dict[str, Any], origin: str) -> str:
    name = fields["hidden_act"]
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UserError(
            f"{origin}: hidden_act {name!r} is not supported; "
            f"choose a checkpoint that uses one of {', '.join(ACTIVATIONS)}."
        )
    return name


def _refuse_unsupported(fields: dict[str, Any], family: str, origin: str) -> None:
    neutral = dict(_NEUTRAL)
    # Biases that transformers does not give these families, though other software may.
    if family == "mistral":
        neutral["attention_bias"] = (False,)
    if family != "llama":
        neutral["mlp_bias"] = (False,)
    for name, values in neutral.items():
        value = fields.get(name)
        if value is not None and value not in values:
            raise UserError(
                f"{origin}: {name} {value!r} is not supported; choose a checkpoint without it."
            )
    # A model class of its own may compute anything, whatever family it claims. A tokenizer or a
    # configuration class of its own changes nothing that is computed here.
    if any(
        str(name).startswith("AutoModel") for name in _entries(fields, "auto_map", dict, origin)
    ):
        raise UserError(
            f"{origin}: auto_map names a model class of the checkpoint's own, which is not run; if it "
            f"computes what any {family} does, remove auto_map."
        )


def _refuse_sliding_window(fields: dict[str, Any], layers: int, origin: str) -> None:
    """Refuse a window that any layer uses; Qwen's files state one that none does."""
    kinds = _entries(fields, "layer_types", list, origin)
    for kind in kinds:
        if kind != "full_attention":
            raise UserError(
                f"{origin}: layer_types {kind!r} is not supported; choose a checkpoint in which every "
                "layer has full attention."
            )
    used = fields.get("sliding_window") is not None
    if "use_sliding_window" in FAMILIES[fields["model_type"]]:
        # Where the layers are not named, those from max_window_layers on have a window.
        windowed = not kinds and layers > _count(fields, "max_window_layers", origin)
        used = used and windowed and flag(fields, "use_sliding_window", origin)
    if used:
        raise UserError(
            f"{origin}: sliding_window {fields['sliding_window']!r} is not supported; choose a "
            "checkpoint with full attention, or set it to null if no sequence will be longer."
        )


def _count(fields: dict[str, Any], name: str, origin: str) -> int:
    value = fields[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UserError(f"{origin}: {name} must be a whole number, found {value!r}.")
    return value


def _entries(fields: dict[str, Any], name: str, kind: type, origin: str) -> Any:
    """Return a list or object that may be absent or null."""
    value = fields.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        noun = "a list" if kind is list else "an object"
        raise UserError(f"{origin}: {name} must be {noun}, found {value!r}.")
    return value
