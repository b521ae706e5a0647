"""The paper's own scale: GPT-J on TL;DR and CNN/DailyMail (Figure 2 right, Table 1), Pythia-2.8B on HH (Figure 3).

$DPO_PAPER is a folder with what is published, none of it fetched here:
    tldr/       comparisons/ and test.jsonl, as `published` reads them; sft/, GPT-J fine-tuned on TL;DR
    cnn-dm/     test.jsonl
    hh/         helpful-base/train.jsonl.gz and so on, and test.jsonl.gz beside each; model/, Pythia-2.8B
    judge/      an instruction-tuned model, in place of the paper's GPT-4
Models are folders of the transformers library.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from papertest import Measured, Run, claim

from dpo.losses import dpo_loss, unlikelihood_loss
from dpo.models import answer_logps
from dpo.preferences import Encoded, Preference, collate, encode
from dpo.reproduce import published
from dpo.reproduce.published import Post

BATCH, RATE, WARMUP, BETA, TLDR_BETA = 64, 1e-6, 150, 0.1, 0.5  # Appendix B, with RMSprop
MICRO = 4  # pairs at a time: it changes the memory alone
LONGEST, NEW = 1024, 256  # tokens of prompt and answer, and of a sample; the paper gives neither
PROMPTS = 256  # samples that are judged; the paper has 256 for its dialogues
QUESTION = (
    "Here is a {kind}:\n\n{prompt}\n\nTwo {answers} to it:\n\nA: {first}\n\nB: {second}\n\n"
    "Which one {better}? Answer with the letter alone: "
)  # of our own, after what the paper's prompts ask about
SUMMARY = {"kind": "post", "answers": "summaries",
           "better": "tells the most important points, precisely and without unimportant details"}  # fmt: skip
DIALOGUE = {"kind": "conversation", "answers": "answers", "better": "is more helpful"}


def folder(*inside: str) -> Path:
    """RuntimeError where it is not there."""
    found = Path(os.environ.get("DPO_PAPER", "")).joinpath(*inside)
    if "DPO_PAPER" not in os.environ or not found.exists():
        raise RuntimeError(f"{Path(*inside)} is not here: set DPO_PAPER to a folder with tldr, cnn-dm, hh and judge, "
                           "as dpo/reproduce/paper.py says")  # fmt: skip
    return found


def loaded(path: Path, device: str) -> tuple[Any, Any]:
    """Model and tokenizer, in bfloat16 on a GPU."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    return model.to(device).eval(), tokenizer


def tokenised(tokenizer: Any, pairs: Sequence[Preference], longest: int) -> list[Encoded]:
    """Prompts that are too long lose their start; a pair whose answer leaves no place for one is left out."""
    kept: list[Encoded] = []
    for pair in pairs:
        try:
            kept.append(encode(tokenizer, pair, longest))
        except ValueError as error:
            if not str(error).startswith("max_length"):
                raise
    return kept


def trained(run: Run, model: Any, pairs: Sequence[Encoded], beta: float | None) -> None:
    """One pass over the pairs: DPO, or Preferred-FT where no β is given."""
    optimizer = torch.optim.RMSprop(model.parameters(), RATE)
    warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP))
    order = Random(run.seed).sample(list(pairs), len(pairs))
    reference: dict[int, Tensor] = {}
    if beta is not None:
        with torch.no_grad():
            for pair in run.progress(order, "reference", total=len(order)):
                reference[id(pair)] = logps(model, [pair], run.device)
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    for batch in run.progress(batches, "DPO" if beta else "Preferred-FT", total=len(batches)):
        for part in (batch[i : i + MICRO] for i in range(0, len(batch), MICRO)):
            chosen, rejected = logps(model, part, run.device).chunk(2)
            if beta is None:
                losses = unlikelihood_loss(chosen, rejected, alpha=0)
            else:
                ref_chosen, ref_rejected = torch.stack([reference[id(pair)] for pair in part], 1)
                losses, _, _ = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta)
            (losses.sum() / len(batch)).backward()
        optimizer.step()
        optimizer.zero_grad()
        warm.step()


def logps(model: Any, pairs: Sequence[Encoded], device: str) -> Tensor:
    return answer_logps(model, collate(pairs, pad_id=0).to(device))[0]


@torch.no_grad()
def sampled(run: Run, model: Any, tokenizer: Any, prompts: Sequence[str], temperature: float) -> list[str]:
    """One answer to each prompt; the likeliest token at every place for a temperature of 0."""
    options: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    texts: list[str] = []
    for prompt in run.progress(prompts, f"sampling at {temperature}", total=len(prompts)):
        ids = tokenizer(prompt, return_tensors="pt").input_ids[:, -(LONGEST - NEW) :].to(run.device)
        new = 4 if run.quick else NEW
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, pad_token_id=tokenizer.eos_token_id, **options
        )
        texts.append(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return texts


@torch.no_grad()
def win_rate(run: Run, judge: Any, posts: Sequence[Post], answers: Sequence[str], words: dict[str, str]) -> float:
    """Per cent of answers that the judge prefers to the reference: by the likelier letter, the mean of both orders."""
    model, tokenizer = judge
    letters = [tokenizer.encode(letter, add_special_tokens=False)[-1] for letter in "AB"]
    wins = 0.0
    for post, answer in zip(posts, answers, strict=True):
        for texts in ((answer, post.reference), (post.reference, answer)):
            asked = QUESTION.format(prompt=post.prompt, first=texts[0], second=texts[1], **words)
            ids = tokenizer(asked, return_tensors="pt").input_ids.to(run.device)
            says_first, says_second = model(ids).logits[0, -1, letters].tolist()
            mine, other = (says_first, says_second) if texts[0] is answer else (says_second, says_first)
            wins += (mine > other) / 2 + (mine == other) / 4
    return 100 * wins / len(posts)


def drawn(run: Run, posts: Sequence[Post]) -> list[Post]:
    return Random(run.seed).sample(list(posts), min(len(posts), 2 if run.quick else PROMPTS))


def summaries(run: Run) -> dict[str, dict[str, float]]:
    """Win rates against the references at temperatures 0 and 0.25, trained on TL;DR."""
    model, tokenizer = loaded(folder("tldr", "sft"), run.device)
    read = published.tldr_comparisons(folder("tldr"))
    pairs = tokenised(tokenizer, read.pairs[:4] if run.quick else read.pairs, LONGEST)
    trained(run, model, pairs, TLDR_BETA)
    judge = loaded(folder("judge"), run.device)
    sets = {"tldr": published.tldr_posts(folder("tldr")), "cnn_dm": published.cnn_dm_articles(folder("cnn-dm"))}
    found: dict[str, dict[str, float]] = {}
    for name, posts in sets.items():
        chosen, found[name] = drawn(run, posts), {}
        for temperature in (0.0, 0.25):
            answers = sampled(run, model, tokenizer, [post.prompt for post in chosen], temperature)
            found[name][str(temperature)] = win_rate(run, judge, chosen, answers, SUMMARY)
    return found


@claim("tldr-win-rate")
def tldr_win_rate(run: Run) -> Measured:
    """Section 6.2: per cent at temperature 0."""
    found = run.shared(summaries)["tldr"]
    return Measured(found["0.0"], found)


@claim("cnn-dm-win-rate")
def cnn_dm_win_rate(run: Run) -> Measured:
    """Table 1: shares."""
    found = run.shared(summaries)["cnn_dm"]
    return Measured({"t_0": found["0.0"] / 100, "t_025": found["0.25"] / 100}, found)


@claim("hh-win-rate")
def hh_win_rate(run: Run) -> Measured:
    """Figure 3: per cent against the chosen answers at temperature 0.7; Preferred-FT, then DPO from there."""
    model, tokenizer = loaded(folder("hh", "model"), run.device)
    read = published.hh_pairs(folder("hh"))
    pairs = tokenised(tokenizer, read.pairs[:4] if run.quick else read.pairs, LONGEST)
    held_out = published.one_turn(published.hh_pairs(folder("hh"), "test").pairs)
    posts = drawn(run, [Post(pair.prompt, pair.chosen.strip()) for pair in held_out])
    judge = loaded(folder("judge"), run.device)
    details: dict[str, Any] = {"equal": read.equal, "bad": len(read.bad), "pairs": len(pairs)}
    for name, beta in (("preferred_ft", None), ("dpo", BETA)):
        trained(run, model, pairs, beta)
        answers = sampled(run, model, tokenizer, [post.prompt for post in posts], 0.7)
        details[name] = win_rate(run, judge, posts, answers, DIALOGUE)
    return Measured(details["dpo"], details)
