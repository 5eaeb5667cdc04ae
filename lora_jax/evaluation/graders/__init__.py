"""Graders of problems, behind one interface: from an answer's text to right or wrong."""

from lora_jax.evaluation.graders.choice import CHOICE as CHOICE
from lora_jax.evaluation.graders.grader import Grader as Grader
from lora_jax.evaluation.graders.gsm8k import GSM8K as GSM8K
from lora_jax.evaluation.graders.mathematics import MATHEMATICS as MATHEMATICS
from lora_jax.evaluation.graders.number import NUMBER as NUMBER
