"""LoRA: Low-Rank Adaptation of Large Language Models (arXiv 2106.09685)."""

from lora.softmax import softmax

__all__ = ["softmax"]
