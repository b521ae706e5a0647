"""Controlled sentiment: the text, the true reward, the pairs on disk, and the frontier's envelope."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentiment_runs import run_of
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from dpo.reproduce import pairs, prepared, sentiment
from dpo.reproduce.pairs import PAIRS_BATCH, Pairs, batches, padding_mask
from dpo.reproduce.sampling import best
from dpo.reproduce.sentiment import ANSWER, END, LENGTH, PIECES, PROMPT, answer_mask
from dpo.reproduce.trend.hull import advantage, at, hull

# ------------------------------------------------------------------------------------- the text


def test_no_held_out_sentence_is_trained_on():
    parts = [set(sentiment.sentences(part)) for part in ("train", "test")]
    assert not parts[0] & parts[1] and min(map(len, parts)) > 2000 and "" not in parts[0] | parts[1]


def test_rows_hold_the_sentences():
    rows = sentiment.rows("test")
    assert rows.shape[1] == LENGTH + 1
    ids = sentiment.vocabulary().encode(sentiment.sentences("test")[0]).ids
    joined = [piece for row in rows[:10].tolist() for piece in row[:LENGTH]]
    assert joined[: len(ids)] == ids and joined[len(ids)] == END


def test_prompts_are_starts_of_held_out_reviews():
    prompts, reviews = sentiment.prompts("test"), sentiment.sentences("test", sentiment.REVIEWS)
    assert prompts.shape[1] == PROMPT and len(prompts.unique(dim=0)) == len(prompts) > 500
    begun = {tuple(ids[:PROMPT]) for ids in sentiment.encoded(reviews)}
    assert set(map(tuple, prompts.tolist())) <= begun


def rows_of(*answers):
    prompt = sentiment.vocabulary().encode("this movie is").ids[:PROMPT]
    found = [ids[:ANSWER] for ids in sentiment.encoded(answers)]
    return torch.tensor([prompt + ids + [END] * (ANSWER - len(ids)) for ids in found])


def test_the_answer_is_from_the_prompt_to_the_end():
    ids = rows_of("good", "so very good and long that it never ends, as a sentence of a critic who is paid by words")
    mask = answer_mask(ids)
    assert not mask[:, :PROMPT].any() and mask[1, PROMPT:].all()
    length = len(sentiment.encoded(["good"])[0])
    assert mask[0, PROMPT:].tolist() == [True] * (length + 1) + [False] * (ANSWER - length - 1)
    assert (padding_mask(ids) == (mask | (torch.arange(LENGTH) < PROMPT))).all()


def test_the_reward_is_vaders_score_of_the_answer_alone():
    texts = ["a great, great film", "a terrible mess", "a film"]
    ids = rows_of(*texts)
    ids[2, :PROMPT] = torch.tensor(sentiment.encoded(["wonderful love joy"])[0][:PROMPT])
    assert sentiment.texts(ids) == texts
    expected = [SentimentIntensityAnalyzer().polarity_scores(text)["compound"] for text in texts]
    assert sentiment.rewards(ids).tolist() == pytest.approx(expected)
    assert expected[0] > 0 > expected[1] and expected[2] == 0


# ------------------------------------------------------------------------------------- the pairs


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another cache, and less to make."""
    for part in ("train", "test"):
        sentiment.rows(part), sentiment.prompts(part)
    monkeypatch.setattr(prepared.carriers, "cache", lambda: tmp_path)
    monkeypatch.setattr(prepared, "QUICK", 400)
    monkeypatch.setattr(pairs, "SAMPLES", 64)
    return tmp_path


def test_pairs_are_kept_with_their_scores(elsewhere, monkeypatch):
    first = prepared.prepared(run_of(1))
    monkeypatch.setattr(prepared, "_make", None)
    again = prepared.prepared(run_of(1))
    assert len(first.train) == prepared.TRAIN // 400 and 0 < first.ties < 1
    for one, other in ((first.train, again.train), (first.held_out, again.held_out)):
        assert torch.equal(one.chosen, other.chosen) and torch.equal(one.rejected_scores, other.rejected_scores)
    kept = again.train
    assert torch.equal(sentiment.rewards(kept.chosen), kept.chosen_scores)
    assert torch.equal(sentiment.rewards(kept.rejected), kept.rejected_scores)
    assert (kept.chosen_scores > kept.rejected_scores).all()
    assert torch.equal(kept.chosen[:, :PROMPT], kept.rejected[:, :PROMPT])
    assert torch.allclose(again.train_logps, pairs.pair_logps(again.reference, kept), atol=1e-5)
    assert torch.equal(first.rivals, again.rivals) and len(again.rivals) == 64
    (folder,) = (path for path in elsewhere.iterdir() if path.is_dir())
    line = json.loads((folder / "train.jsonl").read_text("utf-8").splitlines()[3])
    assert [line["chosen"]] == sentiment.texts(kept.chosen[3:4])
    assert [line["prompt"]] == sentiment.texts(kept.chosen[3:4, :PROMPT], 0)
    assert line["scores"] == [sentiment.score(line["chosen"]), sentiment.score(line["rejected"])]


def test_what_is_interrupted_leaves_nothing(elsewhere, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepared, "save_file", stop)
        with pytest.raises(KeyboardInterrupt):
            prepared.prepared(run_of(2))
    assert not [path for path in elsewhere.iterdir() if path.is_dir()]
    assert len(prepared.prepared(run_of(2)).train) == prepared.TRAIN // 400


def test_a_seed_has_its_own_reference_and_pairs(elsewhere):
    one, other = (prepared.prepared(run_of(seed)) for seed in (3, 4))
    assert not torch.equal(one.train.chosen, other.train.chosen)
    states = [next(x.reference.parameters()) for x in (one, other)]
    assert not torch.equal(*states)


def test_held_out_pairs_have_held_out_prompts(elsewhere):
    found = prepared.prepared(run_of(1))
    for kept, part in ((found.train, "train"), (found.held_out, "test")):
        assert {*map(tuple, kept.chosen[:, :PROMPT].tolist())} <= {*map(tuple, sentiment.prompts(part).tolist())}


def test_each_pair_comes_once_before_any_comes_again():
    count, steps = 3 * PAIRS_BATCH, 6
    seen = torch.cat(list(batches(count, steps, torch.Generator().manual_seed(0))))
    for part in seen.split(count):
        assert sorted(part.tolist()) == list(range(count))
    assert not torch.equal(*seen.split(count))
    assert len(list(batches(10, 4, torch.Generator()))) == 4


def test_the_first_pairs():
    kept = Pairs(*(torch.arange(20).view(10, 2) for _ in range(2)), *(torch.arange(10.0) for _ in range(2)))
    assert len(kept.first(3)) == 3 and kept.first(3).chosen_scores.tolist() == [0, 1, 2]


# ------------------------------------------------------------------------------------- best of N, and envelopes


def test_the_best_of_each_group_by_the_judge_is_worth_its_true_reward():
    scores, truth = torch.tensor([[1.0, 4, 2, 3]]), torch.tensor([[10.0, 20, 30, 50]])
    assert best(scores, truth, 1)["reward"] == truth.mean().item()
    assert best(scores, truth, 2)["reward"] == (20 + 50) / 2 and best(scores, truth, 4)["reward"] == 20
    assert best(scores, truth, 4)["score"] == pytest.approx((4 - 2.5) / scores.std().item())


coordinates = st.tuples(st.floats(0.01, 20), st.floats(-1, 1))


@given(st.lists(coordinates, min_size=1, max_size=12))
def test_the_envelope_is_above_all_checkpoints_concave_and_rising(found):
    start = (0.0, -0.5)
    envelope = hull(found, start)
    assert envelope[0] == start and set(envelope) <= {start, *found}
    assert all(at(envelope, kl) >= reward - 1e-9 for kl, reward in found)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(envelope)]
    assert all(slope > 0 for slope in slopes) and all(b <= a for a, b in pairwise(slopes))


def test_a_frontiers_advantage():
    ours, theirs = [(2.0, 1.0)], [(4.0, 1.0), (1.0, 0.0)]
    found = advantage(ours, theirs, (0.0, 0.0))
    assert found["reach"] == 2 and found["above"] == 1
    assert found["mean"] == pytest.approx(0.25, abs=0.01)  # x / 2 less x / 4, from 0 to 2
    assert advantage(theirs, ours, (0.0, 0.0))["mean"] == -found["mean"]


def test_the_vocabulary_is_as_large_as_the_models():
    assert sentiment.vocabulary().get_vocab_size() == PIECES and sentiment.vocabulary().id_to_token(END) == "</s>"
