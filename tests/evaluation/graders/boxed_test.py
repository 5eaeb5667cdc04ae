import pytest

from lora_jax.evaluation.graders.boxed import last_boxed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{4}, no: \boxed{ 5 }.", "5"),
        (r"$\boxed{\frac{1}{\sqrt{2}}}$", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\text{a \} b}}", r"\text{a \} b}"),
        (r"\fbox{5}", "5"),
        (r"\boxed {5}", "5"),
        (r"\boxed{5} and \boxed{6", "5"),  # cut off inside the second
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{}", ""),
        ("5", None),
        (r"\boxed{5", None),
        ("boxed{5}", None),
    ],
)
def test_last_boxed(text, expected):
    assert last_boxed(text) == expected
