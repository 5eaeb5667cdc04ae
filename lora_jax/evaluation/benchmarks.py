"""The benchmarks that are known by name: where each lies, how it is asked, and how it is graded.

None is part of this project. A name loads one from the Hugging Face hub, where some ask for a log-in
and for consent to their terms; `name:path` reads a local file in the hub's columns or in those of
the original release.
"""

import dataclasses

from lora_jax.evaluation.graders import CHOICE, GSM8K, MATHEMATICS, NUMBER, Grader
from lora_jax.evaluation.graders.gsm8k import MARKER


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Say how a benchmark is usually sampled, so that figures can be set beside published ones.

    Attributes:
        temperature: of the sampling.
        top_p: share of the probability that is sampled from.
        max_new_tokens: for a response.
        samples: for a prompt.
        judge: who gives the verdict, where that is not the grader.
    """

    temperature: float
    top_p: float
    max_new_tokens: int
    samples: int = 1
    judge: str = ""

    def __str__(self) -> str:
        """Return the protocol in a few words."""
        words = f"temperature {self.temperature:g}, top-p {self.top_p:g}, "
        words += f"{self.max_new_tokens:,} new tokens, {self.samples} sample" + "s" * (
            self.samples > 1
        )
        return words + f", judged by {self.judge}" * bool(self.judge)


@dataclasses.dataclass(frozen=True)
class Hub:
    """Name a dataset on the Hugging Face hub: `owner/name`, one of its splits, and its subset."""

    dataset: str
    split: str
    subset: str = ""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    r"""Declare a benchmark.

    Attributes:
        name: in configs and reports.
        kind: of evaluation set.
        hub: where it is loaded from.
        prompt: columns of the request or question; the first that a row has is read.
        protocol: how it is usually sampled.
        source: what to cite.
        only: a column and a value; rows that hold another value are left out.
        instruction: what is said after the question.
        answer: column of the expected answer; problems alone have one.
        answer_marker: text behind which, in that column, the expected answer stands.
        wrong_choices: columns of the other choices; the answer's column is then that of the right one.
        grader: of its answers; only problems are graded.
    """

    name: str
    kind: str
    hub: Hub
    prompt: tuple[str, ...]
    protocol: Protocol
    source: str
    only: tuple[str, str] | None = None
    instruction: str = ""
    answer: str = ""
    answer_marker: str = ""
    wrong_choices: tuple[str, ...] = ()
    grader: Grader = NUMBER


# Source: Z. Xue, B. Mirzasoleiman, arXiv 2507.17075, for StrongREJECT.
_SAFETY = Protocol(1.0, 1.0, 2048, judge="Llama-Guard-3-8B, reading the whole generation")
# Source: DeepSeek-AI, arXiv 2501.12948, as the paper above follows it; eight seeds where sets are small.
_REASONING = Protocol(0.6, 0.95, 32_768)
_REASONING_8 = dataclasses.replace(_REASONING, samples=8)

_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
_BOXED_LETTER = (
    "Please reason step by step, and put the letter of the right choice within \\boxed{}."
)

_ALL = (
    Benchmark(
        name="strongreject",
        kind="harmful",
        hub=Hub("walledai/StrongREJECT", "train"),
        prompt=("prompt", "forbidden_prompt"),
        protocol=_SAFETY,
        source="Souly et al., arXiv 2402.10260",
    ),
    Benchmark(
        name="harmbench",
        kind="harmful",
        hub=Hub("walledai/HarmBench", "train", "standard"),
        prompt=("prompt", "Behavior"),
        only=("FunctionalCategory", "standard"),  # the others need a context, or quote a text
        protocol=_SAFETY,
        source="Mazeika et al., arXiv 2402.04249, standard behaviours",
    ),
    Benchmark(
        name="advbench",
        kind="harmful",
        hub=Hub("walledai/AdvBench", "train"),
        prompt=("prompt", "goal"),
        protocol=_SAFETY,
        source="Zou et al., arXiv 2307.15043, harmful behaviours",
    ),
    Benchmark(
        name="jailbreakbench",
        kind="harmful",
        hub=Hub("JailbreakBench/JBB-Behaviors", "harmful", "behaviors"),
        prompt=("Goal",),
        protocol=_SAFETY,
        source="Chao et al., arXiv 2404.01318, harmful behaviours",
    ),
    Benchmark(
        name="jailbreakbench_benign",
        kind="lookalike",
        hub=Hub("JailbreakBench/JBB-Behaviors", "benign", "behaviors"),
        prompt=("Goal",),
        protocol=_SAFETY,
        source="Chao et al., arXiv 2404.01318, benign behaviours on the same themes",
    ),
    Benchmark(
        name="xstest_safe",
        kind="lookalike",
        hub=Hub("walledai/XSTest", "test"),
        prompt=("prompt",),
        only=("label", "safe"),
        protocol=_SAFETY,
        source="Röttger et al., arXiv 2308.01263, safe prompts",
    ),
    Benchmark(
        name="xstest_unsafe",
        kind="harmful",
        hub=Hub("walledai/XSTest", "test"),
        prompt=("prompt",),
        only=("label", "unsafe"),
        protocol=_SAFETY,
        source="Röttger et al., arXiv 2308.01263, unsafe contrasts",
    ),
    Benchmark(
        name="gsm8k",
        kind="problems",
        hub=Hub("openai/gsm8k", "test", "main"),
        prompt=("question",),
        instruction=_BOXED,
        answer="answer",
        answer_marker=MARKER,
        grader=GSM8K,
        protocol=_REASONING,
        source="Cobbe et al., arXiv 2110.14168",
    ),
    Benchmark(
        name="math500",
        kind="problems",
        hub=Hub("HuggingFaceH4/MATH-500", "test"),
        prompt=("problem",),
        instruction=_BOXED,
        answer="answer",
        grader=MATHEMATICS,
        protocol=_REASONING,
        source="Hendrycks et al., arXiv 2103.03874, the 500 of Lightman et al., arXiv 2305.20050",
    ),
    Benchmark(
        name="aime2024",
        kind="problems",
        hub=Hub("HuggingFaceH4/aime_2024", "train"),
        prompt=("problem",),
        instruction=_BOXED,
        answer="answer",
        grader=MATHEMATICS,
        protocol=_REASONING_8,
        source="American Invitational Mathematics Examination 2024",
    ),
    Benchmark(
        name="aime2025",
        kind="problems",
        hub=Hub("math-ai/aime25", "test"),
        prompt=("problem",),
        instruction=_BOXED,
        answer="answer",
        grader=MATHEMATICS,
        protocol=_REASONING_8,
        source="American Invitational Mathematics Examination 2025",
    ),
    Benchmark(
        name="gpqa_diamond",
        kind="problems",
        hub=Hub("Idavidrein/gpqa", "train", "gpqa_diamond"),
        prompt=("Question",),
        instruction=_BOXED_LETTER,
        answer="Correct Answer",
        wrong_choices=("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        grader=CHOICE,
        protocol=_REASONING_8,
        source="Rein et al., arXiv 2311.12022, diamond subset",
    ),
)

BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}
