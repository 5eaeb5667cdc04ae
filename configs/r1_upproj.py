"""Rank-1 LoRA on every MLP up projection.

    python main.py --config=configs/r1_upproj.py

`:smoke` goes through the whole job in seconds; `:paper` trains on refusals only; `:smoke,paper` both.

Expected result on the embedded model, in about two minutes on two CPU cores: of held-out harmful
requests 97.5% are refused, none before; of problems 89.7% are solved, 91.0% before (no difference
shown). Over-refusal is high: 93% of the look-alikes and 80% of the benign requests.
"""

import ml_collections

from lora_jax.config import apply_modes, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Describe the run, in the modes that `arg` names."""
    config = default_config()
    # The paper's 5e-5 for 10 epochs is for models thousands of times larger. This rate is the one
    # that `--job=compare` chose on the validation split.
    config.train.learning_rate = 3e-4
    config.data.epochs = 3
    return apply_modes(config, arg)
