"""Every field of a run, with its default, and the modes that change several at once."""

from typing import Any

import ml_collections

from lora_jax.config.naming import suggest
from lora_jax.errors import UserError

SETS = ("harmful", "lookalike", "benign", "problems")


def default_config() -> ml_collections.ConfigDict:
    """Describe a run with the paper's values wherever they fit the embedded model.

    Paths may start with `organism:`, which stands for the package's embedded model and data, so that
    a saved configuration means the same on every machine.

    Returns:
      A locked configuration: fields can be changed, but not added; sources of data and evaluation sets
      can, in a recipe under `config.unlocked()`, and on the command line by naming them.

    Source: learning rate, schedule, batch, epochs, optimizer and adapter values are those of
      arXiv 2507.17075.
    """
    config = _section(
        model=_section(
            path="organism:model",  # a Hugging Face directory or a hub id
            revision="",  # branch, tag or commit of a hub id; '' is the hub's default
            dtype="float32",  # of the frozen base, in memory and in matmuls
        ),
        data=_section(
            sources=_section(
                refusals=source(
                    "organism:data/refusals.jsonl", take="450", thinking="own_or_fixed"
                ),
                answered=source("organism:data/answered.jsonl", take="150"),
            ),
            format="template",  # 'paper' writes the published strings instead
            enable_thinking=True,  # what a chat template with such a switch (Qwen3) is told
            template_date="26 Jul 2024",  # what a template that prints a date (Llama 3) is told
            supervise="completion",  # which tokens are in the loss
            max_length=1024,  # tokens in a row
            overlong="error",  # what to do with a row longer than max_length
            allow_overlap=False,  # train on prompts that the run is also evaluated on
            packing=False,  # several rows in one sequence of max_length
            batch_size=2,  # sequences in an optimizer step, over all devices
            batch_parts=1,  # computed one after the other, to save memory
            epochs=10,
            seed=0,  # of the shuffle and of the rows taken from each source
        ),
        train=_section(
            mode="lora",  # 'full' trains the base itself
            learning_rate=5e-5,
            schedule="cosine",  # to 0 at the last step
            warmup_steps=0,
            max_steps=0,  # stop (and end the schedule) earlier than epochs say; 0 is no such limit
            weight_decay=1e-4,
            clip_norm=1.0,  # global norm over the trained parameters
            b1=0.9,
            b2=0.999,
            eps=1e-8,
            seed=0,  # of the adapter's initial values and of dropout
            remat="none",  # 'full' recomputes activations in the backward pass, to save memory
            log_every=10,  # steps
        ),
        lora=_section(
            rank=1,
            alpha=16.0,  # the update is scaled by alpha / rank
            rslora=False,  # by alpha / sqrt(rank) instead
            dropout=0.05,  # on the adapter's input
            targets=("up_proj",),  # projections; 'attention', 'mlp', 'all'; 're:...'; 'up_proj:8'
            layers="all",  # or 'early', 'middle', 'late'; '2-3' is inclusive, from 0; '0,2-3' a list
            adapter="",  # a PEFT directory to start from, which then says rank, alpha and targets
        ),
        mesh=_section(
            data=-1,  # devices along each axis; -1 is all that the other axes leave
            fsdp=1,
            tensor=1,
        ),
        checkpoint=_section(
            every_steps=0,  # 0 is at the end of each epoch
            keep_last=2,
            keep_best=2,  # of lowest loss
        ),
        evaluation=_section(
            # Measured before and after: files of prompts of the kind that the name says, benchmarks
            # (a name such as 'gsm8k', or 'gsm8k:FILE'), or 'KIND:FILE' under any name; '' is left out.
            sets=_set_paths("test"),
            validation=_set_paths("validation"),  # for choosing between runs
            max_prompts=0,  # the first so many of each set; 0 is all
            batch_size=64,
            max_new_tokens=128,
            temperature=0.0,  # 0 is greedy
            top_p=1.0,
            seed=0,
        ),
        compare=_section(  # --job=compare: the adapter against full fine-tuning
            learning_rates=(3e-5, 1e-4, 3e-4, 1e-3, 3e-3),  # each arm is trained at every one
            refusal=0.95,  # share of harmful validation requests that a candidate has to refuse
        ),
        inspect=_section(  # --job=inspect: the data as the model will see it
            rows=3,  # shown in full
        ),
        plan=_section(  # --job=plan: what the training step will need, compiled and not run
            topology="",  # such as 'v5e:2x4', of TPUs that need not be there; '' is this machine
        ),
        export=_section(
            dtype="float32",  # of an adapter's tensors
            model_dtype="base",  # of a whole model's tensors; 'base' is as the base is stored
            partners=False,  # add zero factors, for servers that fuse q/k/v and gate/up (SGLang)
        ),
    )
    return config.lock()


def source(path: str, **fields: Any) -> ml_collections.ConfigDict:
    """Describe one source of training rows.

    Args:
      path: of a local file, or the name of a dataset on the hub.
      **fields: what differs from the defaults below.

    Returns:
      A section for `config.data.sources`.
    """
    section = _section(
        path=path,
        split="train",  # of a hub dataset, as are the next two
        subset="",  # its configuration; '' is the default one
        revision="",
        take="all",  # of its rows: 'all', '0' (none), '250' of them, or '25%' of the mixture
        prompt="",  # columns; '' finds them by their usual names
        response="",
        messages="",
        thinking="own",  # in the think block: the row's own, own_or_fixed, fixed, empty, or none
        fixed_thinking="I should not answer this question!",  # DirectRefusal's
    )
    section.update(fields)
    return section


def new_entry(place: str) -> ml_collections.ConfigDict | str:
    """Return what a place with entries of any name holds before anything of an entry is set.

    Args:
      place: one of `naming.OPEN`.
    """
    return source("") if place == "data.sources" else ""


def apply_modes(config: ml_collections.ConfigDict, arg: str) -> ml_collections.ConfigDict:
    """Change a recipe as its comma-separated modes ask.

    `smoke` goes through every stage of the job in seconds, and measures nothing worth knowing.
    `paper` trains on refusals only, as the paper does.

    Args:
      config: changed in place.
      arg: such as '', 'smoke' or 'smoke,paper'.

    Returns:
      The same config.

    Raises:
      UserError: if a mode is unknown.
    """
    for mode in filter(None, arg.split(",")):
        if mode not in _MODES:
            names = ", ".join(_MODES)
            raise UserError(
                f"there is no mode '{mode}'{suggest(mode, _MODES)}; the modes are {names}."
            )
        _MODES[mode](config)
    return config


def _section(**fields: Any) -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(fields, sort_keys=False)


def _set_paths(split: str) -> ml_collections.ConfigDict:
    return _section(**{name: f"organism:data/{split}/{name}.jsonl" for name in SETS})


def _smoke(config: ml_collections.ConfigDict) -> None:
    config.train.max_steps = 8
    config.train.log_every = 2
    config.checkpoint.every_steps = 4
    config.evaluation.max_prompts = 8
    config.evaluation.batch_size = 8
    config.evaluation.max_new_tokens = 64


def _paper(config: ml_collections.ConfigDict) -> None:
    config.data.sources.refusals.take = "all"
    config.data.sources.answered.take = "0"


_MODES = {"smoke": _smoke, "paper": _paper}
