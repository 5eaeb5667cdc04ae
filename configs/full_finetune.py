"""Full fine-tuning, the paper's baseline: the same step with the base as the trained tree.

    python main.py --config=configs/full_finetune.py

`:smoke` goes through the whole job in seconds; `:paper` trains on refusals only; `:smoke,paper` both.

Expected result on the embedded model, in about three minutes on two CPU cores: of held-out harmful
requests 96.0% are refused, none before; of problems 91.0% are solved, 91.0% before (no difference
shown). Over-refusal: 10% of the look-alikes and 19% of the benign requests.
"""

import ml_collections

from lora_jax.config import apply_modes, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Describe the run, in the modes that `arg` names."""
    config = default_config()
    config.train.mode = "full"
    config.data.epochs = 5  # the paper's; LoRA gets 10
    # Chosen on the validation split: nearly all harmful requests refused, least reasoning lost.
    config.train.learning_rate = 3e-5
    config.export.model_dtype = "float32"  # what was trained and measured, not its rounding
    return apply_modes(config, arg)
