"""Measure what a model refuses and how well it reasons, and report what changed."""

from lora_jax.evaluation.benchmarks import BENCHMARKS as BENCHMARKS
from lora_jax.evaluation.card import write_card as write_card
from lora_jax.evaluation.comparison import compare as compare
from lora_jax.evaluation.comparison import terminal_table as terminal_table
from lora_jax.evaluation.loading import load_set as load_set
from lora_jax.evaluation.report import write_report as write_report
from lora_jax.evaluation.response import Generation as Generation
from lora_jax.evaluation.run import Evaluation as Evaluation
from lora_jax.evaluation.run import evaluate as evaluate
from lora_jax.evaluation.suite import KINDS as KINDS
from lora_jax.evaluation.suite import EvaluationPrompt as EvaluationPrompt
from lora_jax.evaluation.suite import EvaluationSet as EvaluationSet
from lora_jax.evaluation.usage import Export as Export
