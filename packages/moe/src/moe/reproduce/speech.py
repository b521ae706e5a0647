"""What a router's choices tell of the part of speech of the words that it reads.

The part of a word is its likeliest tag in the lexicon of Brill's tagger, which was learnt from the Brown corpus and the
Penn Treebank, whatever it is in its sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from papertest import Run
from papertest.data import Carrier
from papertest.threads import one_thread

from moe.reproduce import data
from moe.reproduce.models import ARMS, LENGTH, LanguageModel
from moe.reproduce.training import BATCH, CLIP, PERMUTED, QUICK, SCORED, evaluate, objective, optimiser, share_told

LEXICON = Carrier(  # 0.6 MB
    "textblob",
    "0.20.1",
    "f957699169a3e7b9a03a504883111b7b6973679496b9af959db2f74ee2449977",
    "the lexicon of Brill's tagger, MIT",
)
PARTS = {  # of speech, each with its tags of the Penn Treebank; other tags, of signs and of foreign words, are left out
    "noun": {"NN", "NNS", "NNP", "NNPS"},
    "verb": {"VB", "VBD", "VBG", "VBN", "VBP", "VBZ", "MD"},
    "adjective": {"JJ", "JJR", "JJS"},
    "adverb": {"RB", "RBR", "RBS", "WRB"},
    "pronoun": {"PRP", "PRP$", "WP", "WP$", "EX"},
    "determiner": {"DT", "PDT", "WDT"},
    "preposition": {"IN", "TO", "RP"},
    "conjunction": {"CC"},
    "number": {"CD"},
}
OFTEN = 6  # words of an expert that are shown


@cache
def lexicon() -> dict[str, int]:
    """The part of each word in small letters, as a place in PARTS."""
    places = {tag: place for place, tags in enumerate(PARTS.values()) for tag in tags}
    found: dict[str, int] = {}
    for line in LEXICON.path("textblob/en/en-lexicon.txt").read_text("utf-8").splitlines():
        word, _, tag = line.partition(" ")
        if word.islower() and tag in places:
            found[word] = places[tag]
    return found


def words(pieces: Sequence[str]) -> list[tuple[int, str]]:
    """Of each word that a space is before: the place of its first piece, and its letters up to a mark."""
    starts = [place for place, piece in enumerate(pieces) if piece.startswith(data.SPACE)]
    ends = [*starts[1:], len(pieces)]
    read = ("".join(pieces[start:end])[1:] for start, end in zip(starts, ends, strict=True))
    return [(start, found[0]) for start, word in zip(starts, read, strict=True) if (found := re.match("[a-z]+", word))]


def parts_told(
    experts: Int[Tensor, " tokens"], places: Int[Tensor, " words"], kinds: list[str], parts: dict[str, int]
) -> dict[str, float]:
    """The share of the parts' entropy that the expert of a word's first piece tells.

    told: with parts as they are. tokens: with parts permuted over the words of the text. words: permuted over the
    different words, each of which keeps one part that is another's.
    """
    draw = torch.Generator().manual_seed(0)
    chosen, different = experts[places], sorted(set(kinds))
    index = {word: place for place, word in enumerate(different)}
    which = torch.tensor([index[word] for word in kinds])
    part = torch.tensor([parts[word] for word in different])
    over_words = [share_told(chosen, part[torch.randperm(len(part), generator=draw)][which]) for _ in range(PERMUTED)]
    shuffled = torch.randperm(len(which), generator=draw)
    return {
        "told": share_told(chosen, part[which]), "tokens": share_told(chosen, part[which[shuffled]]),
        "words": sum(over_words) / PERMUTED,
    }  # fmt: skip


@one_thread()
def speech(run: Run, name: str) -> dict[str, Any]:
    """One of ARMS, trained as `training.trained` does it: of each layer, what its first choices tell of held-out words.

    covered: the share of the words that the lexicon knows
    experts: of each in the last layer, how many words of each part of speech it serves, and which it serves most often
    """
    arm = ARMS[name]
    model = LanguageModel(data.PIECES, arm).to(run.device)
    steps, scored = (QUICK, 4096) if run.quick else (arm.steps, SCORED)
    adam, schedule = optimiser(model, steps)
    generator = torch.Generator().manual_seed(run.seed)
    train = data.pieces("train")
    for _ in run.progress(range(steps), f"{name}, seed {run.seed}"):
        ids = data.draw(train, LENGTH, BATCH, generator).to(model.device)
        logits, infos = model(ids[:, :-1])
        loss = objective(logits, infos, ids[:, 1:], arm)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adam.step()
        schedule.step()
    held_out = data.windows(data.pieces("test"), LENGTH, scored)
    nats, routed = evaluate(model, held_out)
    tokenizer, known = data.vocabulary(), lexicon()
    found = words([tokenizer.id_to_token(piece) for piece in held_out[:, :-1].flatten().tolist()])  # pyright: ignore[reportArgumentType]
    tagged = [(place, word) for place, word in found if word in known]
    places = torch.tensor([place for place, _ in tagged])
    read = [word for _, word in tagged]
    layers = [parts_told(experts[:, 0], places, read, known) for _, experts in routed]
    served = [Counter[str]() for _ in range(arm.experts)]
    for expert, word in zip(routed[-1][1][places, 0].tolist(), read, strict=True):
        served[expert][word] += 1
    return {
        "nats": nats, "covered": len(tagged) / len(found), "words": len(tagged), "layers": layers,
        "experts": [
            {"parts": [sum(n for word, n in each.items() if known[word] == part) for part in range(len(PARTS))],
             "often": [word for word, _ in each.most_common(OFTEN)]} for each in served
        ],
    }  # fmt: skip
