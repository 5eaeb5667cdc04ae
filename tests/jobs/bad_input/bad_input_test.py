"""Whatever is wrong with the input: one sentence, exit code 2, and a run that can be corrected."""

import pytest

import main
from lora_jax.workdir import open_workdir
from tests.jobs.bad_input import (  # noqa: F401 - they fill the table
    adapter_cases,
    checkpoint_cases,
    data_cases,
    recipe_cases,
)
from tests.jobs.bad_input.cases import CASES, assert_one_sentence, good_config, snapshot

OTHERS = {"workdir_is_another_run_s", "workdir_holds_something_else", "workdir_is_a_file"}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_sentence_and_leaves_nothing_in_the_way(site, capsys, name):
    good = good_config(site)
    CASES[name].spoil(site)
    before = snapshot(site.root)
    code = main.main(site.arguments)
    assert_one_sentence(code, *capsys.readouterr(), *CASES[name].expected)
    after = snapshot(site.root)
    made = {path for path in after if path not in before}
    assert made <= {str(site.workdir / "config.json")}
    assert {path: after[path] for path in before} == before
    if name not in OTHERS:
        with open_workdir(site.workdir, good):
            pass  # a corrected run gets in
