"""Decoder-only language models: configuration, parameters, computation, files."""
