"""ALiBi: does what the text says follow from Tables 1 to 5, 11 and 12?"""

from __future__ import annotations

from typing import Any

from papertest.claims import Measured, Run, claim
from papertest.records import Reported


def speeds(entry: Reported) -> dict[str, dict[int, float]]:
    """The rows of a table by evaluation or training length."""
    rows: Any = entry.value
    columns: Any = entry.columns
    return {name: dict(zip(columns, row, strict=False)) for name, row in rows.items()}


@claim("alibi-memory-text")
def alibi_memory_text(run: Run) -> dict[str, float]:
    """Table 11: GB that ALiBi of 512 and of 1024 save against sinusoidal of twice the length, and per cent."""
    rows: Any = run.reported["table-11"].value
    value: dict[str, float] = {}
    for length in (512, 1024):
        short, long = rows[f"alibi_{length}"][0], rows[f"sinusoidal_{2 * length}"][0]
        value[f"gb_{length}"] = long - short
        value[f"percent_{length}"] = 100 * (1 - short / long)
    return value


@claim("alibi-equal-time")
def alibi_equal_time(run: Run) -> Measured:
    """Table 11 at equal time; the details have Table 12 at equal updates: ALiBi minus the other of twice its length."""
    rows: Any = run.reported["table-11"].value
    equal = speeds(run.reported["table-12"])
    later = {
        str(length): equal[f"alibi_{length}"][2 * length] - equal[f"sinusoidal_{2 * length}"][2 * length]
        for length in (512, 1024)
    }
    value = {
        "behind": rows["alibi_512"][2] - rows["sinusoidal_1024"][2],
        "ahead": rows["sinusoidal_2048"][2] - rows["alibi_1024"][2],
    }
    return Measured(value, {"alibi_behind_at_equal_updates": later})


@claim("alibi-speedup-text")
def alibi_speedup_text(run: Run) -> float:
    """Table 1: ALiBi at 512 over sinusoidal at 3072."""
    train = speeds(run.reported["table-1-train"])
    return train["alibi"][512] / train["sinusoidal"][3072]


@claim("alibi-best-lengths")
def alibi_best_lengths(run: Run) -> dict[str, list[int]]:
    """Tables 2 and 3: the first evaluation length with the least perplexity, minus the training length."""
    found: dict[str, list[int]] = {"sinusoidal": [], "rotary": [], "t5_bias": []}
    for name, trained in (("table-2", 512), ("table-3", 1024)):
        rows = speeds(run.reported[name])
        for method, lengths in found.items():
            lengths.append(min(rows[method], key=rows[method].__getitem__) - trained)
    return found


@claim("alibi-overhead-text")
def alibi_overhead_text(run: Run) -> Measured:
    """Table 1: per cent between ALiBi and sinusoidal, whichever is faster; the details keep the sign."""
    signed: dict[str, dict[str, float]] = {}
    for part, name in (("training", "table-1-train"), ("evaluation", "table-1-evaluation")):
        rows = speeds(run.reported[name])
        signed[part] = {str(n): 100 * (rows["alibi"][n] / rows["sinusoidal"][n] - 1) for n in rows["alibi"]}
    return Measured({part: max(map(abs, each.values())) for part, each in signed.items()}, {"alibi_faster_by": signed})


@claim("t5-twice-as-slow")
def t5_twice_as_slow(run: Run) -> Measured:
    """Table 1: sinusoidal's training speed over the T5 bias's; the details have what the last digits allow at most."""
    rows = speeds(run.reported["table-1-train"])
    ratios = {n: rows["sinusoidal"][n] / rows["t5_bias"][n] for n in rows["t5_bias"]}
    most = {str(n): (rows["sinusoidal"][n] + 0.05) / (rows["t5_bias"][n] - 0.05) for n in ratios}
    return Measured(min(ratios.values()), {"ratios": {str(n): r for n, r in ratios.items()}, "at_most": most})


@claim("sinusoidal-speed-text")
def sinusoidal_speed_text(run: Run) -> Measured:
    """Table 1: sinusoidal at 1024 and the T5 bias at 512; the details have the length of the text's number."""
    rows = speeds(run.reported["table-1-train"])
    text: Any = run.reported["sinusoidal-speed-text"].value
    has = [n for n, speed in rows["sinusoidal"].items() if speed == text["sinusoidal"]]
    value = {"sinusoidal": rows["sinusoidal"][1024], "t5_bias": rows["t5_bias"][512]}
    return Measured(value, {"lengths_with_the_text_s_number": has})


@claim("alibi-significance")
def alibi_significance(run: Run) -> float:
    """Table 5 at 3072: sinusoidal of 3072 minus ALiBi of 512, over the former's standard deviation."""
    rows = speeds(run.reported["table-5"])
    spread: Any = run.reported["table-5-spread"].value
    return (rows["sinusoidal"][3072] - rows["alibi_512"][3072]) / spread
