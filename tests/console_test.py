import io

import pytest
from rich.console import Console

from lora_jax.console import LateProgress, Progress, print_facts


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def plain_console():
    return Console(file=io.StringIO(), force_terminal=False, width=100)


def progress_without_terminal(**options):
    console, clock = plain_console(), Clock()
    return Progress("train", console=console, clock=clock, **options), console.file, clock


def test_plan_prints_every_fact_in_order_and_literally():
    console = plain_console()
    print_facts("Plan", {"model": "organism:model", "workdir": "runs/[a]"}, console)
    text = console.file.getvalue()
    assert text.index("model") < text.index("organism:model") < text.index("runs/[a]")


def test_without_a_terminal_there_is_a_plain_line_every_few_seconds_and_one_at_the_end():
    progress, file, clock = progress_without_terminal(total=40, unit="steps", plain_seconds=10)
    with progress:
        for _ in range(40):
            clock.now += 1
            progress.advance(1, tokens=50, loss="0.5")
    assert file.getvalue().splitlines() == [
        "train: 10/40 steps, loss 0.5, 50 tokens/s, 1.0 steps/s, 0:30 left",
        "train: 20/40 steps, loss 0.5, 50 tokens/s, 1.0 steps/s, 0:20 left",
        "train: 30/40 steps, loss 0.5, 50 tokens/s, 1.0 steps/s, 0:10 left",
        "train: 40/40 steps, loss 0.5, 50 tokens/s, 1.0 steps/s",
    ]
    assert "\x1b" not in file.getvalue() and "\r" not in file.getvalue()


def test_end_is_not_said_twice():
    progress, file, clock = progress_without_terminal(total=2, unit="steps", plain_seconds=0)
    with progress:
        clock.now += 1
        progress.advance(2)
    assert file.getvalue().count("2/2") == 1


def test_on_a_terminal_there_is_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Progress("evaluate", total=4, unit="prompts", console=console) as progress:
        progress.advance(4, tokens=9)
    text = console.file.getvalue()
    assert "\x1b" in text and "━" in text and "4/4 prompts" in text


def test_rates_are_of_the_last_seconds_so_that_compilation_drops_out():
    progress, _, clock = progress_without_terminal(total=1000, unit="steps")
    clock.now += 60  # the first step compiles
    progress.advance(1, tokens=100)
    for _ in range(30):
        clock.now += 1
        progress.advance(1, tokens=100)
    assert progress.tokens_per_second == pytest.approx(100)


def test_resumed_steps_count_as_done_but_not_as_fast():
    progress, _, clock = progress_without_terminal(total=100, unit="steps", start=60)
    assert progress.status() == "60/100 steps"
    clock.now += 10
    progress.advance(10)
    assert progress.status() == "70/100 steps, 1.0 steps/s, 0:30 left"


def test_hours_are_shown():
    progress, _, clock = progress_without_terminal(total=7326, unit="steps")
    clock.now += 1
    progress.advance(1)
    assert progress.status().endswith("2:02:05 left")


def test_late_progress_counts_from_its_first_report(capsys):
    with LateProgress("load", "MiB") as progress:
        progress.reach(10, 40)
        progress.reach(25, 40)
        progress.reach(40, 40, tokens=7)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and said[0].startswith("load: 40/40 MiB")


def test_late_progress_that_never_starts_says_nothing(capsys):
    with LateProgress("load", "MiB"):
        pass
    assert capsys.readouterr().out == ""
