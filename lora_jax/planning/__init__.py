"""What a training step will need, from its compiled program alone: no weights, no accelerator."""
