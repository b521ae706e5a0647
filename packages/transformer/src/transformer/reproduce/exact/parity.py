"""Identities between implementations: the Flax twin, torch's own layers, and the fused attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error
from papertest.threads import one_thread

from transformer.attention import causal_mask
from transformer.model import DecoderLayer, EncoderLayer, Transformer
from transformer.reproduce.exact.identities import small, tokens


@claim("flax-twin")
@one_thread()
def flax_twin(run: Run) -> Measured:
    """Sections 3.1 to 3.5 in float32: the Flax twin's logits and gradients against ours, with the same weights.

    Largest difference over largest value, that of the worst parameter for the gradients, which are of the logits' sum
    with random weights. One layer each, post-norm, sinusoids; d_k, d_v and d_model/h differ; padding on both sides.
    """
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from transformer.jax import from_torch, to_torch

    model, src, tgt = small("keys", n_layers=1), tokens(3, 9), tokens(3, 7)
    logits = model(src, tgt)
    weight = torch.randn_like(logits)
    (logits * weight).sum().backward()
    twin = from_torch(model)
    graph, parameters, rest = nnx.split(twin, nnx.Param, ...)

    def loss(parameters: Any, src: Any, tgt: Any, weight: Any) -> Any:
        logits = nnx.merge(graph, parameters, rest)(src, tgt)
        return (logits * weight).sum(), logits

    quick = {"xla_backend_optimization_level": 0}  # called once: to compile takes longer than to run
    function = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=quick)
    (_, theirs), gradients = function(parameters, *(jnp.asarray(x.numpy()) for x in (src, tgt, weight)))
    nnx.update(twin, gradients)  # so that to_torch gives each gradient the name of its parameter
    by_name = dict(to_torch(twin).named_parameters())
    errors = {name: relative_error(by_name[name], p.grad) for name, p in model.named_parameters()}
    return Measured({"logits": relative_error(theirs, logits), "gradients": max(errors.values())}, {"by_name": errors})


@claim("torch-layers")
@one_thread()
def torch_layers(run: Run) -> Measured:
    """Section 3.1 in float32: our stacks against nn.TransformerEncoder and Decoder with our weights and zero biases.

    Largest difference over largest value, post-norm and pre-norm, with padding on both sides; `fused` is of the
    logits of our model with torch's fused attention against those of Eq. 1 written out.
    """
    cases: list[dict[str, Any]] = []
    for name in ("post", "pre, learned"):
        model, src, tgt = small(name), tokens(3, 9), tokens(3, 12)
        fused = small(name, fused=True)
        fused.load_state_dict(model.state_dict())
        encoder, decoder = theirs(model)
        x, y = watch(model.encoder[0]), watch(model.decoder[0])
        memory, mask = model.encode(src)
        output = model.decode(tgt, memory, mask)
        hidden, later = src == model.config.pad, ~causal_mask(tgt.shape[1])
        peers = (
            encoder(x[0], src_key_padding_mask=hidden),
            decoder(y[0], memory, tgt_mask=later, memory_key_padding_mask=hidden),
        )
        case = {"encoder": relative_error(memory, peers[0]), "decoder": relative_error(output, peers[1])}
        cases.append({"model": name, **case, "fused": relative_error(fused(src, tgt), model.project(output))})
    return Measured(
        {key: max(case[key] for case in cases) for key in ("encoder", "decoder", "fused")}, {"cases": cases}
    )


def watch(layer: nn.Module) -> list[Tensor]:
    """A list that gets the first argument of every call of this layer."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.append(args[0])

    layer.register_forward_pre_hook(keep)
    return found


def theirs(model: Transformer) -> tuple[nn.TransformerEncoder, nn.TransformerDecoder]:
    """torch's stacks with the model's weights."""
    config = model.config
    size = {"d_model": config.d_model, "nhead": config.n_heads, "dim_feedforward": config.d_ff, "dropout": 0.0}
    way: dict[str, Any] = size | {"batch_first": True, "norm_first": config.norm == "pre"}
    ends = [norm if isinstance(norm, nn.LayerNorm) else None for norm in (model.encoder_norm, model.decoder_norm)]
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**way), config.n_layers, ends[0], False)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**way), config.n_layers, ends[1])
    for stack, ours in ((encoder, model.encoder), (decoder, model.decoder)):
        for layer, mine in zip(stack.layers, ours, strict=True):
            layer.load_state_dict(renamed(mine))
    return encoder, decoder


def renamed(layer: EncoderLayer | DecoderLayer) -> dict[str, Tensor]:
    """The layer's weights by the names of torch's: Q, K and V in one matrix, and biases of zero in the attention."""
    state: dict[str, Tensor] = {}
    attentions = {"self_attn": layer.self_attention}
    if isinstance(layer, DecoderLayer):
        attentions["multihead_attn"] = layer.encoder_attention
    for name, attention in attentions.items():
        stacked = torch.cat([attention.W_Q.weight, attention.W_K.weight, attention.W_V.weight])
        state |= {f"{name}.in_proj_weight": stacked, f"{name}.in_proj_bias": torch.zeros(len(stacked))}
        out = attention.W_O.weight
        state |= {f"{name}.out_proj.weight": out, f"{name}.out_proj.bias": torch.zeros(len(out))}
    modules: dict[str, nn.Module] = {"linear1": layer.feed_forward.W_1, "linear2": layer.feed_forward.W_2}
    modules |= {f"norm{i}": residual.get_submodule("norm") for i, residual in enumerate(layer.residuals, 1)}
    for name, module in modules.items():
        state |= {f"{name}.{kind}": parameter for kind, parameter in module.named_parameters()}
    return state
