"""Run a job on a recipe; by default: load, measure, align, measure again, export, report.

python main.py --config=configs/r1_upproj.py
"""

import argparse
import importlib
import os
import pathlib
import sys
import types
from collections.abc import Sequence
from typing import NoReturn

import ml_collections
from absl import logging

from lora_jax.config import load_config, override, restore_config, suggest, validate
from lora_jax.errors import UserError
from lora_jax.workdir import explain_refusal, open_workdir, saved_config

_JOBS = {  # what they do; their modules are imported when asked for, so that --help is quick
    "align": "measure, train, measure again, export, report",
    "inspect": "show the training data as the model will see it; needs no weights",
    "plan": "compile the training step for devices that need not be there; needs no weights",
    "evaluate": "measure the base with and without what was trained; trains nothing",
    "export": "write what a run has trained so far, or config.lora.adapter, in PEFT's format",
    "merge": "write base and adapter as one whole model",
    "compare": "the adapter against full fine-tuning, over learning rates",
}


def main(argv: Sequence[str]) -> int:
    """Run the command line.

    Args:
      argv: without the program's name.

    Returns:
      The exit code: 0, 2 for bad input, 130 if interrupted.
    """
    workdir = pathlib.Path()
    try:
        flags, config = _parse(argv)
        workdir = pathlib.Path(flags.workdir or _default_workdir(flags))
        with open_workdir(workdir, config):
            _prepare_libraries(workdir)
            importlib.import_module(f"lora_jax.jobs.{flags.job}").run(config, workdir)
        return 0
    except UserError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last save.", file=sys.stderr)
        return 130
    except Exception as error:
        sentence = explain_refusal(error, workdir)
        if sentence is None:
            raise
        return _fail(sentence)


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, ml_collections.ConfigDict]:
    parser = _Parser(
        prog="main.py",
        description="Align a reasoning LLM, measure it before and after, export the adapter.",
        epilog="Any field of the recipe can be set, as in --config.lora.rank=4; "
        "lora_jax/config/fields.py describes them all.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE[:MODE]",
        help="such as configs/r1_upproj.py:smoke; by default the one that --workdir was made with",
    )
    parser.add_argument(
        "--workdir", help="where everything is written (default: runs/RECIPE[-MODE])"
    )
    jobs = "; ".join(f"{name}: {what}" for name, what in _JOBS.items())
    parser.add_argument("--job", default="align", help=jobs, choices=_JOBS)
    flags, rest = parser.parse_known_args(argv)
    config = _config(flags)
    for argument in rest:
        name, equals, text = argument.partition("=")
        if not name.startswith("--config."):
            raise UserError(
                f"there is no flag '{name}'{suggest(name, ['--config', '--workdir', '--job'])}."
            )
        if not equals:
            raise UserError(f"{name} has no value; write {name}=VALUE.")
        override(config, name.removeprefix("--config."), text)
    validate(config)
    return flags, config


def _config(flags: argparse.Namespace) -> ml_collections.ConfigDict:
    if flags.config is not None:
        recipe, _, modes = flags.config.partition(":")
        return load_config(recipe, modes)
    if flags.workdir is None:
        raise UserError(
            "name a recipe, such as --config=configs/r1_upproj.py, or a run's --workdir; "
            "--help shows the flags."
        )
    return restore_config(saved_config(pathlib.Path(flags.workdir)))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help shows the flags.")


def _default_workdir(flags: argparse.Namespace) -> pathlib.Path:
    recipe, _, modes = flags.config.partition(":")
    return pathlib.Path(
        "runs", "-".join([pathlib.Path(recipe).stem, *filter(None, modes.split(","))])
    )


def _prepare_libraries(workdir: pathlib.Path) -> None:
    # Read when the libraries are imported, which the job does. What the user has set stays.
    cache = workdir.resolve().parent / ".compilation_cache"  # shared by runs, which compile alike
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # What goes wrong in Orbax's threads is raised in this one as well, without its tracebacks.
    logging.set_verbosity(logging.FATAL)
    sys.excepthook = _ignore_closed_loops


def _ignore_closed_loops(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
    # Printed once a file by TensorStore, whose writes outlive the event loop that a full disk ended.
    if str(error) != "Event loop is closed":
        sys.__excepthook__(kind, error, trace)


def _fail(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        os._exit(code)  # Threads that have just failed print tracebacks when they are taken down.
