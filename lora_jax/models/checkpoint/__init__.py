"""Hugging Face model directories: read into sharded arrays, written from them."""

from lora_jax.models.checkpoint.loading import load
from lora_jax.models.checkpoint.saving import COMPANIONS, save
from lora_jax.models.checkpoint.tensor_files import (
    DTYPES,
    INDEX,
    WEIGHTS,
    StoredTensor,
    TensorFiles,
    stored_dtype,
)

__all__ = [
    "COMPANIONS",
    "DTYPES",
    "INDEX",
    "WEIGHTS",
    "StoredTensor",
    "TensorFiles",
    "load",
    "save",
    "stored_dtype",
]
