"""Reading pairs, tokenising them, and putting them into batches."""

from __future__ import annotations

import json

import pytest
from dpo_cases import PAIRS

from dpo import Encoded, Preference, collate, encode, read_preferences

tokenizers = pytest.importorskip("tokenizers", reason="the extra reproduce is not installed")
END = 3


def written(tmp_path, text: str | bytes):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def line(**fields) -> str:
    return json.dumps({"prompt": "p", "chosen": "good", "rejected": "bad"} | fields, ensure_ascii=False)


def test_json_lines_with_bad_ones(tmp_path):
    lines = [
        line(), "{not json", line(chosen=""), "", line(rejected="good"), line(prompt=7),
        '{"prompt": "p", "chosen": "c"}', "[1, 2]", line(chosen=None), line(prompt="a\u2028b 你好"),
        line(chosen="x", extra=1),
    ]  # fmt: skip
    kept, report = read_preferences(written(tmp_path, "\r\n".join(lines)))
    assert kept == [
        Preference("p", "good", "bad"),
        Preference("a\u2028b 你好", "good", "bad"),
        Preference("p", "x", "bad"),
    ]
    assert (report.kept, report.equal) == (3, (5,))
    assert list(report.bad) == [2, 3, 6, 7, 8, 9]
    assert "empty completion" in report.bad[3]
    assert report.bad[6] == "prompt must be text, got int"
    assert report.bad[7].endswith("got no rejected")
    assert report.bad[8] == "a pair must be an object, got list"


def test_a_line_that_is_not_utf_8(tmp_path):
    kept, report = read_preferences(
        written(tmp_path, b"\xef\xbb\xbf" + line().encode() + b"\n\xff\xfe\n" + line().encode())
    )
    assert len(kept) == 2
    assert list(report.bad) == [2]


def turn(who: str, value: str):
    return {"from": who, "value": value}


def test_llamafactorys_array(tmp_path):
    pair = {"conversations": [turn("human", "hi")], "chosen": turn("gpt", "yes"), "rejected": turn("gpt", "no")}
    items = [
        pair, pair | {"rejected": turn("gpt", "yes")}, pair | {"conversations": [turn("human", "a"), turn("gpt", "b"),
        turn("human", "c")]}, pair | {"conversations": []}, pair | {"chosen": "yes"}, pair | {"conversations": "hi"},
        pair | {"conversations": [turn("tool", "x")]}, 5, pair | {"chosen": turn("gpt", "")},
    ]  # fmt: skip
    path = written(tmp_path, json.dumps(items, indent=1))
    kept, report = read_preferences(path)
    assert kept == [Preference("hi", "yes", "no")]
    assert report.equal == (2,)
    assert list(report.bad) == [3, 4, 5, 6, 7, 8, 9]
    assert report.bad[3] == "conversations must be one message, or render must be given, got 3 messages"

    kept, report = read_preferences(path, lambda messages: "|".join(f"{m['role']}:{m['content']}" for m in messages))
    assert [p.prompt for p in kept] == ["user:hi", "user:a|assistant:b|user:c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "path must have at least one pair, got .* with 0 equal pairs and 0 bad lines"),
        ("x\ny", "0 equal pairs and 2 bad lines; the first bad one is 1: Expecting value"),
        (line(rejected="good"), "1 equal pairs and 0 bad lines"),
        ("[{]", "path must be JSON lines or a JSON array, got .*: Expecting property name"),
    ],
)
def test_files_without_a_pair(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_preferences(written(tmp_path, text))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("p", "", "b"), "chosen must have at least one character, got an empty completion"),
        (("p", "a", ""), "rejected must have at least one character"),
        (("p", "a", "a"), "rejected must differ from chosen, got the same text"),
        ((None, "a", "b"), "prompt must be text, got NoneType"),
        (("p", b"a", "b"), "chosen must be text, got bytes"),
    ],
)
def test_preference(fields, message):
    with pytest.raises(ValueError, match=message):
        Preference(*fields)


def bpe(start: bool = False):
    """Letters, and 'he' and 'th' as one token each: 'th' + 'e' is not 't' + 'he'."""
    names = ["<pad>", "<s>", "x", "</s>", *"abehlt ", "he", "th"]
    vocab = {name: i for i, name in enumerate(names)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [("h", "e"), ("t", "h")]))
    made.add_special_tokens(["<pad>", "<s>", "</s>"])
    if start:
        made.post_processor = tokenizers.processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 3)]
        )
    return made


def text(tokenizer, ids) -> str:
    return "".join(tokenizer.id_to_token(i) for i in ids)


def test_the_border_is_kept_and_the_end_added():
    made = encode(bpe(), Preference("a b", " the", " he"), end_id=END)
    assert [text(bpe(), part) for part in (made.prompt, made.chosen, made.rejected)] == ["a b", " the</s>", " he</s>"]
    assert not made.straddled


def test_a_token_that_would_straddle_the_border():
    """'t' + 'he' in one is 't', 'he'; but 'at' + 'h…' would join 'th' over the border."""
    made = encode(bpe(), Preference("at", "hal", "al"), end_id=END)
    assert bpe().encode("athal").tokens == ["a", "th", "a", "l"]
    assert made.straddled
    assert [text(bpe(), part) for part in (made.prompt, made.chosen, made.rejected)] == ["at", "hal</s>", "al</s>"]


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("prompt", ["a b", "<s>a b"])
def test_the_start_stands_once_and_the_end_once(start, prompt):
    made = encode(bpe(start), Preference(prompt, "the</s>", "he"), end_id=END)
    assert made.prompt.count(1) == (start or prompt.startswith("<s>"))
    assert made.chosen.count(END) == made.rejected.count(END) == 1
    assert made.chosen[-1] == made.rejected[-1] == END
    assert END not in made.prompt


def test_an_empty_prompt_needs_a_start():
    assert encode(bpe(True), Preference("", "a", "b"), end_id=END).prompt == (1,)
    with pytest.raises(ValueError, match="prompt must have at least one token, or the tokenizer a start token"):
        encode(bpe(), Preference("", "a", "b"), end_id=END)


@pytest.mark.parametrize("start", [False, True])
def test_truncation_cuts_the_prompts_start_alone(start):
    pair = Preference("abab", "al", "b")
    for max_length in range(1, 12):
        if max_length < 4:  # the longer answer is three tokens, and one has to go before it
            with pytest.raises(
                ValueError, match=f"max_length must have place for .*, got {max_length} for an answer of 3"
            ):
                encode(bpe(start), pair, max_length, end_id=END)
            continue
        made = encode(bpe(start), pair, max_length, end_id=END)
        assert [text(bpe(), part) for part in (made.chosen, made.rejected)] == ["al</s>", "b</s>"]
        assert len(made.prompt) + 3 == min(max_length, 7 + start)
        assert made.truncated == max(0, 7 + start - max_length)
        assert text(bpe(), made.prompt).endswith("abab"[made.truncated :])
        assert (made.prompt[0] == 1) == start


def test_a_tokenizer_of_transformers():
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe(True), eos_token="</s>", bos_token="<s>")
    assert encode(fast, Preference("at", "hal", "al")) == encode(bpe(True), Preference("at", "hal", "al"), end_id=END)


@pytest.mark.parametrize("end_id", [None, True, 3.0, -1, "</s>"])
def test_no_end(end_id):
    with pytest.raises(ValueError, match=f"end_id must be the token that ends an answer, got {end_id!r}"):
        encode(bpe(), Preference("a", "b", "l"), end_id=end_id)


def test_an_answer_without_tokens():
    """Letters that the vocabulary does not have."""
    with pytest.raises(ValueError, match="rejected must have at least one token, got none for 'ZZ'"):
        encode(bpe(), Preference("a", "b", "ZZ"), end_id=END)


@pytest.mark.parametrize("side", ["right", "left"])
def test_batches(side):
    batch = collate(PAIRS, 9, side)
    assert batch.ids.shape == batch.padding_mask.shape == batch.mask.shape == (6, 6)
    for i, (prompt, answer) in enumerate(
        [(p.prompt, p.chosen) for p in PAIRS] + [(p.prompt, p.rejected) for p in PAIRS]
    ):
        real = batch.padding_mask[i]
        assert tuple(batch.ids[i][real].tolist()) == prompt + answer
        assert tuple(batch.ids[i][batch.mask[i]].tolist()) == answer
        assert real[0 if side == "right" else -1]
        assert (batch.ids[i][~real] == 9).all()
    assert batch.to("cpu").keys() == batch.keys() == collate(PAIRS, 0, "right").keys()
    assert len(set(batch.keys())) == 6


def test_an_end_token_as_padding_does_not_end_the_answer_early():
    batch = collate([Encoded((1, 2), (5, 0), (6, 7, 8, 0))], 0)
    assert batch.mask.sum(-1).tolist() == [2, 4]
    assert batch.padding_mask.sum(-1).tolist() == [4, 6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 0), "encoded must have at least one pair, got none"),
        ((PAIRS, None), "pad_id must be a whole number of at least 0, got None"),
        ((PAIRS, -100), "pad_id must be a whole number of at least 0, got -100"),
        ((PAIRS, 0, "both"), "side must be 'right' or 'left', got 'both'"),
    ],
)
def test_bad_batches(arguments, message):
    with pytest.raises(ValueError, match=message):
        collate(*arguments)
