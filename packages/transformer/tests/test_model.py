"""The model: against torch's own layers, what sees what, its parameters, positions, dropout and attention maps."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from transformer import Transformer, TransformerConfig, sinusoidal_encoding
from transformer.attention import causal_mask
from transformer.model import DecoderLayer, EncoderLayer, FeedForward
from transformer.positions import frequencies

exactly = {"rtol": 1e-11, "atol": 1e-12}
CASES: dict[str, dict[str, Any]] = {
    "post-norm": {},
    "pre-norm": {"norm": "pre"},
    "learned": {"positions": "learned", "max_len": 16},
    "odd sizes": {"n_heads": 3, "d_k": 5, "d_v": 7},
    "fused": {"fused": True},
}
cases = pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())


def small(**changes: Any) -> Transformer:
    """A model in float64 whose biases and norms are not at their start of 0 and 1, in evaluation."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 23, "n_layers": 2, "d_model": 12, "d_ff": 20, "n_heads": 2}
    model = Transformer(TransformerConfig(**(sizes | changes))).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    """None of them padding."""
    return torch.randint(1, 23, (rows, length), generator=torch.Generator().manual_seed(seed))


def padded(row: Tensor, length: int) -> Tensor:
    return nn.functional.pad(row, (0, length - row.shape[-1]))


@contextmanager
def embedded(model: Transformer) -> Iterator[list[Tensor]]:
    """The inputs of the first encoder layer and the first decoder layer, as leaves that get gradients."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        found.append(args[0].detach().requires_grad_())
        return found[-1], *args[1:]

    hooks = [stack[0].register_forward_pre_hook(keep) for stack in (model.encoder, model.decoder)]
    yield found
    for hook in hooks:
        hook.remove()


def torchs(ours: EncoderLayer | DecoderLayer, norm: str) -> nn.TransformerEncoderLayer | nn.TransformerDecoderLayer:
    """torch's layer with our weights and, in the attention, biases of zero."""
    kind = nn.TransformerDecoderLayer if isinstance(ours, DecoderLayer) else nn.TransformerEncoderLayer
    layer = kind(12, 2, 20, 0.0, batch_first=True, norm_first=norm == "pre").double().eval()
    state = dict.fromkeys(layer.state_dict(), torch.zeros(()))
    pairs = [("self_attn", ours.self_attention)]
    pairs += [("multihead_attn", ours.encoder_attention)] if isinstance(ours, DecoderLayer) else []
    for name, attention in pairs:
        state[f"{name}.in_proj_weight"] = torch.cat([W.weight for W in (attention.W_Q, attention.W_K, attention.W_V)])
        state[f"{name}.in_proj_bias"] = torch.zeros(36)
        state[f"{name}.out_proj.weight"], state[f"{name}.out_proj.bias"] = attention.W_O.weight, torch.zeros(12)
    modules = {"linear1": ours.feed_forward.W_1, "linear2": ours.feed_forward.W_2}
    modules |= {f"norm{i}": residual.norm for i, residual in enumerate(ours.residuals, 1)}
    for name, module in modules.items():
        state[f"{name}.weight"], state[f"{name}.bias"] = module.weight, module.bias
    layer.load_state_dict(state)
    return layer


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("masked", [False, True], ids=["all real", "padding"])
def test_layers_are_those_of_torch_with_our_weights(norm, masked):
    model = small(norm=norm)
    torch.manual_seed(1)
    x, y, weight = torch.randn(2, 6, 12).double(), torch.randn(2, 5, 12).double(), torch.randn(2, 5, 12).double()
    hidden = torch.zeros(2, 6, dtype=torch.bool)
    hidden[1, 4:] = masked
    mask = ~hidden[:, None, None] if masked else None
    encoder, decoder = torchs(model.encoder[0], norm), torchs(model.decoder[0], norm)
    results = []
    for ours in (True, False):
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        if ours:
            memory = model.encoder[0](a, mask)
            out = model.decoder[0](b, memory, mask)
        else:
            memory = encoder(a, src_key_padding_mask=hidden)
            out = decoder(b, memory, tgt_mask=~causal_mask(5), memory_key_padding_mask=hidden)
        results.append([memory, out, *torch.autograd.grad((out * weight).sum(), (a, b))])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, **exactly)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_model_is_the_sum_of_its_parts(norm):
    """Embeddings times √d_model plus sinusoids, torch's layers, a last norm before the projection where it is pre."""
    model = small(norm=norm)
    src, tgt = tokens(2, 7), tokens(2, 5, seed=1)
    table = sinusoidal_encoding(7, 12, dtype=torch.float64)
    x, y = (model.tokens.weight[t] * 12**0.5 + table[: t.shape[1]] for t in (src, tgt))
    for layer in model.encoder:
        x = torchs(layer, norm)(x)
    x = model.encoder_norm(x) if norm == "pre" else x
    for layer in model.decoder:
        y = torchs(layer, norm)(y, x, tgt_mask=~causal_mask(5))
    y = model.decoder_norm(y) if norm == "pre" else y
    torch.testing.assert_close(model(src, tgt), y @ model.tokens.weight.T, **exactly)
    assert (
        isinstance(model.encoder_norm, nn.LayerNorm) == isinstance(model.decoder_norm, nn.LayerNorm) == (norm == "pre")
    )


def test_feed_forward_is_equation_2_at_each_position():
    module = FeedForward(2, 3)
    with torch.no_grad():
        module.W_1.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, -1]]))
        module.W_1.bias.copy_(torch.tensor([0.5, 0, 0]))
        module.W_2.weight.copy_(torch.tensor([[1.0, 2, 4], [0, 0, 1]]))
        module.W_2.bias.copy_(torch.tensor([0, 10.0]))
    x = torch.tensor([[[1.0, -2], [-3, 1]]])
    assert module(x).tolist() == [[[1.5 + 4, 10 + 1], [2 + 8, 10 + 2]]]


@cases
def test_padding_changes_nothing_for_the_other_positions(changes):
    model = small(**changes)
    src, tgt = tokens(1, 5), tokens(1, 4, seed=1)
    wanted = model(src, tgt)
    torch.testing.assert_close(model(padded(src, 9), tgt), wanted, **exactly)
    torch.testing.assert_close(model(src, padded(tgt, 7))[:, :4], wanted, **exactly)
    memory, mask = model.encode(padded(src, 9))
    torch.testing.assert_close(memory[:, :5], model.encode(src)[0], **exactly)
    assert mask is not None and mask.flatten().tolist() == [True] * 5 + [False] * 4
    assert model.encode(src)[1] is None
    assert not torch.allclose(model(padded(src[:, :4], 5), tgt), wanted, **exactly)  # a real token does change them


@cases
def test_a_row_alone_is_that_row_in_a_batch(changes):
    model = small(**changes)
    rows = [(tokens(1, n, seed=n), tokens(1, m, seed=m)) for n, m in ((3, 6), (8, 1), (5, 4))]
    batch = model(torch.cat([padded(s, 8) for s, _ in rows]), torch.cat([padded(t, 6) for _, t in rows]))
    for i, (s, t) in enumerate(rows):
        torch.testing.assert_close(batch[i : i + 1, : t.shape[1]], model(s, t), **exactly)


@cases
def test_no_position_has_a_gradient_from_a_later_one(changes):
    model = small(**changes)
    with embedded(model) as inputs:
        logits = model(tokens(2, 4), tokens(2, 6, seed=1))
        for i in range(6):
            src_, tgt_ = torch.autograd.grad(logits[:, i].square().sum(), inputs, retain_graph=True)
            assert (tgt_[:, i + 1 :] == 0).all()
            assert (tgt_[:, : i + 1] != 0).any(-1).all()  # and it does see those before it, and all of the source
            assert (src_ != 0).any(-1).all()


@cases
def test_later_tokens_do_not_change_a_logit(changes):
    model = small(**changes)
    src, tgt = tokens(2, 4), tokens(2, 6, seed=1)
    wanted = model(src, tgt)
    changed = tgt.clone()
    changed[:, 3:] = tokens(2, 3, seed=9)
    found = model(src, changed)
    torch.testing.assert_close(found[:, :3], wanted[:, :3], **exactly)
    assert not torch.allclose(found[:, 3:], wanted[:, 3:])
    torch.testing.assert_close(model(src, tgt[:, :3]), wanted[:, :3], **exactly)


@cases
def test_padding_of_the_source_gets_no_gradient(changes):
    model = small(**changes)
    src = torch.cat([tokens(1, 5), padded(tokens(1, 2), 5)])
    with embedded(model) as inputs:
        model(src, tokens(2, 3, seed=1)).square().sum().backward()
    gradient = inputs[0].grad
    assert gradient is not None
    assert (gradient[1, 2:] == 0).all()
    assert (gradient[src != 0] != 0).any(-1).all()


@pytest.mark.parametrize("pad", [0, 5, 22])
def test_padding_is_whatever_token_the_config_names(pad):
    model = small(pad=pad)
    src, tgt = tokens(1, 6), tokens(1, 3, seed=1)
    src, tgt = (torch.where(x == pad, 1, x) for x in (src, tgt))
    longer = torch.cat([src, torch.full((1, 2), pad)], 1)
    torch.testing.assert_close(model(longer, tgt), model(src, tgt), **exactly)


def test_source_positions_count_and_order_matters():
    """With attention alone the encoder would give permuted outputs for permuted tokens."""
    model = small()
    src, tgt = torch.tensor([[3, 4, 5]]), tokens(1, 2)
    assert not torch.allclose(model(src, tgt), model(src.flip(1), tgt))
    no_positions = model.source
    no_positions.table = torch.zeros(9, 12).double()
    torch.testing.assert_close(model(src, tgt), model(src.flip(1), tgt), **exactly)


def test_parameters_of_base_are_the_one_shared_matrix_and_the_layers():
    """With V tokens: 512 V, and 6 (4·512² + F + 2·2·512) + 6 (8·512² + F + 3·2·512), F = 2·512·2048 + 2048 + 512."""
    with torch.device("meta"):
        base = Transformer(TransformerConfig.base(vocab_size=41106))
        big = Transformer(TransformerConfig.big(vocab_size=41106))
    count = sum(p.numel() for p in base.parameters())
    ffn = 2 * 512 * 2048 + 2048 + 512
    assert count == 41106 * 512 + 6 * (4 * 512**2 + ffn + 4 * 512) + 6 * (8 * 512**2 + ffn + 6 * 512) == 65_147_904
    ffn = 2 * 1024 * 4096 + 4096 + 1024
    wanted = 41106 * 1024 + 6 * (4 * 1024**2 + ffn + 4 * 1024) + 6 * (8 * 1024**2 + ffn + 6 * 1024)
    assert sum(p.numel() for p in big.parameters()) == wanted


def test_source_target_and_projection_are_one_matrix():
    model = small()
    named = [name for name, p in model.named_parameters() if 23 in p.shape]
    assert named == ["tokens.weight"]
    src, tgt = tokens(1, 3), tokens(1, 2, seed=1)
    unseen = next(t for t in range(1, 23) if t not in src and t not in tgt)
    before = model(src, tgt)
    with torch.no_grad():
        model.tokens.weight[unseen] += 1
    changed = (model(src, tgt) != before).flatten(0, 1).any(0)
    assert changed.nonzero().flatten().tolist() == [unseen]  # as a projection it acts on its own logit alone
    with torch.no_grad():
        model.tokens.weight[src[0, 0]] += 1
    assert (model(src, tgt) != before).all()  # as an embedding on all


def test_weights_start_as_documented():
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(vocab_size=500, n_layers=1, d_model=64, d_ff=256, positions="learned"))
    for name, p in model.named_parameters():
        if p.ndim == 1:
            assert (p == (1 if name.endswith("norm.weight") else 0)).all(), name
        elif "W_" in name:
            bound = (6 / sum(p.shape)) ** 0.5
            assert 0.98 * bound < p.abs().max() <= bound, name
            assert p.std().item() == pytest.approx(bound / 3**0.5, rel=0.02), name
        else:
            assert p.std().item() == pytest.approx(1 / 8, rel=0.02), name
            assert p.abs().max() > 3 / 8, name  # normal, not uniform


def test_dropout_is_where_the_paper_has_it():
    """Section 5.4: the output of each sub-layer, and the sums of embeddings and positions; nowhere else."""
    model = small(dropout=0.3)
    places = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout)]
    residuals = [f"{stack}.{i}.residuals.{j}.dropout" for stack, n in (("encoder", 2), ("decoder", 3))
                 for i in range(2) for j in range(n)]  # fmt: skip
    assert places == ["dropout", *residuals]
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.3}
    calls: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    model(tokens(1, 3), tokens(1, 3))
    assert calls == ["dropout", *residuals[:4], "dropout", *residuals[4:]]


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_dropout_acts_on_the_sublayers_output_and_not_on_the_residual(norm):
    """With everything dropped, a layer is the identity: of x in pre-norm, of its norm in post-norm."""
    layer = small(norm=norm, dropout=0.3).encoder[0].train()
    for residual in layer.residuals:
        residual.dropout.p = 1.0
    x = torch.randn(1, 4, 12).double()
    first, second = layer.residuals
    torch.testing.assert_close(layer(x, None), x if norm == "pre" else second.norm(first.norm(x)), **exactly)


def test_dropout_is_off_in_evaluation():
    model, src, tgt = small(dropout=0.5), tokens(2, 3), tokens(2, 4)
    assert torch.equal(model(src, tgt), model(src, tgt))
    torch.testing.assert_close(model(src, tgt), small(dropout=0.0)(src, tgt), **exactly)
    model.train()
    assert not torch.equal(model(src, tgt), model(src, tgt))
    still = small(dropout=0.0).train()
    assert torch.equal(still(src, tgt), still(src, tgt))


@pytest.mark.parametrize("d_model", [2, 6, 512])
def test_sinusoids_are_those_of_the_paper(d_model):
    table = sinusoidal_encoding(50, d_model, dtype=torch.float64)
    for pos in (0, 1, 7, 49):
        for i in (0, d_model // 4, d_model // 2 - 1):
            angle = torch.tensor(pos / 10000 ** (2 * i / d_model), dtype=torch.float64)
            assert table[pos, 2 * i].item() == pytest.approx(angle.sin().item(), abs=1e-13)
            assert table[pos, 2 * i + 1].item() == pytest.approx(angle.cos().item(), abs=1e-13)
    assert sinusoidal_encoding(0, d_model).shape == (0, d_model)
    torch.testing.assert_close(sinusoidal_encoding(20, d_model, start=30, dtype=torch.float64), table[30:])
    assert (2 * torch.pi / frequencies(512)[[0, -1]]).tolist() == pytest.approx(
        [2 * torch.pi, 2 * torch.pi * 10000 ** (510 / 512)]
    )


def test_the_table_of_sinusoids_grows_and_has_no_limit():
    model = small(max_len=4)
    short = model(tokens(1, 3), tokens(1, 3))
    assert len(model.source.table) == 3
    model(tokens(1, 600), tokens(1, 2))
    assert len(model.source.table) == 600
    model(tokens(1, 601), tokens(1, 2))
    assert len(model.source.table) == 1200  # twice, so that decoding one position more is not a table more
    torch.testing.assert_close(model.source(590, 600), small().source(0, 600)[590:], rtol=0, atol=0)
    torch.testing.assert_close(model(tokens(1, 3), tokens(1, 3)), short, rtol=0, atol=0)


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used before"])
def test_sinusoids_in_float64_have_its_precision(used):
    model = Transformer(TransformerConfig(vocab_size=23, n_layers=1, d_model=12, d_ff=20, n_heads=2)).eval()
    if used:
        model(tokens(1, 9), tokens(1, 9))
    model.double()
    found = model.source(0, 9)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, sinusoidal_encoding(9, 12, dtype=torch.float64), **exactly)


def test_learned_positions_are_rows_of_two_tables():
    model = small(positions="learned", max_len=9)
    source, target = model.source.learned, model.target.learned
    assert source is not None and target is not None
    assert source.weight.shape == target.weight.shape == (9, 12)
    assert not torch.equal(source.weight, target.weight)
    model(tokens(1, 9), tokens(1, 4)).square().sum().backward()
    assert source.weight.grad is not None and target.weight.grad is not None
    assert (source.weight.grad != 0).any(1).tolist() == [True] * 9
    assert (target.weight.grad != 0).any(1).tolist() == [True] * 4 + [False] * 5


@cases
def test_a_state_dict_saved_and_loaded_is_the_same_model(changes):
    model, src, tgt = small(**changes), tokens(2, 5), tokens(2, 3)
    wanted = model(src, tgt)  # the sinusoids' table has grown, and is no part of the state
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = Transformer(model.config).double().eval()
    assert not torch.equal(other(src, tgt), wanted)
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(other(src, tgt), wanted, rtol=0, atol=0)
    assert not any("table" in name for name in model.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_a_model_moves_between_dtypes(dtype):
    model, src, tgt = small(), tokens(2, 5), tokens(2, 3)
    exact = model(src, tgt)
    logits = model.to(dtype)(src, tgt)
    assert logits.dtype == dtype
    tolerance = 30 * torch.finfo(dtype).eps * exact.abs().max().item()
    torch.testing.assert_close(logits.double(), exact, rtol=0, atol=tolerance)
    assert model.double()(src, tgt).dtype == torch.float64


def test_tokens_may_have_32_bits():
    model, src, tgt = small(), tokens(2, 5), tokens(2, 3)
    assert torch.equal(model(src.int(), tgt.int()), model(src, tgt))


@cases
def test_attention_maps_are_the_softmax_that_the_forward_used(changes):
    model = small(**changes)
    src, tgt = torch.cat([tokens(1, 6), padded(tokens(1, 4), 6)]), tokens(2, 3, seed=1)
    maps = model.attention_maps(src, tgt)
    n_heads = model.config.n_heads
    assert [tuple(x.shape) for x in maps] == [(2, n_heads, 3, 6)] * 2
    assert not torch.equal(*maps)
    for x in maps:
        torch.testing.assert_close(x.sum(-1), torch.ones(2, n_heads, 3).double())
        assert (x[1, :, :, 4:] == 0).all()
        assert (x[0] > 0).all()
    outputs: list[Tensor] = []
    hooks = [
        layer.encoder_attention.register_forward_hook(lambda *args: outputs.append(args[2])) for layer in model.decoder
    ]
    logits = model(src, tgt)
    for hook in hooks:
        hook.remove()
    memory, _ = model.encode(src)
    for x, layer, output in zip(maps, model.decoder, outputs, strict=True):
        attention = layer.encoder_attention
        values = attention.heads(attention.W_V(memory))
        torch.testing.assert_close(attention.W_O((x @ values).transpose(1, 2).flatten(2)), output, **exactly)
    assert torch.equal(model(src, tgt), logits)  # no hook is left behind
    assert not any(layer.encoder_attention._forward_pre_hooks for layer in model.decoder)


@cases
def test_steps_with_the_cache_are_the_forward(changes):
    model = small(**changes)
    src, tgt = torch.cat([tokens(1, 6), padded(tokens(1, 4), 6)]), tokens(2, 7, seed=1)
    logits = model(src, tgt)
    state = model.start(src)
    for i in range(7):
        assert state.length == i
        torch.testing.assert_close(model.step(tgt[:, i], state), logits[:, i], **exactly)


@cases
def test_a_cache_goes_on_with_the_rows_that_are_selected(changes):
    model = small(**changes)
    src, tgt = torch.cat([tokens(1, 6), padded(tokens(1, 4), 6)]), tokens(2, 5, seed=1)
    state = model.start(src)
    state.select(torch.tensor([0, 1]))  # before any step
    for i in range(3):
        model.step(tgt[:, i], state)
    rows = torch.tensor([1, 0, 1])
    state.select(rows)
    logits = model(src[rows], tgt[rows])
    for i in (3, 4):
        torch.testing.assert_close(model.step(tgt[rows, i], state), logits[:, i], **exactly)
