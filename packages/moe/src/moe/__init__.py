"""Mixture of experts: Shazeer et al. (2017), Switch (2021), Mixtral (2024) and DeepSeek (2024) as one layer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe.count import count_moe
    from moe.gates import NoisyTopKGate, SwitchGate, TopKGate, update_bias
    from moe.layer import MoE, MoEInfo
    from moe.losses import importance_loss, load_loss, router_z_loss, switch_balance_loss

__all__ = [
    "MoE",
    "MoEInfo",
    "NoisyTopKGate",
    "SwitchGate",
    "TopKGate",
    "count_moe",
    "importance_loss",
    "load_loss",
    "router_z_loss",
    "switch_balance_loss",
    "update_bias",
]

_HOMES = {
    "count": ("count_moe",),
    "gates": ("NoisyTopKGate", "SwitchGate", "TopKGate", "update_bias"),
    "layer": ("MoE", "MoEInfo"),
    "losses": ("importance_loss", "load_loss", "router_z_loss", "switch_balance_loss"),
}


def __getattr__(name: str) -> Any:
    """The names above on first use: `reproduce --list` and `--help` need not wait for torch."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
