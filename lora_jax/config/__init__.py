"""The configuration of a run: its fields, the values they may take, and how they are set."""

from lora_jax.config.command_line import load_config, override, restore_config
from lora_jax.config.fields import apply_modes, default_config, source
from lora_jax.config.naming import differences, flatten, suggest
from lora_jax.config.rules import validate

__all__ = [
    "apply_modes",
    "default_config",
    "differences",
    "flatten",
    "load_config",
    "override",
    "restore_config",
    "source",
    "suggest",
    "validate",
]
