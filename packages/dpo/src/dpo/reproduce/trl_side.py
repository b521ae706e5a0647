"""trl's DPO trainer on token ids that are given to it, so that both sides see the same tokens."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import torch

from dpo.preferences import Encoded

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # else trl would say over the network that it is used


def trl_trainer(model: Any, reference: Any = None, *, beta: float = 0.1) -> Any:
    """`trl.DPOTrainer` in float32, without gradient checkpointing and without limits of length.

    It gets a tokenizer of two words and a data set of one pair, which it insists on; batches come from `trl_batch`.
    reference: a model of its own; None for reference log-probabilities that each batch brings with it, which is what
        trl does with `precompute_ref_log_probs`
    """
    import datasets
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    words = Tokenizer(models.WordLevel({"pad": 0, "end": 1, "a": 2}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="pad", eos_token="end")
    pair = datasets.Dataset.from_list([{"prompt": "a", "chosen": "a", "rejected": "a a"}])
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            folder, beta=beta, bf16=False, use_cpu=not torch.cuda.is_available(), gradient_checkpointing=False,
            max_length=None, report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer: Any = DPOTrainer(model, reference or model_of_nothing(), config, None, pair, None, tokenizer)
    trainer.precompute_ref_logps = reference is None
    trainer.current_gradient_accumulation_steps = 1  # what its training loop would say
    return trainer


def model_of_nothing() -> Any:
    """A tiny model that is never called: without a reference trl would fetch one."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: Any = {"hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=3, bos_token_id=1, eos_token_id=1, **sizes))


def trl_batch(trainer: Any, pairs: Sequence[Encoded]) -> dict[str, Any]:
    """The pairs as trl's own collator puts them into a batch."""
    parts = ("prompt", "chosen", "rejected")
    return trainer.data_collator([{f"{part}_ids": list(getattr(pair, part)) for part in parts} for pair in pairs])


def with_reference(trainer: Any, model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The batch with the reference's log-probabilities, as trl computes them."""
    chosen, rejected = trainer.compute_ref_log_probs(model, inputs)
    return {**inputs, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
