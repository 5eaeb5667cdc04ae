"""Rank-1 LoRA on the MLP up projections of the middle third of the layers.

    python main.py --config=configs/r1_upproj_middle.py

`:smoke` goes through the whole job in seconds; `:paper` trains on refusals only; `:smoke,paper` both.

Expected result on the embedded model, in about two minutes on two CPU cores: of held-out harmful
requests 84.5% are refused, none before, so two of six layers do not suffice here; of problems 90.7% are
solved, 91.0% before (no difference shown). Over-refusal: 83% of the look-alikes and of the benign
requests.
"""

import ml_collections

from lora_jax.config import apply_modes, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Describe the run, in the modes that `arg` names."""
    config = default_config()
    config.lora.layers = "middle"
    # As in r1_upproj.py, from which nothing else differs.
    config.train.learning_rate = 3e-4
    config.data.epochs = 3
    return apply_modes(config, arg)
