"""Rows of a source -> conversations -> token ids with a loss mask -> padded or packed batches."""

from lora_jax.data.batches import TrainingBatches, training_batches
from lora_jax.data.chat_format import FORMATS, SUPERVISE, ChatFormat, EncodedConversation
from lora_jax.data.conversation import Conversation, Turn
from lora_jax.data.inspection import (
    InspectedRow,
    Inspection,
    Piece,
    inspect,
    inspect_row,
    render_row,
    render_tokens,
)
from lora_jax.data.mixture import Mixture, mix, parse_take
from lora_jax.data.overlap import Overlap, find_overlap, refuse_overlap
from lora_jax.data.source import THINKING, Source, read_source
from lora_jax.data.summary import DataSummary, summarise
from lora_jax.data.tokenizer import load_tokenizer, stop_tokens
from lora_jax.data.truncation import OVERLONG, OverlongCounts, fit

__all__ = [
    "FORMATS",
    "OVERLONG",
    "SUPERVISE",
    "THINKING",
    "ChatFormat",
    "Conversation",
    "DataSummary",
    "EncodedConversation",
    "InspectedRow",
    "Inspection",
    "Mixture",
    "Overlap",
    "OverlongCounts",
    "Piece",
    "Source",
    "TrainingBatches",
    "Turn",
    "find_overlap",
    "fit",
    "inspect",
    "inspect_row",
    "load_tokenizer",
    "mix",
    "parse_take",
    "read_source",
    "refuse_overlap",
    "render_row",
    "render_tokens",
    "stop_tokens",
    "summarise",
    "training_batches",
]
