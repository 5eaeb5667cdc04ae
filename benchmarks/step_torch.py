"""The other side of `step.py`: transformers, PEFT and torch, as their documentation uses them."""

from __future__ import annotations

import json
import os
import pathlib

import numpy as np
import peft
import torch
import transformers
from step_worker import Step


class Side:
    """Load the model and the adapters that our side has written."""

    def __init__(self, model: str, scratch: pathlib.Path):
        torch.set_num_threads(len(os.sched_getaffinity(0)))  # As many as jax takes.
        self._model, self._scratch = model, scratch
        self._settings = json.loads((scratch / "settings.json").read_text())
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        libraries = (torch, peft, transformers)
        self.versions = ", ".join(f"{one.__name__} {one.__version__}" for one in libraries)
        self.device = torch.cuda.get_device_name() if self._device == "cuda" else "cpu"

    def batch(
        self, tokens: np.ndarray, real: np.ndarray, supervised: np.ndarray
    ) -> dict[str, torch.Tensor]:
        """Return a batch as a collator would give it, from arrays [B, T]."""
        ids = torch.from_numpy(tokens).to(torch.int64)
        return {
            "input_ids": ids,
            "attention_mask": torch.from_numpy(real).to(torch.int64),
            "labels": ids.masked_fill(~torch.from_numpy(supervised), -100),
        }

    def start(self, dropout: float) -> Step:
        """Return the step of a fresh run."""
        settings = self._settings
        base = transformers.AutoModelForCausalLM.from_pretrained(self._model, dtype=torch.float32)
        model = peft.PeftModel.from_pretrained(
            base, self._scratch / f"adapter-{dropout}", is_trainable=True
        )
        model.to(self._device).train()
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
        )

        def step(batch: dict[str, torch.Tensor]) -> torch.Tensor:
            loss = model(**{name: part.to(self._device) for name, part in batch.items()}).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, settings["clip_norm"])
            optimizer.step()
            return loss.detach()

        return step
