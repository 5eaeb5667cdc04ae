"""Training rows, evaluation sets, and the config fields that say where they are."""

import json

from tests.jobs.bad_input.cases import case, edit_field, edit_row

THINKS = ("<think>Well.</think>", "")
MESSAGES = [
    {"role": "user", "content": "How do I bake bread?"},
    {"role": "assistant", "content": "<think>Flour.</think>Bake it."},
]


def use_rows(site, *rows: dict, **fields: object) -> None:
    """Give the run one source, of these rows."""
    path = site.root / "data" / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    site.fields |= {
        "data.sources.refusals.take": "0",
        "data.sources.answered.take": "0",
        "data.sources.mine.path": path,
    }
    site.fields |= {f"data.sources.mine.{name}": value for name, value in fields.items()}


@case("refusals.jsonl", "cannot be read")
def training_file_is_missing(site):
    site.data("refusals").unlink()


@case("refusals.txt", ".jsonl")
def training_file_is_of_another_kind(site):
    site.fields["data.sources.refusals.path"] = site.data("refusals").rename(
        site.root / "refusals.txt"
    )


@case("refusals.jsonl row 3", "not valid JSON")
def training_row_is_broken(site):
    edit_row(site.data("refusals"), 3, lambda line: line[:20])


@case("refusals.jsonl", "no rows")
def training_file_is_empty(site):
    site.data("refusals").write_text("")


@case("refusals.jsonl row 4", "'refusal'")
def training_field_is_missing(site):
    edit_field(site.data("refusals"), 4, "refusal", None)


@case("refusals.jsonl row 5", "'prompt'", "empty")
def training_prompt_is_empty(site):
    edit_field(site.data("refusals"), 5, "prompt", "  ")


@case("answered.jsonl row 2", "'response'", "think tags")
def answered_row_has_stray_think_tags(site):
    edit_field(site.data("answered"), 2, "response", "<think>a</think>b</think>c")


@case("refusals.jsonl row", "max_length 40", "overlong")
def training_row_is_too_long(site):
    site.fields["data.max_length"] = 40


@case("harmful.jsonl", "no evaluation set")
def evaluation_set_is_missing(site):
    site.data("harmful").unlink()


@case("lookalike.jsonl", "no rows")
def evaluation_set_is_empty(site):
    site.data("lookalike").write_text("\n")


@case("problems.jsonl row 2", '"answer"', "missing")
def problem_has_no_answer(site):
    edit_field(site.data("problems"), 2, "answer", None)


@case("config.evaluation.max_new_tokens=250", "256 positions")
def samples_do_not_fit_the_model(site):
    site.fields["evaluation.max_new_tokens"] = 250


@case("config.data.max_length", "256 positions")
def training_rows_do_not_fit_the_model(site):
    site.fields["data.sources.refusals.take"] = "all"
    edit_field(site.data("refusals"), 1, "prompt", "bridge " * 300)


@case("config.data.sources.refusal", "did you mean config.data.sources.refusals.path?")
def source_is_mistyped(site):
    site.fields["data.sources.refusal.path"] = "mine.jsonl"


@case("config.data.sources.refusals.take is 'most'", "'25%'")
def amount_is_not_one(site):
    site.fields["data.sources.refusals.take"] = "most"


@case("'refusals'", "5000", "12")
def more_rows_are_taken_than_there_are(site):
    site.fields["data.sources.refusals.take"] = "5000"


@case("answered", "80%", "100%")
def shares_do_not_fill_the_mixture(site):
    site.fields |= {
        "data.sources.refusals.take": "30%",
        "data.sources.answered.take": "50%",
    }


@case("no source gives any rows")
def every_source_is_left_out(site):
    site.fields |= {"data.sources.refusals.take": "0", "data.sources.answered.take": "0"}


@case("mine.jsonl", "'instruction'", "prompt")
def named_column_is_not_there(site):
    use_rows(site, {"prompt": "a", "response": "b"}, prompt="instruction")


@case("mine.jsonl row 1", ["'instruction'", " 'output'"][0].strip("'"))
def columns_have_unknown_names(site):
    use_rows(site, {"instruction": "a", "output": "b"})


@case("mine.jsonl row 2", "assistant")
def conversation_ends_with_the_user(site):
    use_rows(site, {"messages": MESSAGES}, {"messages": MESSAGES[:1]})


@case("mine.jsonl row 1", "'tool'")
def turn_has_an_unknown_role(site):
    use_rows(site, {"messages": [{"role": "tool", "content": "42"}, *MESSAGES]})


@case("mine.jsonl row 1", "messages")
def messages_are_text(site):
    use_rows(site, {"messages": "How do I bake bread?"})


@case("mine.jsonl row 2", "own_or_fixed")
def row_has_no_reasoning_of_its_own(site):
    rows = ({"prompt": f"{n}?", "response": f"{think}Yes."} for n, think in enumerate(THINKS))
    use_rows(site, *rows)


@case("mine.jsonl row 1", "<|end|>")
def answer_holds_the_end_token(site):
    use_rows(site, {"prompt": "a", "response": "b<|end|>c"}, thinking="empty")


@case("'paper'", "special tokens", "'template'")
def format_does_not_fit_the_model(site):
    site.fields["data.format"] = "paper"


@case("enable_thinking")
def thinking_cannot_be_switched_off(site):
    site.fields["data.enable_thinking"] = "false"


@case("refusals.jsonl row", "prefix opens one", "'empty'")
def think_block_is_open_and_to_be_left_out(site):
    site.fields["data.sources.refusals.thinking"] = "none"


@case("template's date", "'today'")
def date_is_not_one(site):
    site.fields["data.template_date"] = "today"


@case("data.allow_overlap", "harmful", "refusals.jsonl row 1")
def prompt_is_trained_and_evaluated_on(site):
    prompt = json.loads(site.data("harmful").read_text().splitlines()[0])["prompt"]
    site.fields["data.sources.refusals.take"] = "all"
    edit_field(site.data("refusals"), 1, "prompt", prompt.upper())


@case("refusals.csv row 2", "fields")
def table_is_ragged(site):
    path = site.root / "data" / "refusals.csv"
    path.write_text("prompt,response\na,b\nc\n")
    site.fields["data.sources.refusals.path"] = path


@case("refusals.parquet", "Parquet")
def table_is_no_parquet(site):
    path = site.root / "data" / "refusals.parquet"
    path.write_text("prompt,response\n")
    site.fields["data.sources.refusals.path"] = path


@case("refusals.json", "list")
def file_holds_no_list(site):
    path = site.root / "data" / "refusals.json"
    path.write_text("{}")
    site.fields["data.sources.refusals.path"] = path


@case("strongrejct", "strongreject")
def benchmark_is_unknown(site):
    site.fields["evaluation.sets.harmful"] = "strongrejct"


@case("benchmark gsm8k", "problems", "harmful")
def benchmark_is_of_another_kind(site):
    site.fields["evaluation.sets.harmful"] = "gsm8k"


@case("nowhere.csv")
def benchmark_file_is_missing(site):
    site.fields["evaluation.sets.harmful"] = "strongreject:nowhere.csv"


@case("does not say", "KIND:")
def evaluation_set_is_of_no_kind(site):
    site.fields["evaluation.sets.mine"] = site.data("harmful")


@case("config.evaluation.sets names no set")
def every_evaluation_set_is_left_out(site):
    for name in ("harmful", "lookalike", "benign", "problems"):
        site.fields[f"evaluation.sets.{name}"] = ""
