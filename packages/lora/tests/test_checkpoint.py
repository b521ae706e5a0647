"""Adapters in files: what comes back, what is refused, and that nothing changes then."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_cases import Conv1D, assert_same, ids, randomise, state, tiny
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from lora import (
    LoRALinear,
    LoRAMergedLinear,
    add_lora,
    checkpoint,
    load_adapter,
    lora_state_dict,
    mark_trainable,
    merge_lora,
    save_adapter,
    set_adapter,
)

CONFIG, WEIGHTS = checkpoint.CONFIG, checkpoint.WEIGHTS


def adapted(r: int = 2, **options: Any) -> Any:
    return randomise(add_lora(tiny(), ("q_proj", "embed"), r=r, **options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_adapter(adapted(), tmp_path / "saved")
    return tmp_path / "saved"


def change(folder: Path, **options: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **options}))


def rewrite(folder: Path, edit: Any) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


# ------------------------------------------------------------------------------------------------ there and back


def test_an_adapter_comes_back_bit_by_bit(folder):
    model = adapted()
    other = tiny()
    assert load_adapter(other, folder) is other
    assert torch.equal(other(ids()), model(ids()))
    assert_equal = {n: torch.equal(t, lora_state_dict(model)[n]) for n, t in lora_state_dict(other).items()}
    assert all(assert_equal.values())
    assert assert_equal.keys() == lora_state_dict(model).keys()
    assert other.layers[0].q_proj.pairs == model.layers[0].q_proj.pairs
    trains = {name for name, parameter in other.named_parameters() if parameter.requires_grad}
    assert trains == set(lora_state_dict(other))


def test_the_files_are_laid_out_as_in_peft(folder):
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(folder / WEIGHTS).items()}
    assert shapes == {
        "base_model.model.embed.lora_embedding_A": (2, 11),
        "base_model.model.embed.lora_embedding_B": (8, 2),
        **{f"base_model.model.layers.{i}.q_proj.lora_A.weight": (2, 8) for i in (0, 1)},
        **{f"base_model.model.layers.{i}.q_proj.lora_B.weight": (8, 2) for i in (0, 1)},
    }
    config = json.loads((folder / CONFIG).read_text())
    assert config["target_modules"] == ["embed", "q_proj"]
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["bias"]) == ("LORA", 2, 16, "none")


def test_several_are_loaded_onto_one_base_and_chosen_between(tmp_path):
    for name, seed in (("a", 5), ("b", 6)):
        save_adapter(randomise(add_lora(tiny(), r=2), seed=seed), tmp_path / name)
    model = tiny()
    for name in "ab":
        load_adapter(model, tmp_path / name, name)
    for name, seed in (("a", 5), ("b", 6)):
        alone = randomise(add_lora(tiny(), r=2), seed=seed)
        assert torch.equal(set_adapter(model, name)(ids()), alone(ids()))
    assert torch.equal(set_adapter(model, None)(ids()), tiny()(ids()))


def test_ranks_alphas_and_names_that_differ_from_layer_to_layer(tmp_path):
    """layers.1.q_proj is adapted, layers.0.q_proj not: the end of the name is not enough."""
    model = tiny()
    model.layers[1].q_proj = LoRALinear(model.layers[1].q_proj, 3, 5, 0.25)
    model.layers[1].v_proj = LoRALinear(model.layers[1].v_proj, 2, 16)
    model.layers[0].v_proj = LoRALinear(model.layers[0].v_proj, 2, 16)
    randomise(mark_trainable(model)).head.requires_grad_()  # a new head is another file's business
    save_adapter(model, tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (2, 16, 0.25)
    assert isinstance(config["target_modules"], str)
    other = load_adapter(tiny(), tmp_path)
    assert torch.equal(other(ids()), model(ids()))
    assert (other.layers[1].q_proj.pairs["default"].r, other.layers[1].q_proj.pairs["default"].alpha) == (3, 5)


def test_a_rank_is_for_one_layer_though_its_name_is_the_end_of_anothers(tmp_path):
    def bare() -> Any:
        torch.manual_seed(0)
        return nn.ModuleDict(
            {"fc": nn.Linear(4, 4), "block": nn.ModuleDict({x: nn.Linear(4, 4) for x in ("fc", "gc")})}
        )

    model = add_lora(bare(), ["block.fc", "block.gc"], 2)
    model["fc"] = LoRALinear(model["fc"], 3, 5)
    save_adapter(randomise(mark_trainable(model)), tmp_path)
    other = load_adapter(bare(), tmp_path)
    assert other["fc"].pairs == model["fc"].pairs
    assert other["block"]["fc"].pairs == model["block"]["fc"].pairs


@pytest.mark.parametrize("base", [lambda: nn.Linear(4, 6), lambda: Conv1D(6, 4)])
def test_the_parts_of_a_fused_layer_become_one_pair_and_parts_again(base, tmp_path):
    def bare() -> Any:
        torch.manual_seed(0)
        return nn.ModuleDict({"fc": base()})

    model = randomise(add_lora(bare(), ["fc"], 2, 3, enabled=(True, False, True)))
    x = torch.randn(5, 4)
    save_adapter(model, tmp_path)
    whole = load_adapter(bare(), tmp_path)
    assert not isinstance(whole["fc"], LoRAMergedLinear)
    assert whole["fc"].pairs["default"].r == 4
    assert torch.allclose(whole["fc"](x), model["fc"](x))
    again = load_adapter(add_lora(bare(), ["fc"], adapter="other", r=1, enabled=(True, False, True)), tmp_path)
    assert again["fc"].pairs["default"] == model["fc"].pairs["default"]
    assert torch.equal(again["fc"](x), model["fc"](x))
    others = add_lora(bare(), ["fc"], adapter="other", r=1, enabled=(True, True, False))
    before = state(others)
    with pytest.raises(
        ValueError, match=r"fc is a LoRAMergedLinear with parts \(True, True, False\) enabled, and B is not"
    ):
        load_adapter(others, tmp_path)
    assert_same(before, state(others))


def test_a_home_folder_and_one_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_adapter(adapted(), "~/new/folders/here")
    assert (tmp_path / "new/folders/here" / WEIGHTS).is_file()
    assert torch.equal(load_adapter(tiny(), "~/new/folders/here")(ids()), adapted()(ids()))


def test_half_bases_share_files_with_others(tmp_path):
    model = randomise(add_lora(tiny().bfloat16(), ("q_proj", "embed"), r=2))
    save_adapter(model, tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS).values()} == {torch.float32}
    assert torch.equal(load_adapter(tiny(), tmp_path)(ids()), adapted()(ids()))
    rewrite(tmp_path, lambda tensors: tensors.update({name: t.bfloat16() for name, t in tensors.items()}))
    assert lora_state_dict(load_adapter(tiny(), tmp_path))["embed.lora_A.default"].dtype == torch.float32


def test_a_merged_model_saves_the_adapter_that_is_merged(tmp_path):
    model = adapted()
    h = model(ids())
    save_adapter(merge_lora(model), tmp_path)
    assert torch.equal(load_adapter(tiny(), tmp_path)(ids()), h)


# ------------------------------------------------------------------------------------ compiled and wrapped models


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="eager")


def distributed(model: nn.Module) -> nn.Module:
    """As it is inside of a process group, which a test of names has no need of."""
    wrapper = DistributedDataParallel.__new__(DistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = model
    return wrapper


def inside(wrap: Any) -> Any:
    def edit(model: Any) -> Any:
        model.layers[1] = wrap(model.layers[1])
        return model

    return edit


WRAPPED = {
    "plain": lambda model: model,
    "compiled": compiled,
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": distributed,
    "compiled DataParallel": lambda model: compiled(nn.DataParallel(model)),
    "DataParallel compiled": lambda model: nn.DataParallel(compiled(model)),
    "averaged": AveragedModel,
    "a block compiled": inside(compiled),
    "a block recomputed": inside(checkpoint_wrapper),
    "a block in parallel": inside(nn.DataParallel),
}


def uneven() -> Any:
    """layers.1 has another rank and alpha, and layers.0.v_proj has no adapter."""
    model = add_lora(tiny(), ("q_proj", "embed"), r=2)
    model.layers[1].q_proj = LoRALinear(tiny().layers[1].q_proj, 3, 5)
    model.layers[1].v_proj = LoRALinear(model.layers[1].v_proj, 2, 16)
    return randomise(mark_trainable(model))


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    save_adapter(uneven(), folder)
    return folder


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("kind", WRAPPED)
def test_a_wrapped_model_writes_the_files_of_the_plain_one(kind, merged, plain_folder, tmp_path):
    model = WRAPPED[kind](merge_lora(uneven()) if merged else uneven())
    save_adapter(model, tmp_path)
    assert (tmp_path / CONFIG).read_text() == (plain_folder / CONFIG).read_text()
    tensors, plain = load_file(tmp_path / WEIGHTS), load_file(plain_folder / WEIGHTS)
    assert tensors.keys() == plain.keys()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_wrapped_model_names_its_targets_as_the_plain_one(kind, folder, tmp_path):
    """By the ends of the names, where these name nothing else."""
    save_adapter(WRAPPED[kind](adapted()), tmp_path / "wrapped")
    assert (tmp_path / "wrapped" / CONFIG).read_text() == (folder / CONFIG).read_text()


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_wrapped_model_reads_the_files_of_the_plain_one(kind, plain_folder):
    wrapped = WRAPPED[kind](tiny())
    assert load_adapter(wrapped, plain_folder) is wrapped
    tensors = dict(zip(lora_state_dict(uneven()), lora_state_dict(wrapped).values(), strict=True))
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in lora_state_dict(uneven()).items())


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_wrapped_model_reads_its_own_files_beside_what_it_has(kind, tmp_path):
    wrapped = WRAPPED[kind](uneven())
    save_adapter(wrapped, tmp_path / "a")
    load_adapter(wrapped, tmp_path / "a", "b")
    save_adapter(wrapped, tmp_path / "b", "b")
    assert (tmp_path / "a" / CONFIG).read_text() == (tmp_path / "b" / CONFIG).read_text()
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("kind", ["compiled", "a block compiled"])
def test_a_model_that_is_compiled_and_has_run_uses_what_is_loaded(kind, plain_folder):
    model = WRAPPED[kind](tiny())
    assert torch.equal(model(ids()), tiny()(ids()))
    assert torch.equal(load_adapter(model, plain_folder)(ids()), uneven()(ids()))


def test_a_layer_compiled_by_itself_is_read_where_it_is_adapted_and_refused_where_it_is_not(plain_folder, tmp_path):
    """What is compiled keeps to the layer that it was made of: an adapter put in its place would have no effect."""
    model = uneven()
    model.layers[0].q_proj = compiled(model.layers[0].q_proj)
    save_adapter(model, tmp_path)
    assert load_file(tmp_path / WEIGHTS).keys() == load_file(plain_folder / WEIGHTS).keys()
    load_adapter(model, tmp_path, "b")
    assert torch.equal(model(ids()), uneven()(ids()))
    others = [tiny(), tiny()]
    others[0].layers[0].q_proj = compiled(others[0].layers[0].q_proj)
    others[1].layers[0].q_proj.compile(backend="eager")
    for other in others:
        before = state(other)
        with pytest.raises(
            ValueError,
            match=r"layers.0.q_proj(._orig_mod)? cannot be adapted: it is compiled by itself: .*compile it after that",
        ):
            load_adapter(other, plain_folder)
        assert_same(before, state(other))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod."])
@pytest.mark.parametrize("kind", ["plain", "compiled", "DataParallel"])
def test_files_with_names_of_wrappers_are_read(prefix, kind, plain_folder, tmp_path):
    """Others write them, and so did we."""
    save_adapter(uneven(), tmp_path)
    old = "base_model.model."
    save_file({name.replace(old, old + prefix): t for name, t in load_file(tmp_path / WEIGHTS).items()},
              tmp_path / WEIGHTS)  # fmt: skip
    escaped = prefix.replace(".", r"\.")
    patterns = json.loads((tmp_path / CONFIG).read_text())
    change(tmp_path, **{key: {f"^{escaped}{name[1:]}": value for name, value in patterns[key].items()}
                        for key in ("rank_pattern", "alpha_pattern")})  # fmt: skip
    model = tiny()
    load_adapter(WRAPPED[kind](model), tmp_path)
    assert torch.equal(model(ids()), uneven()(ids()))
    rewrite(tmp_path, lambda tensors: tensors.update(load_file(plain_folder / WEIGHTS)))
    with pytest.raises(ValueError, match=r"layers.0.q_proj and .*layers.0.q_proj are one layer of the model"):
        load_adapter(tiny(), tmp_path)


def test_a_part_of_the_model_that_is_called_module_keeps_its_name(tmp_path):
    def bare() -> Any:
        torch.manual_seed(0)
        return nn.ModuleDict({"module": nn.ModuleDict({"fc": nn.Linear(4, 4)})})

    for wrap in (lambda model: model, nn.DataParallel):
        model = randomise(add_lora(bare(), ["fc"], 2))
        save_adapter(wrap(model), tmp_path)
        assert {name[:27] for name in load_file(tmp_path / WEIGHTS)} == {"base_model.model.module.fc."}
        other = bare()
        load_adapter(wrap(other), tmp_path)
        assert torch.equal(other["module"]["fc"](torch.ones(4)), model["module"]["fc"](torch.ones(4)))


def test_a_weight_of_the_base_is_found_in_a_wrapped_model(folder):
    model = tiny()
    weights = {f"base_model.model.{name}": model.get_parameter(f"{name.replace('base_layer.', '')}").data
               for name in ("embed.base_layer.weight", "layers.1.norm.bias")}  # fmt: skip
    rewrite(folder, lambda tensors: tensors.update(weights))
    for kind in WRAPPED:
        load_adapter(WRAPPED[kind](tiny()), folder)


# ------------------------------------------------------------------------------------------- stopped in the middle


class Stop:
    """Raises KeyboardInterrupt in the n-th of the calls that write, with half a file written."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, call: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.n -= 1
            if self.n >= 0:
                return call(*args, **kwargs)
            for path in args[:2]:
                if call is not replace and isinstance(path, Path):
                    path.write_bytes(b"half")
            raise KeyboardInterrupt

        return wrapped


replace = os.replace


@pytest.mark.parametrize("n", [0, 1, 2])
def test_an_interrupted_save_leaves_the_old_files(folder, monkeypatch, n):
    old = {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    stop = Stop(n)
    monkeypatch.setattr(checkpoint, "save_file", stop(checkpoint.save_file))
    monkeypatch.setattr(Path, "write_text", stop(Path.write_text))
    monkeypatch.setattr(os, "replace", stop(replace))
    with pytest.raises(KeyboardInterrupt):
        save_adapter(randomise(adapted(r=3), seed=9), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old


def test_a_disk_that_is_full_leaves_the_old_files(folder, monkeypatch):
    old = {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}

    def cut(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", cut)
    with pytest.raises(OSError, match="No space left"):
        save_adapter(adapted(r=3), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old


def test_what_cannot_be_saved(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="path must be a folder, and .*file is a file"):
        save_adapter(adapted(), tmp_path / "file")
    with pytest.raises(ValueError, match="layers.0.q_proj.bias trains and would be lost: an adapter is A and B alone"):
        save_adapter(mark_trainable(adapted(), "lora"), tmp_path / "x")
    with pytest.raises(ValueError, match="model must have the adapted layer in it"):
        save_adapter(LoRALinear(nn.Linear(2, 2)), tmp_path / "x")
    with pytest.raises(ValueError, match="model must have the adapted layer in it"):
        save_adapter(nn.DataParallel(LoRALinear(nn.Linear(2, 2))), tmp_path / "x")
    assert not (tmp_path / "x").exists()


# ----------------------------------------------------------------------------------------------- refused loads


def cut_short(name: str, share: float) -> Any:
    def edit(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return edit


def pop(key: str) -> Any:
    return lambda folder: rewrite(folder, lambda tensors: tensors.pop(key))


def put(key: str, *shape: int) -> Any:
    return lambda folder: rewrite(folder, lambda tensors: tensors.update({key: torch.zeros(shape)}))


def option(**options: Any) -> Any:
    return lambda folder: change(folder, **options)


def without(key: str) -> Any:
    def edit(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        del config[key]
        (folder / CONFIG).write_text(json.dumps(config))

    return edit


Q = "base_model.model.layers.0.q_proj"
BAD = {
    "no config": (lambda f: (f / CONFIG).unlink(), "adapter_config.json is missing"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "adapter_model.safetensors is missing"),
    "config cut short": (cut_short(CONFIG, 0.5), "adapter_config.json is damaged or cut short"),
    "config empty": (cut_short(CONFIG, 0), "adapter_config.json is damaged or cut short"),
    "config no text": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), "adapter_config.json is damaged"),
    "config a list": (lambda f: (f / CONFIG).write_text("[]"), "must have the peft_type LORA, got None"),
    "weights cut short": (cut_short(WEIGHTS, 0.9), "adapter_model.safetensors is damaged or cut short"),
    "weights without data": (cut_short(WEIGHTS, 0.2), "adapter_model.safetensors is damaged or cut short"),
    "weights empty": (cut_short(WEIGHTS, 0), "adapter_model.safetensors is damaged or cut short"),
    "another method": (option(peft_type="IA3"), "must have the peft_type LORA, got 'IA3'"),
    "no r": (without("r"), "must have r"),
    "DoRA": (option(use_dora=True), "must be of plain LoRA, and has use_dora=True"),
    "rsLoRA": (option(use_rslora=True), "must be of plain LoRA, and has use_rslora=True"),
    "two": (option(use_dora=True, modules_to_save=["head"]), r"has use_dora=True, modules_to_save=\['head'\]"),
    "biases": (option(bias="all"), "has bias='all'"),
    "PiSSA": (option(init_lora_weights="pissa"), "has init_lora_weights='pissa'"),
    "unheard of": (option(use_nonsense=3), "has use_nonsense=3"),
    "r of no number": (option(r="2"), "r must be a whole number of at least 1, got '2'"),
    "alpha 0": (option(lora_alpha=0), "alpha must be a positive number, got 0"),
    "another r": (option(r=3), "has r=3 for .* in adapter_config.json and 2 in adapter_model.safetensors"),
    "another rank": (option(rank_pattern={"q_proj": 4}), "has r=4 for layers.0.q_proj"),
    "ranks in a list": (option(rank_pattern=[4]), r"must be of plain LoRA, and has rank_pattern=\[4\]"),
    "alphas that are no pattern": (option(alpha_pattern={"q_(": 4}), r"has alpha_pattern=\{'q_\(': 4\}"),
    "targets that are numbers": (option(target_modules=[4]), r"has target_modules=\[4\]"),
    "targets that are no expression": (option(target_modules="q_("), r"has target_modules='q_\('"),
    "dropout of no number": (option(lora_dropout="0"), "dropout must be from 0 to below 1, got '0'"),
    "a layer too many": (put(f"{Q}.x.lora_A.weight", 2, 8), "layers.0.q_proj.x is not in the model"),
    "a layer too few": (
        lambda f: (pop(f"{Q}.lora_A.weight")(f), pop(f"{Q}.lora_B.weight")(f)),
        "is not an adapter of this model: layers.0.q_proj has no A and B in the file",
    ),
    "no B": (pop(f"{Q}.lora_B.weight"), "layers.0.q_proj has no B in the file"),
    "no A": (pop(f"{Q}.lora_A.weight"), "layers.0.q_proj has no A in the file"),
    "A too wide": (put(f"{Q}.lora_A.weight", 2, 9), r"lora_A.weight must have the shape \(r, 8\) .*, got \(2, 9\)"),
    "B too long": (put(f"{Q}.lora_B.weight", 9, 2), r"lora_B.weight must have the shape \(8, r\) .*, got \(9, 2\)"),
    "B flat": (put(f"{Q}.lora_B.weight", 16), r"lora_B.weight must have the shape \(8, r\) for the model, got \(16,\)"),
    "two ranks": (put(f"{Q}.lora_B.weight", 8, 3), r"layers.0.q_proj has A \(2, 8\) and B \(8, 3\), of two ranks"),
    "a layer of another kind": (put("base_model.model.layers.0.norm.lora_A.weight", 2, 8), "norm is a LayerNorm"),
    "an embedding's ends": (put(f"{Q}.lora_embedding_A", 2, 8), "Linear in the model, and lora_embedding_A is not"),
    "a strange key": (put("something", 2), "something is no A or B, nor a weight of the model as it stands there"),
    "a base's weight": (put("base_model.model.embed.base_layer.weight", 11, 8), "embed.base_layer.weight is no A or B"),
    "nothing": (lambda f: rewrite(f, lambda tensors: tensors.clear()), "and 1 more|it has no A and B|has no A and B"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("has", ["no adapter", "another"])
def test_a_load_that_fails_changes_nothing(folder, case, has):
    edit, message = BAD[case]
    edit(folder)
    model = tiny() if has == "no adapter" else randomise(add_lora(tiny(), r=1, adapter="other"), "other")
    before, h = state(model), model(ids())
    with pytest.raises(FileNotFoundError if "missing" in message else ValueError, match=message):
        load_adapter(model, folder)
    assert_same(before, state(model))
    assert torch.equal(model(ids()), h)
    assert not hasattr(model.layers[0].q_proj, "lora_A") or "default" not in model.layers[0].q_proj.lora_A


def test_an_adapter_of_another_base_is_told_by_its_layers(folder):
    wide = nn.ModuleDict(
        {"embed": nn.Embedding(12, 8), "layers": nn.ModuleList([nn.ModuleDict({"q_proj": nn.Linear(7, 8)})])}
    )
    with pytest.raises(ValueError, match=r"embed.lora_embedding_A must have the shape \(r, 12\) .*; layers.0.q_proj.*; "
                                         "layers.1.q_proj is not in the model"):  # fmt: skip
        load_adapter(wide, folder)


def test_what_cannot_be_put_into_this_model_now(folder):
    model = load_adapter(tiny(), folder)
    before = state(model)
    with pytest.raises(ValueError, match="adapter must be a new name, and embed has 'default' already"):
        load_adapter(model, folder)
    with pytest.raises(ValueError, match="adapter must be a name without a point"):
        load_adapter(model, folder, "a.b")
    merge_lora(model)
    with pytest.raises(ValueError, match="embed is merged: call unmerge_lora"):
        load_adapter(model, folder, "b")
    model.embed.unmerge()
    model.layers[0].q_proj.unmerge()
    model.layers[1].q_proj.unmerge()
    assert_same(before, state(model))


def test_a_weight_of_the_base_in_the_file_is_taken_for_what_it_is(folder):
    """peft adds an embedding's own weight."""
    model = tiny()
    rewrite(
        folder, lambda tensors: tensors.update({"base_model.model.embed.base_layer.weight": model.embed.weight.data})
    )
    assert torch.equal(load_adapter(model, folder)(ids()), adapted()(ids()))
