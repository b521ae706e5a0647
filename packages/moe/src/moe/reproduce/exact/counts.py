"""Parameters and operations of the papers' tables, by `count_moe`."""

from __future__ import annotations

from dataclasses import replace

from papertest.claims import Measured, Run, claim

from moe import config, count

LSTMS = {
    "lstm_2048": "LSTM-2048-512", "lstm_4x": "4xLSTM-512", "lstm_8192": "2xLSTM-8192-1024", "wide": "MoE-1-Wide",
    "moe_4": "MoE-4", "moe_32": "MoE-32", "moe_256": "MoE-256", "moe_256_h": "MoE-256-h", "moe_1024_h": "MoE-1024-h",
    "moe_4096_h": "MoE-4096-h", "moe_34m": "MoE-34M", "moe_143m": "MoE-143M",
}  # fmt: skip
NEWS = {f"news_{n}_h": f"MoE-{n}-h" for n in (256, 1024, 4096, 16384, 65536, 131072)}


def shazeer(left_out: str) -> tuple[dict[str, float], dict[str, float]]:
    """Millions of parameters without embedding and softmax, and of operations, of Tables 7 and 8 but for one row."""
    rows = {part: config.SHAZEER[name] for part, name in LSTMS.items() if part != left_out}
    rows |= {part: config.SHAZEER_NEWS[name] for part, name in NEWS.items()}
    counted = {part: count.count_moe(row) for part, row in rows.items()}
    params = {part: (each.total - each.tables) / 1e6 for part, each in counted.items()}
    return params, {part: each.multiply_adds / 1e6 for part, each in counted.items()}


@claim("shazeer-params")
def shazeer_params(run: Run) -> dict[str, float]:
    """Tables 7 and 8 without MoE-143M."""
    return shazeer("moe_143m")[0]


@claim("shazeer-ops")
def shazeer_ops(run: Run) -> dict[str, float]:
    """Tables 7 and 8 without MoE-256."""
    return shazeer("moe_256")[1]


@claim("switch-params")
def switch_params(run: Run) -> Measured:
    """T5-Base in millions, the others in billions; Switch-Base with 16 to 256 experts."""
    base = config.SWITCH["Switch-Base"]
    models = {"base": config.SWITCH["T5-Base"]} | {f"e_{n}": replace(base, n_experts=n) for n in (16, 32, 64, 128, 256)}
    models |= {"xxl": config.SWITCH["T5-XXL"], "c": config.SWITCH["Switch-C"]}
    exact = {part: count.count_moe(model).total for part, model in models.items()}
    value = {part: n / (1e6 if part == "base" else 1e9) for part, n in exact.items()}
    return Measured(value, {"parameters": exact})


@claim("t5-large-params")
def t5_large_params(run: Run) -> Measured:
    """Table 9's sizes; the details have T5's own feed-forward layer, and Switch-Large in billions with both."""
    large = config.SWITCH["T5-Large"]
    older = replace(large, geglu=False, d_ff=4096)
    both = {"gated_2816": large, "plain_4096": older}
    details = {name: count.count_moe(model).total / 1e6 for name, model in both.items()}
    sparse = {name: count.count_moe(replace(model, n_experts=128)).total / 1e9 for name, model in both.items()}
    return Measured(details["gated_2816"], {"millions": details, "switch_large_billions": sparse})


@claim("switch-flops")
def switch_flops(run: Run) -> dict[str, float]:
    """`t5_flops` in its default accounting."""
    models = {"base": "T5-Base", "large": "T5-Large", "xxl": "T5-XXL", "c": "Switch-C"}
    return {part: count.t5_flops(config.SWITCH[name]) / 1e9 for part, name in models.items()}


@claim("mixtral-params")
def mixtral_params(run: Run) -> Measured:
    """8x7B and 8x22B; the details have the exact numbers, and the experts' share in per cent."""
    small, large = (count.count_moe(config.MIXTRAL[f"Mixtral-{name}"]) for name in ("8x7B", "8x22B"))
    exact = {"total": small.total, "active": small.active, "larger_total": large.total, "larger_active": large.active}
    details = {"parameters": exact, "experts_percent": 100 * small.experts / small.total}
    return Measured({part: n / 1e9 for part, n in exact.items()}, details)


DEEPSEEK = {
    "moe_16b": "DeepSeekMoE-16B", "v2_lite": "DeepSeek-V2-Lite", "v2": "DeepSeek-V2", "v3": "DeepSeek-V3",
}  # fmt: skip


@claim("deepseek-totals")
def deepseek_totals(run: Run) -> Measured:
    """In billions; the details have the exact numbers."""
    exact = {part: count.count_moe(config.DEEPSEEK[name]).total for part, name in DEEPSEEK.items()}
    return Measured({part: n / 1e9 for part, n in exact.items()}, {"parameters": exact})


def deepseek_active() -> dict[str, dict[str, float]]:
    """Billions that a token uses, by what is counted of input's and output's tables, of which each is a half."""
    found: dict[str, dict[str, float]] = {"both_tables": {}, "output_alone": {}, "neither": {}}
    for part, name in DEEPSEEK.items():
        counted = count.count_moe(config.DEEPSEEK[name])
        for way, tables in (("both_tables", 0), ("output_alone", counted.tables / 2), ("neither", counted.tables)):
            found[way][part] = (counted.active - tables) / 1e9
    return found


@claim("deepseek-active")
def deepseek_active_large(run: Run) -> Measured:
    """V2 and V3 without the input's embedding; the details have all ways of counting."""
    found = deepseek_active()
    return Measured({part: found["output_alone"][part] for part in ("v2", "v3")}, {"billions": found})


@claim("deepseek-active-small")
def deepseek_active_small(run: Run) -> Measured:
    """16B and V2-Lite in the same way; the details have all ways of counting."""
    found = deepseek_active()
    return Measured({part: found["output_alone"][part] for part in ("moe_16b", "v2_lite")}, {"billions": found})
