import pytest

from lora_jax.evaluation.graders.choice import chosen_letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{C}", "C"),
        (r"\boxed{\text{C}}", "C"),
        (r"\boxed{\text{(C)}}", "C"),
        (r"\boxed{\mathbf{C}.}", "C"),
        (r"\boxed{C. 12 eV}", "C"),
        (r"\boxed{C) A long text about B}", "C"),
        (r"The answer is B. \boxed{C}", "C"),  # the box comes before words
        (r"\boxed{12 eV}, so the answer is C", "C"),  # a box without a letter does not
        ("The answer is C.", "C"),
        ("The correct answer is (C).", "C"),
        ("**Answer:** C", "C"),
        ("**Answer: (C)** because of A", "C"),
        ("Answer is option C", "C"),
        ("Not option A, so the right choice would be **C**", "C"),
        ("The answer is C, since option A fails.", "C"),
        ("The best option is C; (A) is not.", "C"),
        ("The answer is A? No, the answer is C", "C"),
        ("So (A) fails, (C) holds.", "C"),
        ("We compare.\n\n**C**", "C"),
        ("We compare A and B.\nC.", "C"),
    ],
)
def test_ladder_finds_the_letter(text, letter):
    assert chosen_letter(text) == letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A dog is no cat.",
        "The answer is a dog.",
        "The answer is A dog.",
        "The answer is Boron.",
        r"\boxed{Boron}",
        "The answer is E.",
    ],
)
def test_no_letter_is_no_choice(text):
    assert chosen_letter(text) is None
