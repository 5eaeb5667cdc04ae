"""What a decoder looks like, read from a Hugging Face `config.json`."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from typing import Any

from lora_jax.errors import UserError

FAMILIES = ("qwen2", "qwen3", "llama")


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
        rope_theta: Base of the rotary embedding's wavelengths.
        norm_eps: Added to the mean square in every RMSNorm.
        qkv_bias: Whether the q, k and v projections have a bias.
        o_bias: Whether the attention's output projection has one.
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
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    qkv_bias: bool = False
    o_bias: bool = False
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
    if family not in FAMILIES:
        raise UserError(
            f"{origin}: model_type {family!r} is not supported; use one of {', '.join(FAMILIES)}."
        )
    _refuse_unsupported(fields, origin)
    heads = _positive(fields, "num_attention_heads", origin)
    width = _positive(fields, "hidden_size", origin)
    # Qwen3's own default is 128 whatever the width; the other families divide.
    head_width = fields.get("head_dim") or (128 if family == "qwen3" else width // heads)
    attention_bias = bool(fields.get("attention_bias", False))
    config = DecoderConfig(
        family=family,
        vocabulary=_positive(fields, "vocab_size", origin),
        width=width,
        mlp_width=_positive(fields, "intermediate_size", origin),
        layers=_positive(fields, "num_hidden_layers", origin),
        heads=heads,
        kv_heads=_positive({"num_key_value_heads": heads} | fields, "num_key_value_heads", origin),
        head_width=_positive({"head_dim": head_width}, "head_dim", origin),
        rope_theta=_positive(_rope(fields, origin), "rope_theta", origin, float),
        norm_eps=_positive({"rms_norm_eps": 1e-6} | fields, "rms_norm_eps", origin, float),
        qkv_bias=family == "qwen2" or attention_bias,
        o_bias=family != "qwen2" and attention_bias,
        qk_norm=family == "qwen3",
        tied_embeddings=bool(fields.get("tie_word_embeddings", False)),
        max_positions=_positive(
            {"max_position_embeddings": 32_768} | fields, "max_position_embeddings", origin
        ),
    )
    if config.heads % config.kv_heads:
        raise UserError(
            f"{origin}: num_attention_heads {config.heads} is not a multiple of "
            f"num_key_value_heads {config.kv_heads}: correct the file."
        )
    if config.head_width % 2:
        raise UserError(f"{origin}: head_dim {config.head_width} is odd: correct the file.")
    return config


def _rope(fields: dict[str, Any], origin: str) -> dict[str, Any]:
    """Return the rotary embedding's settings, whichever generation of file they come from."""
    settings = {"rope_theta": fields.get("rope_theta") or 10_000.0}
    for name in ("rope_scaling", "rope_parameters"):
        found = fields.get(name) or {}
        if not isinstance(found, dict):
            raise UserError(f"{origin}: {name} must be an object, found {found!r}.")
        settings.update(found)
    return settings


def _refuse_unsupported(fields: dict[str, Any], origin: str) -> None:
    rope = _rope(fields, origin)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    sliding = fields.get("use_sliding_window") or any(
        layer != "full_attention" for layer in fields.get("layer_types") or ()
    )
    unsupported = {
        f"rope type {kind!r}": kind != "default",
        f"hidden_act {fields.get('hidden_act')!r}": fields.get("hidden_act", "silu") != "silu",
        "sliding-window attention": bool(sliding),
        "mlp_bias": bool(fields.get("mlp_bias")),
        "partial_rotary_factor": rope.get("partial_rotary_factor", 1.0) != 1.0,
        "quantization_config": bool(fields.get("quantization_config")),
    }
    for name, present in unsupported.items():
        if present:
            raise UserError(f"{origin}: {name} is not supported; choose a checkpoint without it.")


def _positive(fields: dict[str, Any], name: str, origin: str, kind: type = int) -> Any:
    """Return a field that must be a positive integer, or a positive number where kind is float."""
    value = fields.get(name)
    allowed = int if kind is int else (int, float)
    if not isinstance(value, allowed) or isinstance(value, bool) or not 0 < value < math.inf:
        noun = "integer" if kind is int else "number"
        raise UserError(f"{origin}: {name} must be a positive {noun}, found {value!r}.")
    return kind(value)
