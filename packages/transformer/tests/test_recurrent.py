"""The recurrent baseline: it sees no padding and no future, decodes step by step as at once, and learns everywhere."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from transformer.config import TransformerConfig
from transformer.decoding import greedy_search
from transformer.reproduce.data.tokens import BOS, EOS, PAD
from transformer.reproduce.models import Recurrent

VOCAB, D_MODEL = 20, 8


def made(dropout=0.0):
    torch.manual_seed(0)
    config = TransformerConfig(vocab_size=VOCAB, d_model=D_MODEL, n_heads=2, dropout=dropout)
    return Recurrent(config, encoder=6, decoder=10)


def some_tokens(*shape):
    return torch.randint(3, VOCAB, shape)


@pytest.fixture
def batch(seed):
    """Sources of 5, 3 and 1 tokens, targets of 4, 4 and 2."""
    src, tgt = some_tokens(3, 5), some_tokens(3, 4)
    src[1, 3:] = src[2, 1:] = PAD
    tgt[2, 2:] = PAD
    return src, tgt


def logits(model, src, tgt):
    return model.project(model.decode(tgt, *model.encode(src)))


def test_shapes(batch):
    model, (src, tgt) = made(), batch
    memory, mask = model.encode(src)
    assert memory.shape == (3, 5, 12) and mask.shape == (3, 1, 5) and mask[:, 0].equal(src != PAD)
    assert model.decode(tgt, memory, mask).shape == (3, 4, D_MODEL)
    assert logits(model, src, tgt).shape == (3, 4, VOCAB)


def test_padding_changes_nothing(batch):
    """A row among others, and longer padding, is the row alone."""
    model, (src, tgt) = made(), batch
    together = logits(model, F.pad(src, (0, 4)), F.pad(tgt, (0, 2)))
    for row in range(3):
        s, t = (x[row][x[row] != PAD][None] for x in (src, tgt))
        torch.testing.assert_close(together[row, : t.shape[1]], logits(model, s, t)[0])


def test_nothing_looks_at_later_targets(batch):
    model, (src, tgt) = made(), batch
    later = tgt.clone()
    later[:, 2:] = 7
    torch.testing.assert_close(logits(model, src, later)[:, :2], logits(model, src, tgt)[:, :2])
    assert not torch.allclose(logits(model, src, later)[:, 2:], logits(model, src, tgt)[:, 2:])


def test_both_ends_of_the_source_are_looked_at():
    model, src, tgt = made(), some_tokens(1, 6), some_tokens(1, 2)
    for place in (0, 5):
        other = src.clone()
        other[0, place] = 3 + (int(src[0, place]) - 2) % (VOCAB - 3)
        assert not torch.allclose(logits(model, other, tgt), logits(model, src, tgt))


def test_step_by_step_is_decoding_at_once(batch):
    model, (src, tgt) = made().eval(), batch
    state = model.start(src)
    stepped = torch.stack([model.step(tokens, state) for tokens in tgt.unbind(1)], 1)
    torch.testing.assert_close(stepped, logits(model, src, tgt))


def test_greedy_search_takes_the_likeliest_token(batch):
    model, (src, _) = made().eval(), batch
    found = greedy_search(model, src, bos=BOS, eos=EOS, extra=3)
    for row, tokens in zip(src, found, strict=True):
        source = row[row != PAD][None]
        ended = len(tokens) < source.shape[1] + 3
        said = [*tokens, EOS] if ended else tokens
        with torch.no_grad():
            expected = logits(model, source, torch.tensor([[BOS, *said[:-1]]]))[0]
        expected[:, [PAD, BOS]] = -torch.inf
        assert expected.argmax(-1).tolist() == said


def test_greedy_search_without_the_cache_finds_the_same(batch):
    model, (src, _) = made().eval(), batch
    cached, uncached = (greedy_search(model, src, bos=BOS, eos=EOS, extra=3, cache=cache) for cache in (True, False))
    assert cached == uncached


def test_gradient_flows_to_every_parameter(batch):
    model, (src, tgt) = made(), batch
    F.cross_entropy(logits(model, src, tgt[:, :1]).flatten(0, 1), tgt[:, 1]).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_dropout_is_on_in_training_alone(batch):
    model = made(dropout=0.5)
    assert not logits(model, *batch).equal(logits(model, *batch))
    model.eval()
    assert logits(model, *batch).equal(logits(model, *batch))


def test_it_learns_to_copy():
    """The decoder alone, which has not seen the source, cannot do better than log 5 = 1.6."""
    torch.manual_seed(0)
    config = TransformerConfig(vocab_size=8, d_model=16, n_heads=2, dropout=0.0)
    model = Recurrent(config, encoder=16, decoder=32)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(50):
        src = torch.randint(3, 8, (16, 2))
        tgt = torch.cat([torch.full((16, 1), BOS), src], 1)
        loss = F.cross_entropy(logits(model, src, tgt[:, :-1]).flatten(0, 1), src.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.8
