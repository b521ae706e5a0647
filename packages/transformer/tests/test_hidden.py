"""What is hidden or padded has no influence, at whichever side; fast and plain paths agree; half precision."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer import LabelSmoothing, MultiHeadAttention, Transformer, TransformerConfig, beam_search, greedy_search
from transformer.attention import attention, causal_mask

BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
FUSED = pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
close = {"rtol": 1e-11, "atol": 1e-12}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads(fused, **options):
    torch.manual_seed(0)
    return MultiHeadAttention(12, 3, fused=fused, **options).double()


def small(**changes):
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**({"vocab_size": 23, "n_layers": 2, "d_model": 8, "d_ff": 8, "n_heads": 2}
                                             | changes)))  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.double().eval()


# --------------------------------------------------------------------------------- behind a mask


@BAD
@FUSED
@pytest.mark.parametrize("where", [slice(0, 3), slice(5, 8), slice(3, 5)], ids=["left", "right", "middle"])
@pytest.mark.parametrize("cached", [False, True])
def test_padding(fused, bad, where, cached):
    """Nor on any gradient, that of W_K and W_V included."""
    module, x, memory = heads(fused), random(2, 4, 12), random(2, 8, 12, seed=1)
    mask = torch.ones(2, 1, 1, 8, dtype=torch.bool)
    mask[..., where] = False
    results = []
    for value in (0.3, bad):
        leaf = memory.clone()
        leaf[:, where] = value
        leaf.requires_grad_()
        out = module(x, module.keys_values(leaf) if cached else leaf, mask)
        found = torch.autograd.grad(
            out.square().sum(), [leaf, module.W_Q.weight] if cached else [leaf, *module.parameters()]
        )
        results.append([out.detach(), *found[cached:]])  # through the cache, zero times NaN is memory's own affair
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@BAD
@FUSED
@pytest.mark.parametrize("way", ["causal", "last two on a cache", "mask"])
def test_a_later_position_reaches_who_sees_it_and_no_other(fused, bad, way):
    module, x = heads(fused), random(2, 6, 12)
    changed = x.clone()
    changed[0, 4, 1] = bad

    def run(x):
        if way == "mask":
            return module(x, x, causal_mask(6)[None, None])
        return module(x, x, causal=True) if way == "causal" else module(x[:, 3:], module.keys_values(x), causal=True)

    wanted, out = run(x), run(changed)
    rows = 4 if way != "last two on a cache" else 1
    assert torch.equal(out[0, :rows], wanted[0, :rows])
    assert torch.equal(out[1], wanted[1])
    assert out[0, rows:].isnan().all()


@BAD
def test_equation_1_alone(bad):
    q, k, v = (random(1, 2, 5, 3, seed=i) for i in range(3))
    wanted = attention(q, k, v, causal_mask(5))[0]
    k[0, 0, 3], v[0, 0, 3] = bad, bad
    out = attention(q, k, v, causal_mask(5))[0]
    assert torch.equal(out[:, :, :3], wanted[:, :, :3])
    assert torch.equal(out[:, 1], wanted[:, 1])
    assert out[0, 0, 3:].isnan().all()


@FUSED
def test_a_query_that_may_look_nowhere_finds_zeros(fused):
    module, x = heads(fused), random(1, 3, 12).requires_grad_()
    mask = torch.tensor([[[[True, False, True], [False] * 3, [False, True, False]]]])
    out = module(x, x, mask)
    assert (out[0, 1] == 0).all()
    gradients = torch.autograd.grad(out.square().sum(), [x, *module.parameters()])
    assert all(g.isfinite().all() for g in gradients)
    assert (module.weights(x, x, mask)[0, :, 1] == 0).all()


# --------------------------------------------------------------------------------- fast and plain


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_fused_and_plain_agree_or_refuse_alike(data):
    batch, n_q, n_k = (data.draw(st.integers(1, n)) for n in (2, 5, 5))
    d_k, d_v = data.draw(st.sampled_from([(None, None), (2, 7)]))
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
    x, memory = (
        random(batch, n_q, 12).to(dtype),
        random(data.draw(st.sampled_from([batch, batch, 3])), n_k, 12).to(dtype),
    )
    kind = data.draw(st.sampled_from(["none", "causal", "bool", "float", "int", "2-D"]))
    mask = None
    if kind not in ("none", "causal"):
        shape = data.draw(
            st.sampled_from([(batch, 1, 1, n_k), (1, 1, n_q, n_k), (batch, 3, n_q, n_k), (1, 1, 1, n_k + 1)])
        )
        shape = (n_q, n_k) if kind == "2-D" else shape
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 9)))) < 0.6
        mask = mask.to(dtype if kind == "float" else torch.int64) if kind in ("float", "int") else mask
    cached, results = data.draw(st.booleans()), []
    for fused in (False, True):
        module = heads(fused, d_k=d_k, d_v=d_v).to(dtype)
        try:
            results.append(module(x, module.keys_values(memory) if cached else memory, mask, causal=kind == "causal"))
        except ValueError as error:
            results.append(str(error))
    if isinstance(results[0], str):
        assert results[0] == results[1]
    else:
        tolerance = {torch.float64: 1e-11, torch.float32: 1e-5}.get(dtype, 3e-2)
        torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)


@FUSED
def test_causal_with_a_cache_is_the_end_of_the_whole(fused):
    module, x = heads(fused), random(2, 5, 12)
    for n in (1, 2, 5):
        whole = module(x, x, causal=True)[:, -n:]
        torch.testing.assert_close(module(x[:, -n:], module.keys_values(x), causal=True), whole, **close)
    with pytest.raises(
        ValueError, match=r"^causal needs a position of memory for each of x, got 5 of x and 4 of memory$"
    ):
        module(x, x[:, :4], causal=True)


# --------------------------------------------------------------------------------- padded tokens


@st.composite
def padded(draw):
    """Sources without padding, and the same tokens with it anywhere."""
    tokens = draw(st.lists(st.integers(1, 22), min_size=1, max_size=5))
    row = tokens.copy()
    for at in draw(st.lists(st.integers(0, 5), max_size=4)):
        row.insert(at, 0)
    return torch.tensor([tokens]), torch.tensor([row])


MODELS = [
    small(fused=fused, **changes)
    for fused in (False, True)
    for changes in ({}, {"positions": "learned", "max_len": 9, "norm": "pre"})
]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(padded(), st.sampled_from(MODELS), st.integers(0, 3))
def test_a_padded_source_is_the_unpadded_one(sources, model, after):
    plain, source = sources
    tgt = torch.tensor([[1, 7, 3]])
    torch.testing.assert_close(model(source, F.pad(tgt, (0, after)))[:, :3], model(plain, tgt), **close)
    for search in (greedy_search, beam_search):
        assert search(model, source, bos=1, eos=2, extra=2) == search(model, plain, bos=1, eos=2, extra=2)


@FUSED
def test_a_padding_row_of_nan_in_the_table_changes_nothing(fused):
    model, src = small(fused=fused), torch.tensor([[0, 5, 3, 0], [4, 2, 2, 7]])
    wanted = (
        model(src, torch.tensor([[1, 3], [1, 4]])),
        *(f(model, src, bos=1, eos=2) for f in (greedy_search, beam_search)),
    )
    with torch.no_grad():
        model.tokens.weight[0] = math.nan
    torch.testing.assert_close(model(src, torch.tensor([[1, 3], [1, 4]]))[..., 1:], wanted[0][..., 1:], rtol=0, atol=0)
    for f, found in zip((greedy_search, beam_search), wanted[1:], strict=True):
        assert f(model, src, bos=1, eos=2) == found


# --------------------------------------------------------------------------------- half precision, NaN in a search


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_loss_of_half_precision_is_computed_in_float32(smoothing, dtype):
    logits, targets = (4 * random(40, 1000)).to(dtype), torch.arange(1, 41)
    loss = LabelSmoothing(smoothing)(logits, targets)
    assert loss.dtype == torch.float32
    exact = F.cross_entropy(logits.double(), targets, label_smoothing=smoothing)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(LabelSmoothing(smoothing)(logits, targets), loss)


def test_a_logit_of_minus_infinity():
    logits, target = torch.tensor([[0.0, -math.inf, 1.0]]).requires_grad_(), torch.tensor([2])
    loss = LabelSmoothing(0.0, pad=None)(logits, target)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))
    (gradient,) = torch.autograd.grad(loss, logits)
    theirs = torch.autograd.grad(F.cross_entropy(logits, target), logits)[0]
    torch.testing.assert_close(gradient, theirs)
    for smoothing, wrong in ((0.1, 2), (0.0, 1)):  # what is asked for is impossible
        assert LabelSmoothing(smoothing, pad=None)(logits, torch.tensor([wrong])).item() == math.inf


def test_float16_where_the_scaled_score_fits():
    q = torch.full((1, 1, 4, 64), 80.0, dtype=torch.float16)  # 409600 before the division by 8, 51200 after it
    out, weights = attention(q, q, torch.ones_like(q))
    assert out.dtype == torch.float16
    assert (out == 1).all()
    assert (weights == 0.25).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_scores_of_a_search_are_summed_in_float32(dtype, monkeypatch):
    """The same logits, halves as they are, give the tokens that they give in float64."""
    model, src = small().to(dtype), torch.tensor([[5, 3, 7, 9], [4, 2, 8, 0]])
    found = beam_search(model, src, bos=1, eos=2, extra=6, cache=False)
    project = Transformer.project
    monkeypatch.setattr(Transformer, "project", lambda self, y: project(self, y).double())
    assert beam_search(model, src, bos=1, eos=2, extra=6, cache=False) == found
    monkeypatch.setattr(Transformer, "project", project)
    dtypes = set()
    topk = torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda self, n: dtypes.add(self.dtype) or topk(self, n))
    beam_search(model, src, bos=1, eos=2, extra=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        beam_search(small().float(), src, bos=1, eos=2, extra=2)
    assert dtypes == {torch.float32}


@pytest.mark.parametrize("search", [greedy_search, beam_search])
@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no cache"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_model_of_nan_is_refused(search, cache, bad):
    model, src = small(), torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
    with torch.no_grad():
        model.encoder[0].feed_forward.W_1.weight[0, 0] = bad
    with pytest.raises(ValueError, match=r"^model must give numbers, and gives NaN for token 1 after row 0 of src$"):
        search(model, src, bos=1, eos=2, cache=cache)


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_nan_after_a_rows_end_is_nobodys(search):
    """The row of eos in the table is NaN as an input alone: no hypothesis that goes on has read it."""
    model, src = small(), torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
    wanted = search(model, src, bos=1, eos=2, extra=9)
    embed = model.tokens.forward
    model.tokens.forward = lambda ids: embed(ids).masked_fill((ids == 2)[..., None], math.nan)
    assert search(model, src, bos=1, eos=2, extra=9) == wanted
