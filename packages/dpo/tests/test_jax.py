"""The twins against torch's functions: values, and gradients where there are any, jitted, in float32."""

from __future__ import annotations

import pytest

pytest.importorskip("jax", reason="the extra jax is not installed")
import jax
import jax.numpy as jnp
import numpy as np
import torch
from dpo_cases import VOCAB, answers, four, randn, rows

from papertest.fixtures import compiled_fast as compiled_fast

import dpo
from dpo import jax as twins

W, L, REF_W, REF_L = four(dtype=torch.float32)
GOOD = torch.tensor([True, False, True, True, False])
GIVEN, MASK = answers()
GIVEN = {name: value.float() for name, value in GIVEN.items()}
REF, REWARDS = randn(3, 8).softmax(-1).float(), randn(3, 8, seed=1).float()
POLICY = randn(3, 8, seed=2).softmax(-1).float()
ZERO = torch.tensor([[0.5, 0.0, 0.5]])

CASES = {
    "dpo_loss": ((W, L, REF_W, REF_L), (0.3,)),
    "dpo_loss, smoothed": ((W, L, REF_W, REF_L), (0.3, 0.2)),
    "implicit_reward": ((W, REF_W), ()),
    "dpo_gradient_weight": ((W, L, REF_W, REF_L), (0.3,)),
    "unweighted_loss": ((W, L, REF_W, REF_L), (0.3,)),
    "unlikelihood_loss": ((W, L), (0.5,)),
    "ipo_loss": ((W, L, REF_W, REF_L), (0.3,)),
    "kto_loss": ((W, REF_W, GOOD), (1.5, 0.3, 1.2, 0.8)),
    "kto_loss, negative": ((W, REF_W, GOOD), (-1.5, 0.3)),
    "reward_loss": ((W, L), ()),
    "ranking_loss": ((REWARDS,), ()),
    "sequence_logps": (rows(torch.float32), ()),
    "token_logps": (rows(torch.float32), ()),
    "sequence_logps, bfloat16": (rows(torch.bfloat16), ()),
    "kl_rewards": ((REWARDS[:, 0], GIVEN["logps"], GIVEN["ref_logps"], MASK), (0.1,)),
    "gae": ((GIVEN["logps"].nan_to_num(), GIVEN["values"], MASK), (0.9, 0.8)),
    "clipped_surrogate": ((GIVEN["logps"], GIVEN["old_logps"], GIVEN["advantages"], MASK), ()),
    "value_loss": ((GIVEN["values"], GIVEN["old_values"], GIVEN["returns"], MASK), ()),
    "exact_rlhf_policy": ((REF, REWARDS), (0.5,)),
    "exact_rlhf_policy, zero": ((ZERO, REWARDS[:1, :3]), (0.5,)),
    "log_partition": ((REF, REWARDS), (0.5,)),
    "rlhf_objective": ((POLICY, REF, REWARDS), (0.5,)),
}


def to_jax(x: torch.Tensor) -> jax.Array:
    name = str(x.dtype).removeprefix("torch.").replace("int64", "int32")
    return jnp.array((x.double() if x.is_floating_point() else x).numpy(), name)


def outputs(result):
    return result if isinstance(result, tuple) else (result,)


def close(ours, theirs, rtol):
    ours, theirs = np.asarray(ours, np.float64), theirs.detach().double().numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max(initial=1e-3))


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case):
    name, (arrays, numbers) = case.split(",")[0], CASES[case]
    twin, ours = getattr(twins, name), getattr(dpo, name)
    if name == "gae":
        arrays = (arrays[0].masked_fill(~MASK, 0), *arrays[1:])
    jitted = [to_jax(x) for x in arrays]
    result = ours(*arrays, *numbers)
    for a, b in zip(outputs(jax.jit(lambda *x: twin(*x, *numbers))(*jitted)), outputs(result), strict=True):
        close(a, b, 1e-5)

    if name in ("kl_rewards", "gae"):  # constants
        return
    places = [i for i, x in enumerate(arrays) if x.is_floating_point() and not (name == "rlhf_objective" and i == 0)]
    if name in ("exact_rlhf_policy", "log_partition", "rlhf_objective"):
        places = [len(arrays) - 1]
    leaves = [x.clone().requires_grad_(i in places) for i, x in enumerate(arrays)]
    outputs(ours(*leaves, *numbers))[0].float().sin().sum().backward()
    d = jax.jit(jax.grad(lambda *x: jnp.sin(outputs(twin(*x, *numbers))[0]).sum(), places))(*jitted)
    for i, gradient in zip(places, d, strict=True):
        expected = torch.zeros_like(leaves[i]) if leaves[i].grad is None else leaves[i].grad
        close(gradient, expected, 1e-2 if arrays[i].dtype == torch.bfloat16 else 1e-5)


def test_what_torch_refuses_is_nan_here():
    logits, labels, mask = (to_jax(x) for x in rows(torch.float32))
    good = twins.sequence_logps(logits, labels, mask)
    for bad in (
        (logits, labels, mask.at[1].set(False)), (logits, labels, mask.at[1, 0].set(True)),
        (logits, labels.at[1, 2].set(VOCAB), mask), (logits, labels.at[1, 2].set(-100), mask),
    ):  # fmt: skip
        found = jax.jit(twins.sequence_logps)(*bad)
        assert jnp.isnan(found).tolist() == [False, True, False]
        assert (found[::2] == good[::2]).all()


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -float("inf")])
def test_prompt_and_padding_act_on_nothing(junk):
    logits, labels, mask = rows(torch.float32)
    counted = torch.cat([mask[:, 1:], torch.zeros(3, 1, dtype=torch.bool)], 1)
    spoilt = to_jax(logits.masked_fill(~counted[..., None], junk))
    f = lambda x: twins.sequence_logps(x, to_jax(labels), to_jax(mask)).sum()  # noqa: E731
    assert f(spoilt) == f(to_jax(logits))
    d = jax.grad(f)(spoilt)
    assert jnp.isfinite(d).all()
    assert not d[to_jax(~counted)].any()


def test_bad_input():
    w, l, ref_w, ref_l = (to_jax(y) for y in (W, L, REF_W, REF_L))
    logits, labels, mask = (to_jax(x) for x in rows(torch.float32))
    for call, message in (
        (lambda: twins.dpo_loss(w, l, ref_w, ref_l, 0), "beta must be a finite number above 0, got 0"),
        (
            lambda: twins.dpo_loss(w, l, ref_w, ref_l, 0.1, 0.5),
            "label_smoothing must be a finite number from 0 to below",
        ),
        (lambda: twins.dpo_loss(w, l[:, None], ref_w, ref_l), r"policy_rejected_logps must be of shape \(5,\), which"),
        (lambda: twins.ipo_loss(w, l, ref_w, ref_l, -1), "tau must be a finite number above 0, got -1"),
        (lambda: twins.kto_loss(w, ref_w, to_jax(GOOD)[:2], 0.0), r"desirable must be of shape \(5,\)"),
        (lambda: twins.unlikelihood_loss(w, l, 2), "alpha must be a finite number from 0 to 1, got 2"),
        (lambda: twins.ranking_loss(w), r"rewards must be of shape \(batch, K\)"),
        (lambda: twins.sequence_logps(logits, labels, mask.astype(int)), "mask must be an array of bool"),
        (lambda: twins.sequence_logps(logits, labels[:, 1:], mask), r"labels must be of shape \(3, 6\)"),
        (lambda: twins.sequence_logps(labels, labels, mask), "logits must be a floating-point array, got int32"),
        (lambda: twins.gae(logits[..., 0], logits[..., 1], mask, 2.0), "gamma must be a finite number from 0 to 1"),
        (lambda: twins.exact_rlhf_policy(w, l[:2], 1.0), r"rewards must be of shape \(5,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
