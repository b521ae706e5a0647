"""DPO (Rafailov et al., 2023): preference optimisation without a reward model, beside the PPO that it replaces."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpo.closed_form import best_of_n_kl, exact_rlhf_policy, log_partition, rlhf_objective
    from dpo.logps import sequence_logps, token_logps
    from dpo.losses import (
        dpo_gradient_weight,
        dpo_loss,
        implicit_reward,
        ipo_loss,
        kto_loss,
        unlikelihood_loss,
        unweighted_loss,
    )
    from dpo.ppo import PPOConfig, PPOTrainer, clipped_surrogate, gae, kl_rewards, value_loss
    from dpo.preferences import Batch, Encoded, Preference, Report, collate, encode, read_preferences
    from dpo.reward import RewardModel, ranking_loss, reward_loss
    from dpo.trainer import DPOTrainer

__all__ = [
    "Batch",
    "DPOTrainer",
    "Encoded",
    "PPOConfig",
    "PPOTrainer",
    "Preference",
    "Report",
    "RewardModel",
    "best_of_n_kl",
    "clipped_surrogate",
    "collate",
    "dpo_gradient_weight",
    "dpo_loss",
    "encode",
    "exact_rlhf_policy",
    "gae",
    "implicit_reward",
    "ipo_loss",
    "kl_rewards",
    "kto_loss",
    "log_partition",
    "ranking_loss",
    "read_preferences",
    "reward_loss",
    "rlhf_objective",
    "sequence_logps",
    "token_logps",
    "unlikelihood_loss",
    "unweighted_loss",
    "value_loss",
]

_HOMES = {
    "closed_form": ("best_of_n_kl", "exact_rlhf_policy", "log_partition", "rlhf_objective"),
    "logps": ("sequence_logps", "token_logps"),
    "losses": (
        "dpo_gradient_weight",
        "dpo_loss",
        "implicit_reward",
        "ipo_loss",
        "kto_loss",
        "unlikelihood_loss",
        "unweighted_loss",
    ),
    "ppo": ("PPOConfig", "PPOTrainer", "clipped_surrogate", "gae", "kl_rewards", "value_loss"),
    "preferences": ("Batch", "Encoded", "Preference", "Report", "collate", "encode", "read_preferences"),
    "reward": ("RewardModel", "ranking_loss", "reward_loss"),
    "trainer": ("DPOTrainer",),
}


def __getattr__(name: str) -> Any:
    """The names above on first use: `reproduce --list` and `--help` need not wait for torch."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
