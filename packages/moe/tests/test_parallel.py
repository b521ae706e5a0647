"""Experts over 2 and 4 gloo processes: outputs, gradients and bytes against the layer in one process."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from moe import MoE, TopKGate
from moe.parallel import exchange_bytes, shard_experts, sum_gradients

D_MODEL, TOKENS, EXPERTS = 8, 12, 8


def whole(gate: str, masked: bool) -> tuple[MoE, torch.Tensor, torch.Tensor | None]:
    """The layer, each process's tokens (processes, tokens, width), and masks."""
    torch.manual_seed(0)
    layer = MoE(D_MODEL, 6, EXPERTS, gate=gate, activation="swiglu", shared_experts=1).double().eval()  # type: ignore
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(std=0.5)
    x = torch.randn(4, TOKENS, D_MODEL).double()
    mask = torch.rand(4, TOKENS) < 0.6
    mask[1] = False  # one process has padding alone
    return layer, x, mask if masked else None


def loss_of(y: torch.Tensor, info: Any) -> torch.Tensor:
    return y.square().sum() + info.balance_loss + info.z_loss


def work(rank: int, processes: int, folder: str, gate: str, masked: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    layer, x, mask = whole(gate, masked)
    sizes: list[int] = []
    engine = dist.all_to_all_single

    def counted(out: torch.Tensor, rows: torch.Tensor, came: Any = None, to: Any = None, **options: Any) -> None:
        if to is not None:
            sizes.append(sum(n for p, n in enumerate(to) if p != rank) * rows.shape[1] * rows.element_size())
        engine(out, rows, came, to, **options)

    dist.all_to_all_single = counted  # type: ignore
    shard_experts(layer)
    mine = x[rank].clone().requires_grad_()
    y, info = layer(mine, None if mask is None else mask[rank])
    loss_of(y, info).backward()
    sum_gradients(layer)
    gradients = {name: p.grad for name, p in layer.named_parameters()}
    assert sum(sizes) == layer.experts.sent  # type: ignore
    assert len(sizes) == 4
    torch.save((y.detach(), mine.grad, gradients, sum(sizes), info.counts), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("processes", "gate", "masked"), [(2, "topk_softmax", False), (4, "switch", True), (4, "topk_sigmoid", False)]
)
def test_equal_to_one_process(processes, gate, masked, tmp_path):
    mp.spawn(work, (processes, str(tmp_path), gate, masked), processes)
    layer, x, mask = whole(gate, masked)
    n, sent, crossing = EXPERTS // processes, 0, 0
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(processes)]
    for rank, (y, dx, _, bytes_sent, counts) in enumerate(results):
        mine = x[rank].clone().requires_grad_()
        expected, info = layer(mine, None if mask is None else mask[rank])
        loss_of(expected, info).backward()
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(dx, mine.grad)
        assert torch.equal(counts, info.counts)
        sent += bytes_sent
        crossing += int(counts.sum() - counts[rank * n : (rank + 1) * n].sum())
    assert sent == 4 * crossing * D_MODEL * 8
    for rank, (_, _, gradients, _, _) in enumerate(results):
        for name, grad in gradients.items():
            true = dict(layer.named_parameters())[name.replace("local.", "")].grad
            true = true[rank * n : (rank + 1) * n] if "local" in name else true
            torch.testing.assert_close(grad, true, msg=name)


def even(rank: int, processes: int, folder: str) -> None:
    """Each token's two experts such that all are chosen equally often by each process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    gate = TopKGate(EXPERTS, EXPERTS, 2)
    with torch.no_grad():
        gate.W_r.copy_(torch.eye(EXPERTS))
    layer = shard_experts(MoE(EXPERTS, 6, EXPERTS, gate=gate))
    eye = torch.eye(EXPERTS)
    x = (2 * eye + eye.roll(1, 1)).repeat(3, 1).requires_grad_()
    y, _ = layer(x)
    y.sum().backward()
    assert layer.experts.sent == exchange_bytes(len(x), 2, EXPERTS, processes)  # type: ignore
    dist.destroy_process_group()


@pytest.mark.parametrize("processes", [2, 4])
def test_bytes_are_the_formulas(processes, tmp_path):
    mp.spawn(even, (processes, str(tmp_path)), processes)


def test_one_process_and_what_is_refused(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        layer, x, _ = whole("topk_softmax", False)
        expected = layer(x)[0]
        with pytest.raises(ValueError, match="layer must be sharded"):
            sum_gradients(layer)
        printed = copy.deepcopy(layer)
        printed.fused = False
        with pytest.raises(ValueError, match="layer must be fused"):
            shard_experts(printed)
        assert torch.equal(shard_experts(layer)(x)[0], expected)
        assert layer.experts.sent == 0  # type: ignore
        with pytest.raises(ValueError, match="layer must be a MoE with all its experts"):
            shard_experts(layer)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("name", ["tokens", "k", "d_model", "processes", "itemsize"])
def test_formula_refuses(name):
    sizes = {"tokens": 8, "k": 2, "d_model": 8, "processes": 2, "itemsize": 4}
    assert exchange_bytes(**sizes) == 4 * 2 * 8 * 8 * 4 / 2
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 2.0"):
        exchange_bytes(**(sizes | {name: 2.0}))
