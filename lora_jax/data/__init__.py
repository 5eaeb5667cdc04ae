"""Rows of a file -> conversations -> token ids with a loss mask -> padded or packed batches."""

from lora_jax.data.batches import TrainingBatches, training_batches
from lora_jax.data.chat_format import EncodedConversation, encode, encode_prompt
from lora_jax.data.conversation import Conversation
from lora_jax.data.mixture import mix
from lora_jax.data.rows import read_conversations
from lora_jax.data.summary import DataSummary, summarise
from lora_jax.data.tokenizer import load_tokenizer
from lora_jax.data.truncation import OverlongCounts, fit

__all__ = [
    "Conversation",
    "DataSummary",
    "EncodedConversation",
    "OverlongCounts",
    "TrainingBatches",
    "encode",
    "encode_prompt",
    "fit",
    "load_tokenizer",
    "mix",
    "read_conversations",
    "summarise",
    "training_batches",
]
