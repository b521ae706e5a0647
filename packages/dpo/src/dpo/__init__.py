"""DPO (Rafailov et al., 2023): preference optimisation without a reward model, beside the PPO that it replaces."""
