"""Identities of the implementation: padding changes nothing, and the Flax twin is the same model."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error
from papertest.threads import one_thread

from bert.heads import BertForPreTraining
from bert.model import Bert
from bert.pretrained import load_pretrained
from bert.reproduce.data.corpora import verses
from bert.reproduce.exact.parity import SHORT, SMALL, batch, by_module, named, small
from bert.reproduce.models import minilm
from bert.wordpiece import WordPiece


@claim("padding-invariance")
@one_thread()
def padding_invariance(run: Run) -> Measured:
    """Section 3: what the states of tokens have of the padding after them, or in the place of some between them.

    gradient: the largest |∂(states and pooled output of tokens)/∂(embedding of a padded position)|, float32, with
    random weights on the states; float64, float32: the largest change, over the largest value, of states and pooled
    output where padding is added at the end. Padding is any token. Both attentions, written out and fused; models that
    look both ways and left to right.
    """
    cases: list[dict[str, Any]] = []
    for causal, fused in itertools.product((False, True), repeat=2):
        model, inputs = small(replace(SMALL, causal=causal, fused=fused)).bert, batch()
        inputs["attention_mask"][0, 5:7] = 0
        case = {"causal": causal, "fused": fused, "gradient": padding_gradient(model, inputs)}
        case["float32"] = padding_change(model, inputs)
        cases.append(case | {"float64": padding_change(model.double(), inputs)})
    return Measured({key: max(case[key] for case in cases) for key in ("gradient", "float64", "float32")},
                    {"cases": cases})  # fmt: skip


def padding_gradient(model: Bert, inputs: dict[str, Tensor]) -> float:
    found: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(output)

    hook = model.embeddings.register_forward_hook(keep)
    states, pooled = model(**inputs)
    hook.remove()
    real = inputs["attention_mask"] == 1
    (gradient,) = torch.autograd.grad((states[real] * torch.randn_like(states[real])).sum() + pooled.sum(), found)
    assert gradient[real].abs().sum(-1).all()  # that of every token: the hook has found the right tensor
    return float(gradient[~real].abs().max())


@torch.no_grad()
def padding_change(model: Bert, inputs: dict[str, Tensor]) -> float:
    """The largest over the rows, each read alone without padding at its end, and among the others with it."""
    states, pooled = model(**inputs)
    errors: list[float] = []
    for row, mask in enumerate(inputs["attention_mask"]):
        length = int(mask.nonzero().max()) + 1
        alone = model(**{name: tensor[row : row + 1, :length] for name, tensor in inputs.items()})
        real = mask[:length] == 1
        errors.append(relative_error(states[row, :length][real], alone[0][0, real]))
        errors.append(relative_error(pooled[row], alone[1][0]))
    return max(errors)


@claim("flax-twin")
@one_thread()
def flax_twin(run: Run) -> Measured:
    """Sections 3 and 3.1 in float32: the Flax twin against ours with the same weights, largest difference over largest
    value; of the gradients that of the worst module, weight and bias together.

    A small model of one layer with random weights, for states, logits and gradients (of the logits' sum with random
    weights); and MiniLM's layers under heads with random weights, on two pairs of verses, for states and logits.
    Padding in both.
    """
    wordpiece = WordPiece(minilm() / "vocab.txt")
    first, second = verses(2, SHORT)
    real = BertForPreTraining(load_pretrained(minilm()))
    nn.init.normal_(real.mlm.bias)
    random, errors = compared(small(replace(SMALL, n_layers=1)), batch(), backwards=True)
    weights, _ = compared(real.eval(), named(*wordpiece(first, second)), backwards=False)
    value = {key: max(random[key], weights[key]) for key in random} | {"gradients": max(errors.values())}
    return Measured(value, {"random_weights": random, "real_weights": weights, "by_module": errors})


def compared(
    model: BertForPreTraining, inputs: dict[str, Tensor], *, backwards: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """Errors of states and logits, and of each module's gradient."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from bert.jax import from_torch, to_torch

    with torch.set_grad_enabled(backwards):
        ours = [model.bert(**inputs)[0], *model(**inputs)]
    twin = from_torch(model)
    graph, parameters, rest = nnx.split(twin, nnx.Param, ...)
    weights = [torch.randn_like(x) for x in ours[1:]]

    def loss(parameters: Any, inputs: Any, weights: Any) -> Any:
        twin = nnx.merge(graph, parameters, rest)
        found = [twin.bert(**inputs)[0], *twin(**inputs)]
        return sum((x * weight).sum() for x, weight in zip(found[1:], weights, strict=True)), found

    quick = {"xla_backend_optimization_level": 0}  # called once: to compile takes longer than to run
    arrays = {name: jnp.asarray(x.numpy()) for name, x in inputs.items()}, [jnp.asarray(w.numpy()) for w in weights]
    if not backwards:
        _, theirs = jax.jit(loss, compiler_options=quick)(parameters, *arrays)
        return agreement(ours, theirs), {}
    function = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=quick)
    (_, theirs), gradients = function(parameters, *arrays)
    torch.autograd.backward([(x * weight).sum() for x, weight in zip(ours[1:], weights, strict=True)])
    nnx.update(twin, gradients)  # so that to_torch gives each gradient the name of its parameter
    mine = by_module({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    other = by_module({name: p.detach() for name, p in to_torch(twin).named_parameters()})
    return agreement(ours, theirs), {name: relative_error(other[name], mine[name]) for name in mine | other}


def agreement(ours: list[Tensor], theirs: Any) -> dict[str, float]:
    """Of the states, and of the worse of the two heads' logits."""
    states, *logits = (relative_error(a, b) for a, b in zip(theirs, ours, strict=True))
    return {"hidden": states, "logits": max(logits)}
