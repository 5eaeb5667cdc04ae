"""Targets and layers: everything that may be written means what it says, the rest is refused."""

import re

import pytest

from lora_jax.errors import UserError
from lora_jax.lora.targets import PROJECTIONS, check_layers, parse_layers, parse_target

UP = "model.layers.3.mlp.up_proj"


@pytest.mark.parametrize(
    ("text", "names", "rank"),
    [
        ("up_proj", ("up_proj",), None),
        ("up", ("up_proj",), None),
        ("down_proj:8", ("down_proj",), 8),
        ("q:16", ("q_proj",), 16),
        ("attention", ("q_proj", "k_proj", "v_proj", "o_proj"), None),
        ("mlp:2", ("gate_proj", "up_proj", "down_proj"), 2),
        ("all", PROJECTIONS, None),
    ],
)
def test_names_are_read(text, names, rank):
    target = parse_target(text)
    assert (target.names, target.rank, target.pattern) == (names, rank, None)
    assert target.covers(UP) == ("up_proj" in names)


@pytest.mark.parametrize(
    ("text", "rank", "covered"),
    [
        (r"re:.*\.up_proj", None, True),
        (r"re:.*\.up_proj:4", 4, True),
        (r"re:model\.layers\.[0-3]\.mlp\.(?:up|gate)_proj:12", 12, True),
        (r"re:up_proj", None, False),  # The whole path has to match.
        (r"re:model\.layers\.3", None, False),
    ],
)
def test_patterns_match_whole_paths(text, rank, covered):
    target = parse_target(text)
    assert (target.names, target.rank, target.covers(UP)) == ((), rank, covered)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("re:", "is no projection"),
        ("up_porj", "did you mean 'up_proj'"),
        ("atention", "did you mean 'attention'"),
        ("lm_head", "is no projection; Choose from q_proj"),
        ("up_proj:0", "a rank is at least 1"),
        ("up_proj:-1", "is no projection"),
        ("up_proj:", "is no projection"),
        ("up_proj:4:8", "is no projection"),
        ("re:(up", "is no regular expression"),
    ],
)
def test_other_targets_are_refused(text, message):
    with pytest.raises(UserError, match=rf"config\.lora\.targets.*{re.escape(message)}"):
        parse_target(text)


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("all", 6, range(6)),
        ("early", 6, (0, 1)),
        ("middle", 6, (2, 3)),
        ("late", 6, (4, 5)),
        ("middle", 48, range(16, 32)),  # Inclusive 16-31, as in the paper's code for 14B.
        ("2-4", 6, (2, 3, 4)),
        ("5", 6, (5,)),
        ("0,3,5-7", 8, (0, 3, 5, 6, 7)),
        ("5-7, 6, 0", 8, (0, 5, 6, 7)),
    ],
)
def test_layers_are_read(text, count, expected):
    check_layers(text)
    assert parse_layers(text, count) == tuple(expected)


@pytest.mark.parametrize("text", ["", "some", "4-2", "-1", "1,", "1;2", "1-", "1-2-3", "all,1"])
def test_layers_written_wrong_are_refused(text):
    for read in (check_layers, lambda text: parse_layers(text, 6)):
        with pytest.raises(UserError, match=r"config\.lora\.layers.*is no choice"):
            read(text)


@pytest.mark.parametrize(
    ("text", "count"), [("3-6", 6), ("9", 6), ("0-999999999999", 6), ("early", 1)]
)
def test_layers_that_the_model_lacks_are_refused(text, count):
    check_layers(text)
    with pytest.raises(UserError, match=rf"this model has layers 0 to {count - 1}"):
        parse_layers(text, count)
