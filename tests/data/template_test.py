import pytest

from lora_jax.data import template
from lora_jax.data.conversation import Turn
from lora_jax.data.template import end_of_turn, render, turn_ending
from lora_jax.errors import UserError

TURNS = [Turn("user", "Hi?")]


def test_rendering_is_the_librarys_own(family):
    for name in ("qwen2.5", "qwen3", "llama3"):
        tokenizer = family(name)
        for generation_prompt in (False, True):
            expected = tokenizer.apply_chat_template(
                [{"role": "user", "content": "Hi?"}],
                tokenize=False,
                add_generation_prompt=generation_prompt,
                date_string=template.DATE,
            )
            assert render(tokenizer, TURNS, generation_prompt=generation_prompt) == expected


def test_the_date_is_the_same_every_day_and_can_be_set(family, make_tokenizer):
    def text(tokenizer, **options):
        return render(tokenizer, TURNS, generation_prompt=True, **options)

    assert "Today Date: 26 Jul 2024<" in text(family("llama3"))
    assert "Today Date: 01 Feb 2023<" in text(family("llama3"), date="01 Feb 2023")
    clock = make_tokenizer()
    clock.chat_template = "{{ strftime_now('%Y-%m-%d') }}"
    assert text(clock) == "2024-07-26"
    assert text(clock, date="01 Feb 2023") == "2023-02-01"
    with pytest.raises(UserError, match="'today'; write it as in '26 Jul 2024'"):
        text(clock, date="today")


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("qwen2.5", "<|im_end|>"),
        ("qwen3", "<|im_end|>"),
        # Their tokenisers call another token the end of the sequence.
        ("qwen2.5 base", "<|im_end|>"),
        ("llama3", "<|eot_id|>"),
    ],
)
def test_a_turn_ends_as_the_template_renders_it(family, name, ending):
    tokenizer = family(name)
    assert turn_ending(tokenizer) == ending
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids(ending)


@pytest.mark.parametrize(
    "chat_template",
    [
        None,
        "{{ messages[0].content }}",
        "{% for m in messages %}{{ m.content + '\\n' }}{% endfor %}",
    ],
)
def test_without_a_rendered_end_it_is_that_of_the_tokenizer(make_tokenizer, chat_template):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = chat_template
    assert (turn_ending(tokenizer), end_of_turn(tokenizer)) == ("<eos>", tokenizer.eos_token_id)


def test_what_stands_before_the_end_belongs_to_it(make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + ' <eos>\\n' }}{% endfor %}"
    assert turn_ending(tokenizer) == " <eos>"


@pytest.mark.parametrize(
    ("chat_template", "complaint"),
    [
        (None, "has no chat template"),
        ("{{ raise_exception('no user turns.') }}", r"turns user \(no user turns\)"),
        ("{% for %}", "cannot be rendered"),
        ("{{ messages[0].content + 3 }}", "cannot be rendered"),
        ("{{ missing.field }}", "cannot be rendered"),
    ],
)
def test_templates_that_fail_are_one_sentence(make_tokenizer, chat_template, complaint):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = chat_template
    with pytest.raises(UserError, match=complaint) as caught:
        render(tokenizer, TURNS, generation_prompt=True)
    assert "\n" not in str(caught.value)
