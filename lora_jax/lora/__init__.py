"""Low-rank adapters: the module, the masks that place it, and PEFT's files."""
