"""An adapter in a folder, as peft lays it out: `adapter_config.json` and `adapter_model.safetensors`.

A layer called `name` is there as `base_model.model.name.lora_A.weight` and `….lora_B.weight`, an embedding as
`….lora_embedding_A` and `….lora_embedding_B`: A (r, k) and B (d, r) of Eq. 3 in each case. What torch.compile,
DataParallel and the like put into the names is not in the files.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from lora.adapt import Model, check_new, layers_with, names_it, put
from lora.layers import LoRAEmbedding, LoRALayer, Pair, is_conv1d
from lora.merged import LoRAMergedLinear

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_ENDS = {"lora_A.weight": "A", "lora_B.weight": "B", "lora_embedding_A": "A", "lora_embedding_B": "B"}
_KEY = re.compile(rf"{re.escape(_PREFIX)}(.+)\.({'|'.join(map(re.escape, _ENDS))})")
_BASE = re.compile(rf"{re.escape(_PREFIX)}(.+?)\.(?:base_layer\.)?(weight|bias)")  # peft keeps adapted embeddings whole

_READ = {"peft_type", "r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern", "target_modules", "bias",
         "init_lora_weights"}  # fmt: skip
_NARROW = {"exclude_modules", "layers_to_transform", "layers_pattern"}  # which of the targets are adapted
# the last four say how A and B started; whether W_0 was left as it was is said by init_lora_weights
_NO_MATTER = {"auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode", "megatron_core",
              "peft_version", "qalora_group_size", "revision", "runtime_config", "task_type",
              "corda_config", "eva_config", "loftq_config", "lora_ga_config"}  # fmt: skip
KNOWN = _READ | _NARROW | _NO_MATTER
"""The options of peft that are not refused."""
_STARTS = (True, False, None, "gaussian", "orthogonal", "eva", "mica")  # peft's others write to W_0

_WRAPPED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # torch's names for what it wraps
_WRAPPERS = (nn.DataParallel, DistributedDataParallel, AveragedModel)  # these call it `module`, as others call theirs


def save_adapter(model: nn.Module, path: str | os.PathLike[str], adapter: str = "default") -> None:
    """Write one adapter of the model into the folder `path`, which is made if need be.

    Each file is replaced at once, when both are written: who is stopped before that leaves the old ones. peft reads
    them, `PeftModel.from_pretrained(base, path)`. It has one dropout for all layers: the largest is written. The parts
    of a LoRAMergedLinear become one pair for the whole layer, of their ranks added up, with zeros in B. A model that is
    compiled or wrapped, as by DataParallel, gives the files of the plain one.

    Raises ValueError for an adapter that the model does not have, for a path that is a file, and where W_0 or the bias
    of an adapted layer trains, which no file of an adapter has.
    """
    found = layers_with(model, adapter)
    plain = _plain_names(dict(model.named_modules()))
    layers = {plain[name]: layer for name, layer in found.items()}
    if "" in layers:
        raise ValueError("model must have the adapted layer in it, and is that layer itself: it has no name for a file")
    for name, layer in layers.items():
        for own, parameter in layer.named_parameters(recurse=False):
            if parameter.requires_grad:
                raise ValueError(f"{name}.{own} trains and would be lost: an adapter is A and B alone, and "
                                 "leaves the base as it is; call mark_trainable(model), or keep it too")  # fmt: skip
    folder = _folder(path)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"path must be a folder, and {folder} is a file")
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        for factor, end in zip(layer.factors(adapter), _ends(layer), strict=True):
            tensors[f"{_PREFIX}{name}.{end}"] = factor.detach().cpu().contiguous()
    config = json.dumps(_config(set(plain.values()), layers, adapter), indent=2, sort_keys=True)

    folder.mkdir(parents=True, exist_ok=True)
    weights_file, config_file = (folder / f".{name}.{os.getpid()}" for name in (WEIGHTS, CONFIG))
    try:
        save_file(tensors, weights_file, {"format": "pt"})
        config_file.write_text(config, "utf-8")
        os.replace(weights_file, folder / WEIGHTS)
        os.replace(config_file, folder / CONFIG)
    finally:
        weights_file.unlink(missing_ok=True)
        config_file.unlink(missing_ok=True)


def _folder(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path must be the path of a folder, got {path!r}")
    return Path(path).expanduser()


def _plain_names(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """The name of each module, and that without the parts which are a wrapper's; a wrapper has that of its content."""
    plain = {"": ""}
    for name in modules:
        parent, _, last = name.rpartition(".")
        wrapped = last in _WRAPPED or (last == "module" and isinstance(modules[parent], _WRAPPERS))
        plain[name] = plain[parent] if wrapped else f"{plain[parent]}.{last}".lstrip(".")
    return plain


def _ends(module: nn.Module) -> tuple[str, str]:
    """How the keys of A and B of this layer end."""
    if isinstance(module, nn.Embedding):
        return "lora_embedding_A", "lora_embedding_B"
    return "lora_A.weight", "lora_B.weight"


def _config(names: Set[str], layers: Mapping[str, LoRALayer], adapter: str) -> dict[str, Any]:
    pairs = {name: layer.whole_pair(adapter) for name, layer in layers.items()}
    r = Counter(pair.r for pair in pairs.values()).most_common(1)[0][0]
    alpha = Counter(pair.alpha for pair in pairs.values()).most_common(1)[0][0]
    # peft takes the keys of these for regular expressions of the name's end
    ranks = {f"^{re.escape(name)}": pair.r for name, pair in pairs.items() if pair.r != r}
    alphas = {f"^{re.escape(name)}": _whole(pair.alpha) for name, pair in pairs.items() if pair.alpha != alpha}
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": r,
        "lora_alpha": _whole(alpha),
        "lora_dropout": max(pair.dropout for pair in pairs.values()),
        "bias": "none",
        "init_lora_weights": True,
        "fan_in_fan_out": any(layer.transposed and not isinstance(layer, LoRAEmbedding) for layer in layers.values()),
        "target_modules": _targets(names, layers.keys()),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
    }


def _whole(alpha: float) -> float:
    """16 rather than 16.0, as peft has it."""
    return int(alpha) if alpha == int(alpha) else alpha


def _targets(names: Set[str], adapted: Set[str]) -> list[str] | str:
    """The last parts of the names, or, where those name other modules too, a regular expression for the whole names."""
    last = sorted({name.rpartition(".")[2] for name in adapted})
    if adapted == {name for name in names if any(names_it(target, name) for target in last)}:
        return last
    return "|".join(re.escape(name) for name in sorted(adapted))


def load_adapter(model: Model, path: str | os.PathLike[str], adapter: str = "default") -> Model:
    """Put the adapter in the folder `path`, from here or from peft, into the model, and make it the active one.

    All but its A and B is frozen, as by `add_lora`. The model may be compiled or wrapped, as by DataParallel; to train
    with DistributedDataParallel, load first: it adds up the gradients of what it was made with. Returns the model.

    Raises, with nothing changed, FileNotFoundError for a file that is missing, and ValueError for one that is damaged,
    for an adapter of another base (with the layers that differ), for options of peft that are not plain LoRA, for an
    adapter's name that is taken, for a layer that is compiled by itself and has no adapter yet, and while merged.
    """
    check_new(model, adapter)
    folder = _folder(path)
    for file in (folder / CONFIG, folder / WEIGHTS):
        if not file.is_file():
            raise FileNotFoundError(f"path must be a folder with {CONFIG} and {WEIGHTS}, and {file} is missing")
    config = _read_config(folder / CONFIG)
    try:
        tensors = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged or cut short: {error}") from None
    modules = dict(model.named_modules())
    factors: dict[str, tuple[Tensor, Tensor]] = {}  # by the names in the model
    pairs: dict[str, Pair] = {}
    for in_file, (name, a, b) in _factors(model, modules, config, tensors, folder).items():
        factors[name], pairs[name], layer = (a, b), _pair(config, in_file, len(a), folder), modules[name]
        if isinstance(layer, LoRAMergedLinear):
            of_parts = layer.parts(b)
            if of_parts is None:
                raise ValueError(f"{folder} is not an adapter of this model: {name} is a LoRAMergedLinear with parts "
                                 f"{layer.enabled} enabled, and B is not in such parts")  # fmt: skip
            factors[name], pairs[name] = (a, of_parts), layer.pair_of_part(pairs[name])
    layers = put(model, pairs, adapter)
    with torch.no_grad():
        for name, (a, b) in factors.items():
            layers[name].lora_A[adapter].copy_(a)
            layers[name].lora_B[adapter].copy_(b)
    return model


def _read_config(file: Path) -> dict[str, Any]:
    """Raises ValueError for what is not the configuration of a plain LoRA adapter."""
    try:
        config = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged or cut short: {error}") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise ValueError(f"{file} must have the peft_type LORA, got {kind!r}")
    missing = [key for key in ("r", "lora_alpha") if key not in config]
    if missing:
        raise ValueError(f"{file} must have {' and '.join(missing)}")
    other = {key: value for key, value in config.items() if value and key not in KNOWN}
    if config.get("bias", "none") != "none":
        other["bias"] = config["bias"]
    start = config.get("init_lora_weights", True)
    if (start.lower() if isinstance(start, str) else start) not in _STARTS:
        other["init_lora_weights"] = start
    targets = config.get("target_modules")
    if not (all(isinstance(x, str) for x in targets) if isinstance(targets, list) else _is_expression(targets or "")):
        other["target_modules"] = targets
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(config.get(key) or {}, dict) or not all(map(_is_expression, config.get(key) or {})):
            other[key] = config[key]
    if other:
        raise ValueError(f"{file} must be of plain LoRA, and has {', '.join(f'{k}={v!r}' for k, v in other.items())}")
    return config


def _is_expression(x: Any) -> bool:
    try:
        re.compile(x)
    except (re.error, TypeError):
        return False
    return isinstance(x, str)


def _factors(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    folder: Path,
) -> dict[str, tuple[str, Tensor, Tensor]]:
    """By the name of each layer in the file its name in the model, A and B.

    Raises ValueError where they are not those of this model.
    """
    places = {plain: name for name, plain in _plain_names(modules).items()}  # of a wrapper and its content the content
    found: dict[str, dict[str, Tensor]] = {}
    layers: dict[str, str] = {}  # name in the model: name in the file
    wrong: list[str] = []
    for key, tensor in tensors.items():
        if match := _KEY.fullmatch(key):
            name, end = match.groups()
            found.setdefault(name, {})[_ENDS[end]] = tensor
            place = _place(places, name)
            if not place:
                wrong.append(f"{name} is not in the model")
            elif layers.setdefault(place, name) != name:
                wrong.append(f"{layers[place]} and {name} are one layer of the model")
            elif end not in _ends(modules[place]) or (shape := _shape(modules[place])) is None:
                wrong.append(f"{name} is a {type(modules[place]).__name__} in the model, and {end} is not for that")
            elif tensor.ndim != 2 or tensor.shape[1 if _ENDS[end] == "A" else 0] != shape[_ENDS[end] == "A"]:
                want = f"(r, {shape[1]})" if _ENDS[end] == "A" else f"({shape[0]}, r)"
                wrong.append(f"{name}.{end} must have the shape {want} for the model, got {tuple(tensor.shape)}")
        elif not (own := _BASE.fullmatch(key)) or not _is_base(model, _place(places, own[1]) or own[1], own[2], tensor):
            wrong.append(f"{key} is no A or B, nor a weight of the model as it stands there")
    for name, pair in found.items():
        if len(pair) == 1:
            wrong.append(f"{name} has no {'B' if 'A' in pair else 'A'} in the file")
        elif pair["A"].shape[:1] != pair["B"].shape[1:]:
            wrong.append(f"{name} has A {tuple(pair['A'].shape)} and B {tuple(pair['B'].shape)}, of two ranks")
    targets = config.get("target_modules")
    if targets and not any(config.get(option) for option in _NARROW):
        named = [plain for plain, place in places.items() if place not in layers and _targeted(targets, plain)]
        wrong += [f"{name} has no A and B in the file" for name in named]
    if not found:
        wrong.append("it has no A and B")
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(f"{folder} is not an adapter of this model: {'; '.join(wrong[:5])}{more}")
    return {name: (place, found[name]["A"], found[name]["B"]) for place, name in layers.items()}


def _place(places: Mapping[str, str], name: str) -> str | None:
    """Where the model has what a file calls `name`; in files of others the parts of wrappers are in it."""
    plain = ".".join(part for part in name.split(".") if part not in _WRAPPED)
    return places.get(plain, places.get(plain.removeprefix("module.")))


def _shape(module: nn.Module) -> tuple[int, int] | None:
    """(d, k) of a layer that can be adapted or is."""
    if isinstance(module, LoRALayer):
        return module.d, module.k
    if not isinstance(module, nn.Linear | nn.Embedding) and not is_conv1d(module):
        return None
    rows, columns = module.get_parameter("weight").shape
    return (rows, columns) if isinstance(module, nn.Linear) else (columns, rows)


def _is_base(model: nn.Module, name: str, parameter: str, tensor: Tensor) -> bool:
    try:
        own = model.get_submodule(name).get_parameter(parameter)
    except AttributeError:
        return False
    return own.shape == tensor.shape and torch.equal(own.detach().cpu(), tensor.to(own.dtype))


def _targeted(targets: list[str] | str, name: str) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(names_it(target, name) for target in targets)


def _pair(config: Mapping[str, Any], name: str, rank: int, folder: Path) -> Pair:
    """r, alpha and dropout of one layer. Raises ValueError where they are not those of the tensors, or out of range."""

    def of(option: str, pattern: str) -> Any:
        for end, value in (config.get(pattern) or {}).items():
            if re.match(rf"(.*\.)?({end})$", name):  # as peft does
                return value
        return config[option]

    pair = Pair(of("r", "rank_pattern"), of("lora_alpha", "alpha_pattern"), config.get("lora_dropout", 0.0))
    if pair.r != rank:
        raise ValueError(f"{folder} has r={pair.r} for {name} in {CONFIG} and {rank} in {WEIGHTS}")
    return pair
