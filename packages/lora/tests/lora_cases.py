"""Small models and adapters that are not zero, which several files of tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lora import lora_state_dict

ARGUMENTS = {"x": 0, "W_0": 1, "b": 2, "A": 3, "B": 4}  # places of Eq. 3's arguments


def values() -> list[Tensor]:
    """x, W_0, b, A and B of a small layer, in float64."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 2, 4), (6, 4), (6,), (2, 4), (6, 2))
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(8, 8), nn.Linear(8, 4, bias=False), nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.k_proj(x).mean(-1, keepdim=True)
        return self.norm(x + torch.tanh(self.q_proj(x)) * gate + self.v_proj(x))


class Tiny(nn.Module):
    """An embedding, two blocks, and a head that may be tied to the embedding."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.layers = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(8, 11, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Conv1D(nn.Module):
    """What is known of transformers' class of this name: h = x W + b."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, self.nx), self.weight).view(*x.shape[:-1], self.nf)


def tiny(**options: Any) -> Tiny:
    torch.manual_seed(0)
    return Tiny(**options).eval()


def ids(*shape: int) -> Tensor:
    return torch.randint(0, 11, shape or (3, 5), generator=torch.Generator().manual_seed(1))


def randomise(model: Any, adapter: str = "default", seed: int = 2) -> Any:
    """Fill A and B, as training might."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in lora_state_dict(model, adapter).values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return model


def state(model: nn.Module) -> dict[str, Any]:
    """All there is to compare: the tree of modules, the tensors, and what trains."""
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    places = {name: (id(module), type(module)) for name, module in model.named_modules(remove_duplicate=False)}
    return {"tensors": tensors, "places": places, "trains": {n: (id(p), p.requires_grad) for n, p in
            model.named_parameters()}}  # fmt: skip


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before["places"] == after["places"]
    assert before["trains"] == after["trains"]
    assert before["tensors"].keys() == after["tensors"].keys()
    assert all(torch.equal(tensor, after["tensors"][name]) for name, tensor in before["tensors"].items())
