import pytest

from lora_jax.evaluation.graders.gsm8k import agrees


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{18} dollars in 7 days", "18"),
        (r"\boxed{\$18}", "18"),
        (r"\boxed{18.00}", "18"),
        (r"\boxed{1{,}319}", "1,319"),
        (r"\boxed{1\,319}", "1319"),
        (r"\boxed{1 319 \text{ apples}}", "1319"),
        (r"\boxed{50\%}", "50"),
        (r"\boxed{-3}", "-3"),
        (r"\boxed{x = 12}", "12"),
        ("He has 3.\n#### 1,450\nThat took 2 steps.", "1450"),
        ("She makes 9 * 2 = $18.", "18"),
        ("**Answer:** $18", "18"),
    ],
)
def test_right_numbers_in_many_forms(text, expected):
    assert agrees(text, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"18 at first, but \boxed{17}", "18"),
        (r"\boxed{none}, not 18", "18"),  # a box is what counts, even an empty one
        ("#### none\n18", "18"),
        (r"\boxed{181}", "18"),
        (r"\boxed{1.8}", "18"),
        (r"\boxed{-18}", "18"),
        ("eighteen", "18"),
        ("", "18"),
    ],
)
def test_wrong_numbers(text, expected):
    assert not agrees(text, expected)
