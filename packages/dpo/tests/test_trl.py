"""Against trl, an implementation that nobody here wrote: batches, log-probabilities, losses, and whole trainings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from llama_cases import llama, some_pairs

pytest.importorskip("trl", reason="the extra reproduce is not installed")
from papertest.parity import relative_error

from dpo import DPOTrainer, collate
from dpo.models import answer_logps
from dpo.packed import packed_logps
from dpo.reproduce.trl_side import trl_batch, trl_trainer, with_reference

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # transformers' own, of what trl sets
BETA = 0.5
PAIRS = some_pairs(4)


def test_batches_are_the_same():
    theirs, ours = trl_batch(trl_trainer(llama()), PAIRS), collate(PAIRS, pad_id=0)
    assert torch.equal(theirs["input_ids"], ours.ids)
    assert torch.equal(theirs["attention_mask"].bool(), ours.padding_mask)
    assert torch.equal(theirs["completion_mask"].bool(), ours.mask)


@pytest.mark.parametrize("logps", [answer_logps, packed_logps])
def test_reference_log_probabilities_are_the_same(logps):
    trainer: Any = trl_trainer(llama())
    model = trainer.model
    theirs = torch.cat(trainer.compute_ref_log_probs(model, trl_batch(trainer, PAIRS)))
    assert relative_error(logps(llama(), collate(PAIRS, 0))[0], theirs) < 1e-5


@pytest.mark.parametrize("precomputed", [True, False])
@pytest.mark.parametrize("logps", [answer_logps, packed_logps])
def test_training_goes_the_same_way(logps, precomputed):
    """Twenty steps of Adam, whose trajectories part where a gradient's scale or sign is another."""
    theirs, ours = llama(), llama()
    trainer: Any = trl_trainer(theirs, None if precomputed else llama(), beta=BETA)
    inputs = trl_batch(trainer, PAIRS)
    if precomputed:
        inputs = with_reference(trainer, theirs, inputs)
    update = torch.optim.Adam(theirs.parameters(), 1e-3)
    peer: list[float] = []
    for _ in range(20):
        update.zero_grad()
        peer.append(trainer.training_step(theirs, inputs).item())
        update.step()
    mine = DPOTrainer(ours, torch.optim.Adam(ours.parameters(), 1e-3), BETA, logps=logps)
    batch = collate(PAIRS, pad_id=0)
    mine.reference(batch)
    steps = [mine.step(batch) for _ in range(20)]
    assert peer[-1] < 0.5 * peer[0]
    assert [step["loss"] for step in steps] == pytest.approx(peer, rel=2e-3)
    seen = {name: trainer._metrics["train"][name][-1] for name in ("rewards/margins", "logps/chosen")}
    assert [steps[-1]["margin"], steps[-1]["chosen_logp"]] == pytest.approx(list(seen.values()), rel=2e-3)
