from fractions import Fraction

import pytest

from lora_jax.data.conversation import Conversation
from lora_jax.data.mixture import Take, mix, parse_take
from lora_jax.errors import UserError


def rows(name, count):
    return [Conversation(f"{name} {n}", None, "no", f"{name} row {n}") for n in range(count)]


A, B, C = rows("a", 40), rows("b", 30), rows("c", 20)


def numbers(mixture, name):
    return [int(row.prompt.split()[1]) for row in mixture.rows if row.prompt.startswith(name)]


@pytest.mark.parametrize(
    ("text", "take"),
    [
        ("all", Take()),
        ("0", Take(count=0)),
        ("250", Take(count=250)),
        ("25%", Take(share=Fraction(1, 4))),
        ("12.5%", Take(share=Fraction(1, 8))),
        ("100%", Take(share=Fraction(1))),
    ],
)
def test_takes_are_read_exactly(text, take):
    assert parse_take(text) == take


@pytest.mark.parametrize(
    "text",
    ["", "some", "-1", "2.5", "0%", "101%", "-5%", "1e3", "%", "5 %", "²", "nan%", "9" * 5000],
)
def test_other_takes_are_refused(text):
    with pytest.raises(UserError, match="'all', '0' .* '250', .* '25%'"):
        parse_take(text)


def test_all_of_every_source_is_everything_in_order():
    mixture = mix({"a": A, "b": B}, {"a": "all", "b": "all"}, seed=0)
    assert mixture.rows == A + B
    assert mixture.counts == {"a": 40, "b": 30}


def test_a_count_is_drawn_without_repetition_and_kept_in_order():
    mixture = mix({"a": A, "b": B}, {"a": "25", "b": "10"}, seed=0)
    assert mixture.counts == {"a": 25, "b": 10}
    for name, count in mixture.counts.items():
        drawn = numbers(mixture, name)
        assert len(set(drawn)) == count
        assert drawn == sorted(drawn)
        assert drawn != list(range(count))


@pytest.mark.parametrize(
    ("take", "counts"),
    [
        # 30 counted rows are three quarters of 40.
        ({"a": "30", "b": "25%"}, {"a": 30, "b": 10}),
        ({"a": "25%", "b": "all"}, {"a": 10, "b": 30}),
        # 20 are half of 40; a quarter each for the others.
        ({"a": "25%", "b": "25%", "c": "all"}, {"a": 10, "b": 10, "c": 20}),
        # 10 of 10 / (1 - 1/3 - 1/3) = 30.003: the remainders decide, the first on a tie.
        ({"a": "33.335%", "b": "33.335%", "c": "10"}, {"a": 10, "b": 10, "c": 10}),
        ({"a": "7", "b": "12.5%", "c": "0"}, {"a": 7, "b": 1}),
        # 7 counted of 14: 3.5 each, which only together are whole.
        ({"a": "25%", "b": "25%", "c": "7"}, {"a": 4, "b": 3, "c": 7}),
        # Without counts the source that is shortest for its share decides: 20 of 40.
        ({"a": "25%", "b": "25%", "c": "50%"}, {"a": 10, "b": 10, "c": 20}),
        ({"a": "60%", "b": "40%"}, {"a": 40, "b": 26}),
        ({"a": "0", "b": "100%"}, {"b": 30}),
    ],
)
def test_shares_are_of_the_finished_mixture(take, counts):
    sources = {name: source for name, source in {"a": A, "b": B, "c": C}.items() if name in take}
    mixture = mix(sources, take, seed=0)
    assert mixture.counts == counts
    assert len(mixture.rows) == sum(counts.values())
    assert len({row.origin for row in mixture.rows}) == len(mixture.rows)


def test_the_seed_and_the_name_decide_the_draw():
    def drawn(seed, name="a"):
        return numbers(mix({name: A}, {name: "20"}, seed), "a")

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1) != drawn(1, name="other")


def test_another_source_changes_nothing_and_a_larger_count_keeps_a_smaller_ones_rows():
    alone = mix({"a": A}, {"a": "10"}, seed=3)
    beside = mix({"b": B, "a": A}, {"b": "5", "a": "10"}, seed=3)
    more = mix({"a": A}, {"a": "15"}, seed=3)
    assert numbers(beside, "a") == numbers(alone, "a")
    assert set(numbers(alone, "a")) < set(numbers(more, "a"))


def test_a_source_that_is_left_out_need_not_be_read():
    mixture = mix({"a": A}, {"a": "all", "b": "0"}, seed=0)
    assert mixture.counts == {"a": 40}


@pytest.mark.parametrize(
    ("sources", "take", "complaint"),
    [
        ({"a": A}, {"a": "41"}, r"'a' is to give 41 rows \(take '41'\) and has 40"),
        ({"a": A, "b": B}, {"a": "all", "b": "50%"}, "'b' is to give 40 rows .* has 30"),
        ({"a": A, "b": B}, {"a": "10", "b": "100%"}, "add up to 100%.*less than 100%"),
        ({"a": A, "b": B}, {"a": "40%", "b": "40%"}, "of a, b add up to 80%.*100% by themselves"),
        ({"a": A, "b": B}, {"a": "0", "b": "40%"}, "add up to 40%"),
        ({"a": A}, {"a": "0"}, "no source gives any rows"),
        ({}, {}, "no source gives any rows"),
        ({"a": A}, {"a": "all", "b": "5"}, "source 'b' has no rows"),
        ({"a": A, "b": B}, {"a": "all"}, "source 'b' has no take"),
        ({"a": A}, {"a": "most"}, "take is 'most'"),
    ],
)
def test_mixtures_that_cannot_be_are_refused(sources, take, complaint):
    with pytest.raises(UserError, match=complaint):
        mix(sources, take, seed=0)
