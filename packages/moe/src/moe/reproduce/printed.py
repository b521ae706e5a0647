"""Sums over the papers' own printed numbers, without any code of ours."""

from __future__ import annotations

import math
from typing import Any

from papertest.claims import Measured, Run, claim
from papertest.records import Reported


def cells(entry: Reported, row: str | None = None) -> dict[Any, float]:
    """A row of a table, or its only one, by column."""
    value: Any = entry.value
    columns: Any = entry.columns
    return dict(zip(columns, value[row] if row else value, strict=True))


def lower(ours: float, theirs: float) -> float:
    """Per cent."""
    return 100 * (1 - ours / theirs)


# ---------------------------------------------------------------- Shazeer et al.


def lstms(width: int, units: int) -> int:
    """Two LSTM layers of four gates that see the input and the last output; projected where units are more."""
    return 2 * (4 * 2 * width * units + (units * width if units != width else 0))


@claim("shazeer-moe-256-ops")
def shazeer_moe_256_ops(run: Run) -> Measured:
    """In millions; the details have the parts, and MoE-32's sum with the same formula."""
    size: Any = run.reported["expert-size"].value
    d, k = size["width"], size["k"]
    parts = {"lstm": lstms(d, d), "experts": k * 2 * d * size["hidden"], "gate": 2 * d * 256}
    moe_32 = (parts["lstm"] + parts["experts"] + 2 * d * 32) / 1e6
    return Measured(sum(parts.values()) / 1e6, {"parts": parts, "moe_32": moe_32})


def larger(run: Run, model: str) -> float:
    """Millions of parameters of MoE-34M or MoE-143M: LSTM layers, experts, two levels of gates."""
    size = run.reported["larger-size"]
    d, units, n, hidden = (int(cells(size, row)[model]) for row in ("width", "lstm", "experts", "hidden"))
    branch = int(cells(run.reported["branching"])["table-7"])
    return (lstms(d, units) + n * 2 * d * hidden + 2 * d * (n + branch)) / 1e6


@claim("shazeer-moe-143m-params")
def shazeer_moe_143m_params(run: Run) -> Measured:
    """The details have MoE-34M's sum with the same formula."""
    return Measured(larger(run, "MoE-143M"), {"moe_34m": larger(run, "MoE-34M")})


def total(run: Run, model: str) -> float:
    """Billions of Table 7's parameters and of two tables of the vocabulary."""
    size: Any = run.reported["expert-size"].value
    wide = model in ("2xLSTM-8192-1024", "MoE-34M", "MoE-143M")
    width = cells(run.reported["larger-size"], "width")["MoE-34M"] if wide else size["width"]
    return cells(run.reported["table-7"], "params")[model] / 1e3 + 2 * size["vocabulary"] * width / 1e9


@claim("shazeer-totals")
def shazeer_totals(run: Run) -> dict[str, float]:
    """Seven rows; 2xLSTM-8192-1024 has an embedding of 1024."""
    rows = {"lstm_4x": "4xLSTM-512", "moe_32": "MoE-32", "moe_256": "MoE-256", "moe_1024_h": "MoE-1024-h",
            "moe_4096_h": "MoE-4096-h", "lstm_8192": "2xLSTM-8192-1024", "moe_143m": "MoE-143M"}  # fmt: skip
    return {part: total(run, model) for part, model in rows.items()}


@claim("shazeer-moe-34m-total")
def shazeer_moe_34m_total(run: Run) -> float:
    """The same sum for the row that does not come out."""
    return total(run, "MoE-34M")


@claim("shazeer-24-39-percent")
def shazeer_24_39_percent(run: Run) -> dict[str, float]:
    """Tables 7 and 8."""
    words, news = (cells(run.reported[name], "perplexity") for name in ("table-7", "table-8"))
    ops = cells(run.reported["table-7"], "ops")
    return {
        "capacity": lower(words["MoE-4096-h"], words["MoE-4"]),
        "news": lower(news["MoE-65536-h"], news["4xLSTM-512"]),
        "share": 100 * ops["MoE-4096-h"] / ops["2xLSTM-8192-1024"],
    }


@claim("shazeer-18-percent")
def shazeer_18_percent(run: Run) -> float:
    """Table 7 after 10 epochs."""
    words = cells(run.reported["table-7"], "perplexity")
    return lower(words["MoE-143M"], words["2xLSTM-8192-1024"])


@claim("shazeer-w-load-order")
def shazeer_w_load_order(run: Run) -> list[float]:
    """Table 6 in rising order of w_load; without any loss it is 17.80."""
    loads = cells(run.reported["table-6"], "max_over_mean")
    return [loads[weights] for weights in ("0.2-0.0", "0.01-0.01", "0.1-0.1", "0.0-0.2", "1.0-1.0")]


@claim("shazeer-bleu")
def shazeer_bleu(run: Run) -> list[float]:
    """Tables 2 and 3."""
    moe, gnmt = (cells(run.reported["table-2"], row) for row in ("moe", "gnmt"))
    return [moe[pair] - gnmt[pair] for pair in moe]


@claim("shazeer-multilingual")
def shazeer_multilingual(run: Run) -> dict[str, float]:
    """Table 5."""
    moe, gnmt, single = (cells(run.reported["table-5"], row) for row in ("moe", "gnmt", "single"))
    perplexity: Any = run.reported["table-5-perplexity"].value
    return {
        "multilingual": sum(moe[pair] > gnmt[pair] for pair in moe),
        "single": sum(moe[pair] > single[pair] for pair in moe),
        "most": max(moe[pair] - gnmt[pair] for pair in moe),
        "perplexity": lower(perplexity["moe"], perplexity["gnmt"]),
    }


# ---------------------------------------------------------------- Switch


def sparse(run: Run, model: str, dense: float, experts: float, matrices: int = 3, hidden: float = 0) -> float:
    """Billions: the dense model's, and all but one expert in every so-manieth layer of encoder and decoder."""
    rows = {row: cells(run.reported["table-9"], row)[model] for row in ("width", "hidden", "layers", "every")}
    layers = 2 * rows["layers"] / rows["every"]
    return dense + (experts - 1) * layers * matrices * rows["width"] * (hidden or rows["hidden"]) / 1e9


@claim("switch-xxl-params")
def switch_xxl_params(run: Run) -> Measured:
    """Table 9; the details have 128 experts."""
    dense = cells(run.reported["table-9"], "parameters")["T5-XXL"]
    experts = cells(run.reported["table-9"], "experts")["Switch-XXL"]
    value = sparse(run, "Switch-XXL", dense, experts)
    return Measured(value, {"with_128_experts": sparse(run, "Switch-XXL", dense, 128)})


@claim("switch-large-params")
def switch_large_params(run: Run) -> Measured:
    """Table 9 and the text's 739 million; the details have T5's own feed-forward layer, two matrices of 4096."""
    text: Any = run.reported["text-parameters"].value
    dense, experts = text["large"] / 1e3, cells(run.reported["table-9"], "experts")["Switch-Large"]
    older = sparse(run, "Switch-Large", dense, experts, matrices=2, hidden=4096)
    return Measured(sparse(run, "Switch-Large", dense, experts), {"with_2_x_4096": older})


@claim("switch-base-heads")
def switch_base_heads(run: Run) -> Measured:
    """Table 9; the details have how many heads of 64 make the widths."""
    said: Any = run.reported["table-1-heads"].value
    heads = cells(run.reported["table-9"], "heads")["Switch-Base"]
    return Measured(heads, {"of_64": {"768": said["width"] / 64, "896": said["width_plus"] / 64}})


@claim("switch-low-capacity")
def switch_low_capacity(run: Run) -> dict[str, float]:
    """Table 1."""
    quality = cells(run.reported["table-1"], "quality")
    factors = {"c_1": "1.0", "c_125": "1.25", "c_2": "2.0"}
    return {part: quality[f"Switch-{c}"] - quality[f"MoE-{c}"] for part, c in factors.items()}


@claim("switch-expert-dropout")
def switch_expert_dropout(run: Run) -> Measured:
    """Table 4; the details have the same against T5-Base."""
    rows = {row: cells(run.reported["table-4"], row) for row in ("switch_expert_04", "switch_01", "t5_01")}
    ours = rows["switch_expert_04"]
    better = {row: sum(ours[task] > rows[row][task] for task in ours) for row in ("switch_01", "t5_01")}
    return Measured(better["switch_01"], {"than_t5_base": better["t5_01"]})


@claim("switch-superglue")
def switch_superglue(run: Run) -> dict[str, float]:
    """Table 5."""
    scores = {
        row: cells(run.reported["table-5"], row)["SuperGLUE"]
        for row in ("t5_base", "switch_base", "t5_large", "switch_large")
    }
    return {size: scores[f"switch_{size}"] - scores[f"t5_{size}"] for size in ("base", "large")}


@claim("switch-speedup-text")
def switch_speedup_text(run: Run) -> float:
    """Section 3.1."""
    steps: Any = run.reported["scaling-text"].value
    return steps["t5"] / steps["switch"]


@claim("t5-large-flops")
def t5_large_flops(run: Run) -> float:
    """Table 9."""
    flops = cells(run.reported["table-9"], "flops")
    return flops["T5-Large"] / flops["Switch-Base"]


@claim("distillation-kept")
def distillation_kept(run: Run) -> dict[str, Any]:
    """Tables 6, 7 and 8: what the student gains over what the teacher is ahead."""
    lm: Any = run.reported["table-6"].value
    glue: Any = run.reported["table-8"].value
    teachers, students = (cells(run.reported["table-7"], row) for row in ("teacher", "distilled"))
    alone = lm["t5"]
    return {
        **{part: 100 * (lm[part] - alone) / (lm["switch"] - alone) for part in ("plain", "init", "mix")},
        "sizes": [100 * (students[size] - alone) / (teachers[size] - alone) for size in teachers],
        "superglue": 100 * (glue["distilled"] - glue["t5"]) / (glue["switch"] - glue["t5"]),
    }


@claim("distillation-compression")
def distillation_compression(run: Run) -> Measured:
    """Table 7; the details have it without an embedding of 32,128 × 768 on both sides."""
    size: Any = run.reported["table-6-percent"].value
    student, sizes = size["student"] / 1e3, cells(run.reported["table-7"], "teacher")
    table = 32_128 * 768 / 1e9
    without = [lower(student - table, teacher - table) for teacher in sizes]
    return Measured([lower(student, teacher) for teacher in sizes], {"without_embedding": without})


@claim("distillation-hundredfold")
def distillation_hundredfold(run: Run) -> float:
    """Table 6."""
    size: Any = run.reported["table-6-percent"].value
    return size["teacher"] / size["student"]


@claim("switch-xxl-gaps")
def switch_xxl_gaps(run: Run) -> dict[str, float]:
    """Table 9."""
    early, late = (cells(run.reported["table-9"], row) for row in ("at_250k", "at_500k"))
    return {"more_steps": late["T5-XXL"] - early["T5-XXL"], "at_500k": late["Switch-XXL"] - late["T5-XXL"]}


@claim("switch-both-ahead")
def switch_both_ahead(run: Run) -> dict[str, float]:
    """Table 9."""
    early = cells(run.reported["table-9"], "at_250k")
    return {part: early[model] - early["T5-XXL"] for part, model in (("xxl", "Switch-XXL"), ("c", "Switch-C"))}


@claim("switch-xxl-flops")
def switch_xxl_flops(run: Run) -> float:
    """Table 9."""
    flops = cells(run.reported["table-9"], "flops")
    return flops["Switch-XXL"] / flops["Switch-C"]


# ---------------------------------------------------------------- Mixtral


@claim("mixtral-abstract")
def mixtral_abstract(run: Run) -> dict[str, float]:
    """Table 1: grouped-query attention, router, three matrices per expert, embedding and output."""
    c: Any = run.reported["table-1"].value
    attention = 2 * c["dim"] * (c["n_heads"] + c["n_kv_heads"]) * c["head_dim"]
    rest = c["n_layers"] * (attention + c["dim"] * c["num_experts"]) + 2 * c["vocab_size"] * c["dim"]
    expert = c["n_layers"] * 3 * c["dim"] * c["hidden_dim"]
    return {
        "total": (rest + c["num_experts"] * expert) / 1e9,
        "active": (rest + c["top_k_experts"] * expert) / 1e9,
    }


@claim("mixtral-fewer-active")
def mixtral_fewer_active(run: Run) -> float:
    """Table 2's column of active parameters."""
    size: Any = run.reported["fewer-active"].value
    return size["llama_2_70b"] / size["mixtral"]


@claim("mixtral-all-benchmarks")
def mixtral_all_benchmarks(run: Run) -> Measured:
    """Table 2; the details have the points by which it is behind."""
    ours, theirs = (cells(run.reported["table-2"], row) for row in ("mixtral", "llama_2_70b"))
    behind = {name: theirs[name] - ours[name] for name in ours if ours[name] < theirs[name]}
    return Measured(len(ours) - len(behind), {"behind": behind})


@claim("mixtral-random")
def mixtral_random(run: Run) -> dict[str, float]:
    """Table 1's eight experts and two choices."""
    c: Any = run.reported["table-1"].value
    n, k = c["num_experts"], c["top_k_experts"]
    return {"first": 100 / n, "either": 100 * (1 - math.comb(n - k, k) / math.comb(n, k))}


@claim("mixtral-locality")
def mixtral_locality(run: Run) -> Measured:
    """Table 5; the details have the domain of each least number."""
    value: dict[str, float] = {}
    where: dict[str, str] = {}
    for choice in ("first", "either"):
        entry = run.reported[f"table-5-{choice}"]
        rows: Any = entry.value
        for layer in (15, 31):
            by_domain = {domain: cells(entry, domain)[layer] for domain in rows}
            domain = min(by_domain, key=by_domain.__getitem__)
            value[f"{choice}_{layer}"], where[f"{choice}_{layer}"] = by_domain[domain], domain
    return Measured(value, {"domain": where})


# ---------------------------------------------------------------- DeepSeek


@claim("deepseek-combinations")
def deepseek_combinations(run: Run) -> dict[str, int]:
    """Section 3.1."""
    return {"coarse": math.comb(16, 2), "fine": math.comb(64, 8)}


@claim("deepseek-2b-experts")
def deepseek_2b_experts(run: Run) -> dict[str, float]:
    """Section 4.1.3, with a feed-forward layer twice as large as attention."""
    c: Any = run.reported["validation-size"].value
    layer = c["layers"] * 2 * 4 * c["width"] ** 2 / 1e9
    value = {"experts": c["experts"] * layer, "active": c["active"] * layer}
    return value | {"gshard": 1.5 * value["experts"], "gshard_active": 1.5 * value["active"]}


@claim("deepseek-computation")
def deepseek_computation(run: Run) -> dict[str, float]:
    """Tables 3 and 6."""
    large, small = cells(run.reported["table-6"], "flops"), run.reported["table-3-flops"].value
    assert isinstance(small, dict)
    return {
        "moe_145b": 100 * large["145B"] / large["67B"],
        "moe_142b": 100 * large["142B"] / large["67B"],
        "moe_16b": 100 * float(small["moe_16b"]) / float(small["deepseek_7b"]),  # pyright: ignore[reportArgumentType]
    }


@claim("deepseek-half-activated")
def deepseek_half_activated(run: Run) -> Measured:
    """Table 6; the details have one expert of all layers in billions."""
    rows = {row: cells(run.reported["table-6"], row) for row in ("parameters", "active", "shared", "chosen")}
    fewer_shared = rows["shared"]["145B"] - rows["shared"]["142B"]
    expert = (rows["parameters"]["145B"] - rows["parameters"]["142B"]) / fewer_shared
    fewer = fewer_shared + rows["chosen"]["145B"] - rows["chosen"]["142B"]
    return Measured(rows["active"]["145B"] - fewer * expert, {"expert": expert})


def cached(run: Run) -> tuple[int, int, int]:
    """Numbers per token: V2's, DeepSeek 67B's, and those of multi-head attention of V2's shape."""
    v2: Any = run.reported["v2-cache"].value
    dense: Any = run.reported["deepseek-67b"].value
    return (
        v2["layers"] * (v2["compressed"] + v2["rotary"]),
        dense["layers"] * 2 * dense["kv_heads"] * dense["head"],
        v2["layers"] * 2 * v2["heads"] * v2["head"],
    )


@claim("deepseek-cache-elements")
def deepseek_cache_elements(run: Run) -> Measured:
    """In numbers; the details have it against multi-head attention of V2's shape."""
    v2, dense, same_shape = cached(run)
    return Measured(lower(v2, dense), {"against_same_shape": lower(v2, same_shape)})


@claim("deepseek-cache-bits")
def deepseek_cache_bits(run: Run) -> float:
    """In bits: V2's of Section 3.2.3, and 16."""
    served: Any = run.reported["v2-cache"].value
    v2, dense, _ = cached(run)
    return lower(v2 * served["bits"], dense * 16)


@claim("deepseek-gqa-groups")
def deepseek_gqa_groups(run: Run) -> float:
    """V2's sizes."""
    v2: Any = run.reported["v2-cache"].value
    return (v2["compressed"] + v2["rotary"]) / (2 * v2["head"])


@claim("deepseek-cache-left")
def deepseek_cache_left(run: Run) -> list[float]:
    """V2, Table 9."""
    mha, mla = (cells(run.reported["v2-table-9"], row) for row in ("mha", "mla"))
    return [100 * mla[size] / mha[size] for size in mha]


@claim("deepseek-cost")
def deepseek_cost(run: Run) -> dict[str, float]:
    """V2, Section 3.2.3, and V3, Table 1; a day has 24 hours on all GPUs."""
    v2: Any = run.reported["v2-training"].value
    v3: Any = run.reported["v3-cost"].value
    hours = v3["pretraining"] + v3["context"] + v3["post"]
    per_trillion = v3["pretraining"] / v3["tokens"]
    return {
        "saved": lower(v2["v2"], v2["deepseek_67b"]),
        "hours": hours,
        "dollars": hours * v3["rate"] / 1e3,
        "per_trillion": per_trillion,
        "days": 1e3 * per_trillion / v3["gpus"] / 24,
    }
