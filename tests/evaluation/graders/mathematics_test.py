import pytest

from lora_jax.evaluation.graders.mathematics import agrees


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (r"\dfrac12", r"\frac{1}{2}"),
        ("0.5", r"\frac{1}{2}"),
        ("3/4", r"\frac{3}{4}"),
        (r"\frac{-1}{2}", r"-\frac{1}{2}"),
        (r"1\frac{1}{2}", r"\frac{3}{2}"),  # a mixed number
        ("90", r"90^\circ"),
        (r"90\text{ degrees}", "90"),
        (r"5\text{ cm}^2", "5"),
        (r"\text{Evelyn}", "Evelyn"),
        (r"\text{(C)}", "C"),
        (r"50\%", "50"),
        (r"\$18.90", "18.90"),
        ("1{,}319", "1,319"),
        ("10000", r"10\,000"),
        ("x=5", "5"),
        ("y = 3 + 2x", "y=2x+3"),
        (r"\sqrt{12}", r"2\sqrt{3}"),
        (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt2}{2}"),
        ("\u22123", "-3"),
        (r"\left(1,\,2\right)", "(1, 2)"),
        (r"\{3,2,1\}", r"\{1,2,3\}"),
        (r"[3,4]\cup[1,2]", r"[1,2]\cup[3,4]"),
        ("[0, 1)", "[0,1)"),
        (r"(-\infty, 3]", r"(-\infty,3]"),
        ("2,1", "1,2"),
        (r"3+\sqrt{2},3-\sqrt{2}", r"3\pm\sqrt{2}"),
        (r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        ("(x-1)(x+1)", "x^2-1"),
        ("9i+6", "6+9i"),
        ("1024", "2^{10}"),
    ],
)
def test_equal_expressions_in_many_forms(found, expected):
    assert agrees(f"Hence $\\boxed{{{found}}}$.", expected)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("(2,1)", "(1,2)"),
        ("[0,1]", "[0,1)"),
        (r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        (r"\frac{1}{2}", r"1\frac{1}{2}"),
        ("3", "-3"),
        ("1.41", r"\sqrt{2}"),
        ("0.33", r"\frac{1}{3}"),
        ("x=6", "x=5"),
        (r"\{1,2,3\}", r"\{1,2\}"),
        (r"5\text{ or }6", "5"),
        (r"\text{Carla}", r"\text{Evelyn}"),
        ("q - p", "p - q"),
        ("", "5"),
        (r"\frac{", "5"),
    ],
)
def test_unequal_expressions(found, expected):
    assert not agrees(f"Hence $\\boxed{{{found}}}$.", expected)


def test_the_last_box_counts():
    assert agrees(r"\boxed{4}, or rather \boxed{5}", "5")
    assert not agrees(r"\boxed{5}, or rather \boxed{4}", "5")


def test_without_a_box_the_answer_is_looked_for():
    assert agrees("The final answer is $5$.", "5")
    assert not agrees("The final answer is $6$.", "5")
    assert not agrees("I give up.", "5")
    assert not agrees("", "5")
