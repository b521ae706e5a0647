"""Experts over 2 and 4 gloo processes: outputs, gradients and bytes against the layer in one process."""

from __future__ import annotations

import copy
import multiprocessing

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from moe_processes import D_MODEL, EXPERTS, even, loss_of, whole, work

from moe.parallel import exchange_bytes, shard_experts, sum_gradients


def start(f, processes, *args):
    """They fork from a server that has imported torch once."""
    multiprocessing.set_forkserver_preload(["moe_processes"])
    mp.start_processes(f, (processes, *args), processes, start_method="forkserver")


@pytest.mark.parametrize(("processes", "gate", "masked"), [(2, "topk_softmax", False), (4, "switch", True)])
def test_equal_to_one_process(processes, gate, masked, tmp_path):
    start(work, processes, str(tmp_path), gate, masked)
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
            true = dict(layer.named_parameters())[name].grad
            true = true[rank * n : (rank + 1) * n] if name.startswith("experts") else true
            torch.testing.assert_close(grad, true, msg=name)


@pytest.mark.parametrize("processes", [2, 4])
def test_bytes_are_the_formulas(processes, tmp_path):
    start(even, processes, str(tmp_path))


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
