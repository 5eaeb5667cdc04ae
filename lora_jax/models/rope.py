"""Rotary position embedding: how fast every pair of a head's elements turns.

Source: Su et al. 2021 (arXiv 2104.09864). Models that read longer texts than they were trained on
slow some pairs down; how is the rope type. Frequencies are computed in fp32 as transformers does: at a
position of 100,000 the rounding of a frequency is an angle to be seen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lora_jax.errors import UserError
from lora_jax.models.fields import flag, positive


@dataclasses.dataclass(frozen=True)
class LinearScaling:
    """Slow every pair down alike.

    Source: Chen et al. 2023 (arXiv 2306.15595).

    Attributes:
        factor: How many times slower.
    """

    factor: float
    attention_factor = 1.0

    def __call__(self, frequencies: np.ndarray, theta: float) -> np.ndarray:
        """Return scaled frequencies [h/2]."""
        return frequencies / self.factor


@dataclasses.dataclass(frozen=True)
class Llama3Scaling:
    """Slow down the pairs that turned less than a few times over the original length.

    Source: Llama 3.1's published code.

    Attributes:
        factor: How many times slower.
        low_freq_factor: Pairs that turn fewer times than this are slowed down entirely.
        high_freq_factor: Pairs that turn more often than this are left alone.
        original_positions: Length trained on before scaling, in tokens.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_positions: int
    attention_factor = 1.0

    def __call__(self, frequencies: np.ndarray, theta: float) -> np.ndarray:
        """Return scaled frequencies [h/2]."""
        turns = self.original_positions / (2 * math.pi / frequencies)
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = np.clip(kept, 0, 1)
        return (1 - kept) * frequencies / self.factor + kept * frequencies


@dataclasses.dataclass(frozen=True)
class YarnScaling:
    """Slow down slow pairs and leave fast ones, with a ramp between; sharpen attention.

    Source: Peng et al. 2023 (arXiv 2309.00071).

    Attributes:
        factor: How many times slower.
        original_positions: Length trained on before scaling, in tokens.
        attention_factor: Factor on cosines and sines.
        beta_fast: Turns over the original length above which a pair is left alone.
        beta_slow: Turns below which it is slowed down entirely.
        truncate: Whether the ramp begins and ends at whole pairs.
    """

    factor: float
    original_positions: int
    attention_factor: float
    beta_fast: float
    beta_slow: float
    truncate: bool

    def __call__(self, frequencies: np.ndarray, theta: float) -> np.ndarray:
        """Return scaled frequencies [h/2]."""
        pairs = len(frequencies)
        low, high = (self._pair(turns, theta, pairs) for turns in (self.beta_fast, self.beta_slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        # The upper bound is in elements, not pairs: so in the reference code, hence in every model.
        low, high = max(low, 0), min(high, 2 * pairs - 1)
        span = high - low or 0.001
        slowed = np.clip((np.arange(pairs, dtype=np.float32) - low) / span, 0, 1)
        return frequencies / self.factor * slowed + frequencies * (1 - slowed)

    def _pair(self, turns: float, theta: float, pairs: int) -> float:
        """Return the index of the pair that turns so many times over the original length."""
        return pairs * math.log(self.original_positions / (turns * 2 * math.pi)) / math.log(theta)


@dataclasses.dataclass(frozen=True)
class Rope:
    """Hold a model's rotary embedding.

    Attributes:
        theta: Base of the wavelengths.
        scaling: What makes it read longer texts than it was trained on; None for nothing.
    """

    theta: float = 10_000.0
    scaling: LinearScaling | Llama3Scaling | YarnScaling | None = None

    def frequencies(self, head_width: int) -> np.ndarray:
        """Return the angle that every pair turns by from one position to the next.

        Args:
            head_width: h.

        Returns:
            Radians [h/2], fp32.
        """
        exponents = np.arange(0, head_width, 2, dtype=np.float32) / head_width
        frequencies = 1.0 / np.float32(self.theta) ** exponents
        if self.scaling is not None:
            frequencies = self.scaling(frequencies, self.theta)
        return frequencies.astype(np.float32)

    @property
    def attention_factor(self) -> float:
        """Return the factor on cosines and sines."""
        return 1.0 if self.scaling is None else self.scaling.attention_factor


_YARN_NUMBERS = ("attention_factor", "beta_fast", "beta_slow")
# What the section may hold, by rope type, besides what every type has.
_COMMON = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
_KEYS = {
    "default": set(),
    "linear": {"factor"},
    "llama3": {
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    },
    "yarn": {
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "mscale",
        "mscale_all_dim",
        "beta_fast",
        "beta_slow",
        "truncate",
    },
}


def parse_rope(fields: Mapping[str, Any], max_positions: int, origin: str) -> Rope:
    """Read the rotary embedding out of a configuration of any age.

    Older files have `rope_theta` and `rope_scaling`, those of transformers 5 `rope_parameters`.

    Args:
        fields: The content of `config.json`.
        max_positions: Its `max_position_embeddings`.
        origin: Where the fields come from, for error messages.

    Raises:
        UserError: A setting is missing, broken, or would change the computation in a way that is not
            followed.
    """
    section, settings = _section(fields, origin)
    origin = f"{origin}: {section}"
    kind = _kind(settings, origin)
    _refuse_unknown(settings, kind, origin)
    theta = positive({"rope_theta": 10_000.0} | settings, "rope_theta", origin, float)
    if theta <= 1:
        raise UserError(f"{origin}: rope_theta {theta} must be above 1: correct the file.")
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, LinearScaling(positive(settings, "factor", origin, float)))
    # Where a file states the original length twice, transformers takes the one outside the section.
    settings.setdefault("original_max_position_embeddings", max_positions)
    if "original_max_position_embeddings" in fields:
        name = "original_max_position_embeddings"
        settings[name] = fields[name]
    if kind == "llama3":
        return Rope(theta, _llama3(settings, origin))
    return Rope(theta, _yarn(settings, max_positions, origin))


def _section(fields: Mapping[str, Any], origin: str) -> tuple[str, dict[str, Any]]:
    """Return the name of the section that holds the settings, and the settings."""
    found = {}
    for name in ("rope_scaling", "rope_parameters"):
        value = fields.get(name)
        if value is not None and not isinstance(value, dict):
            raise UserError(f"{origin}: {name} must be an object, found {value!r}.")
        if value:
            found[name] = value
    if len(found) == 2 and found["rope_scaling"] != found["rope_parameters"]:
        raise UserError(
            f"{origin}: rope_scaling and rope_parameters contradict each other; remove one of them."
        )
    name, settings = next(iter(found.items()), ("rope_scaling", {}))
    outside = {"rope_theta": fields["rope_theta"]} if "rope_theta" in fields else {}
    return name, outside | settings


def _kind(settings: Mapping[str, Any], origin: str) -> str:
    stated = [settings[name] for name in ("rope_type", "type") if settings.get(name) is not None]
    kind = stated[0] if stated else "default"
    if stated[1:] and stated[1] != kind:
        raise UserError(
            f"{origin}: rope_type {kind!r} and type {stated[1]!r} contradict each other; "
            "remove one of them."
        )
    if not isinstance(kind, str) or kind not in _KEYS:
        raise UserError(
            f"{origin}: rope type {kind!r} is not supported; "
            f"choose a checkpoint that uses one of {', '.join(_KEYS)}."
        )
    return kind


def _refuse_unknown(settings: Mapping[str, Any], kind: str, origin: str) -> None:
    if settings.get("partial_rotary_factor") not in (None, 1):
        raise UserError(
            f"{origin}: partial_rotary_factor {settings['partial_rotary_factor']!r} is not "
            "supported; choose a checkpoint without it."
        )
    for name, value in settings.items():
        if name in _COMMON | _KEYS[kind] or value is None:
            continue
        if name == "attn_factor" and kind == "yarn":
            raise UserError(
                f"{origin}: attn_factor {value!r} is read by vLLM, which multiplies YaRN's attention "
                "factor by it, and ignored by transformers; remove it, or write the product as "
                "attention_factor instead."
            )
        raise UserError(
            f"{origin}: {name} {value!r} is not known for rope type {kind!r}; "
            "remove it if it does nothing, or choose another checkpoint."
        )


def _llama3(settings: Mapping[str, Any], origin: str) -> Llama3Scaling:
    names = ("factor", "low_freq_factor", "high_freq_factor")
    scaling = Llama3Scaling(
        *(positive(settings, name, origin, float) for name in names),
        positive(settings, "original_max_position_embeddings", origin),
    )
    if scaling.low_freq_factor >= scaling.high_freq_factor:
        raise UserError(
            f"{origin}: low_freq_factor {scaling.low_freq_factor} must be below "
            f"high_freq_factor {scaling.high_freq_factor}: correct the file."
        )
    return scaling


def _yarn(settings: dict[str, Any], max_positions: int, origin: str) -> YarnScaling:
    original = positive(settings, "original_max_position_embeddings", origin)
    defaults = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True}
    if "factor" in settings:  # Null stands for this ratio; the key itself must be there.
        defaults["factor"] = max_positions / original
    settings = defaults | {name: value for name, value in settings.items() if value is not None}
    factor = positive(settings, "factor", origin, float)
    settings.setdefault("attention_factor", _attention_factor(settings, factor, origin))
    return YarnScaling(
        factor,
        original,
        *(positive(settings, key, origin, float) for key in _YARN_NUMBERS),
        flag(settings, "truncate", origin),
    )


def _attention_factor(settings: Mapping[str, Any], factor: float, origin: str) -> float:
    """Return YaRN's factor on cosines and sines where the file does not state it."""

    def sharpening(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    stated = [name for name in ("mscale", "mscale_all_dim") if name in settings]
    if not stated:
        return sharpening(1.0)
    if len(stated) == 1:
        raise UserError(
            f"{origin}: {stated[0]} without its partner does nothing; "
            "state both mscale and mscale_all_dim, or neither."
        )
    above, below = (sharpening(positive(settings, name, origin, float)) for name in stated)
    return above / below
