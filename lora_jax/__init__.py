"""Teach a reasoning LLM to refuse harmful requests with rank-1 LoRA, and keep its reasoning."""

__version__ = "0.1.0"
