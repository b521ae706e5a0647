"""The labelled sentences: what is left out, and that no text is in two parts."""

from __future__ import annotations

import pytest

from lora.reproduce.data import CHINESE, ENGLISH, causes, labelled, normalise, split, unique


def test_texts_that_differ_in_case_spaces_and_punctuation_are_one():
    assert normalise("Good, good!") == normalise("good GOOD") == "goodgood"
    assert normalise("很好。 ") == normalise("很好！") == "很好"
    assert unique([("Good!", 1), ("good", 1), ("bad", 0)]) == {"good": ("Good!", 1), "bad": ("bad", 0)}


def test_a_text_with_two_labels_and_a_text_without_a_letter_are_left_out():
    assert unique([("so so", 1), ("So so.", 0), ("?!", 1), ("fine", 1)]) == {"fine": ("fine", 1)}


def test_the_hash_decides_the_part_whatever_the_order_and_the_rest():
    texts = {str(i): (f"text {i}", i % 2) for i in range(2000)}
    parts = split(texts)
    backwards = split(dict(reversed(texts.items())))
    assert parts == backwards
    some = split({key: texts[key] for key in list(texts)[::7]})
    for few, all_of_it in zip(some, parts, strict=True):
        assert set(few) <= set(all_of_it)
    assert [len(part) for part in parts] == pytest.approx([2000 * 13 / 16, 2000 / 16, 2000 * 2 / 16], rel=0.2)


@pytest.mark.parametrize(("language", "sizes"), [(ENGLISH, (8634, 629, 1340)), (CHINESE, (14035, 1113, 2153))])
def test_the_real_texts(language, sizes):
    parts = labelled(language)
    assert tuple(len(part) for part in parts) == sizes
    keys = [{normalise(text) for text, _ in part} for part in parts]
    assert sum(map(len, keys)) == len(set.union(*keys)) == sum(sizes)  # none twice, none in two parts
    for part in parts:
        assert 0.45 < sum(label for _, label in part) / len(part) < 0.55


def test_causes_of_a_mobile_core_network():
    gtp, pfcp = causes("GTPv2"), causes("PFCP")
    assert gtp[73] == "No resources available" and pfcp[73] == "Rule creation/modification Failure"
    assert len(gtp) == 80 and len(pfcp) == 16
