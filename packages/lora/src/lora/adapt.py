"""Adapters in a model: put in, chosen, merged, and taken out of the weights again; all in place."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MethodType
from typing import Any, Literal, TypeVar, cast

from torch import Tensor, nn

from lora.layers import COMPILED, LoRAConv1D, LoRAEmbedding, LoRALayer, LoRALinear, Pair, check_name, is_conv1d
from lora.merged import LoRAMergedLinear

Model = TypeVar("Model", bound=nn.Module)


def add_lora(
    model: Model,
    targets: Sequence[str] = ("q_proj", "v_proj"),
    r: int = 8,
    alpha: float = 16,
    dropout: float = 0.0,
    *,
    adapter: str = "default",
    enabled: tuple[bool, ...] | None = None,
) -> Model:
    """Section 4.2: put a new adapter into the layers that the targets name, and freeze all the rest.

    targets: names of modules, or ends of them: "q_proj" and "attn.q_proj" both name "layers.0.attn.q_proj".
        nn.Linear, nn.Embedding and transformers' Conv1D can be adapted.
    r, alpha: delta_W = (alpha / r) B A, with r rows in A (Section 4.1)
    dropout: on the input of A, in training
    adapter: its name; it becomes the active one, and a model may have several
    enabled: for targets that are several layers in one, the parts to adapt: see LoRAMergedLinear

    Returns the model. Raises ValueError, with nothing changed, for a target that names no module or one that cannot be
    adapted, for an adapter's name that is taken, while merged, and for r, alpha and dropout out of range. Warns of an r
    above the rank that a layer can have.
    """
    pair = Pair(r, alpha, dropout)
    names: Any = [targets] if isinstance(targets, str) else targets
    if not isinstance(names, Collection) or not all(isinstance(name, str) for name in cast(Collection[Any], names)):
        raise ValueError(f"targets must be names of modules, got {targets!r}")
    if not names:
        raise ValueError("targets must name at least one module, got none")
    if enabled is not None and not isinstance(enabled, tuple | list):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"enabled must be True or False for each part, got {enabled!r}")
    check_new(model, adapter)
    found: dict[str, nn.Module] = {}
    for target in names:
        found |= _named_by(model, target)
    put(model, dict.fromkeys(found, pair), adapter, enabled)
    ranks = {name: min(layer.d, layer.k) for name, layer in lora_layers(model).items() if adapter in layer.pairs}
    name, rank = min(ranks.items(), key=lambda item: item[1])
    if r > rank:
        warnings.warn(f"r={r} is above the rank that {name} can have, {rank}", stacklevel=2)
    return model


def check_new(model: nn.Module, adapter: str) -> None:
    """Raises ValueError where an adapter of this name cannot be added to the model now."""
    check_name(adapter)
    _check_model(model)
    for name, layer in model.named_modules():
        if isinstance(layer, LoRALayer) and layer.merged:
            raise ValueError(f"{name} is merged: call unmerge_lora(model) before adding an adapter")
        if isinstance(layer, LoRALayer) and adapter in layer.pairs:
            raise ValueError(f"adapter must be a new name, and {name} has {adapter!r} already")


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be an nn.Module, got {type(model).__name__}")


def _named_by(model: nn.Module, target: str) -> dict[str, nn.Module]:
    """The modules that one target names, by name. Raises ValueError where there are none, with the nearest names."""
    modules = dict(model.named_modules(remove_duplicate=False))
    found = {name: module for name, module in modules.items() if name and names_it(target, name)}
    if not found:
        kinds = (LoRALayer, nn.Linear, nn.Embedding)
        known = {name for name, module in modules.items() if isinstance(module, kinds) or is_conv1d(module)}
        known |= {name.rpartition(".")[2] for name in known}
        near = difflib.get_close_matches(target, sorted(known), 5, 0.4) or sorted(known, key=len)[:8]
        raise ValueError(f"targets must name modules of the model, and {target!r} names none; the nearest that can be "
                         f"adapted are {', '.join(near) or 'none'}")  # fmt: skip
    return found


def names_it(target: str, name: str) -> bool:
    return name == target or name.endswith(f".{target}")


def put(
    model: nn.Module, pairs: Mapping[str, Pair], adapter: str, enabled: tuple[bool, ...] | None = None
) -> dict[str, LoRALayer]:
    """Put a pair of this adapter into each layer of these names, make it the active one, and freeze the rest.

    Raises ValueError, with nothing changed, for a module that cannot be adapted. Returns the layers, each once.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    layers: dict[int, LoRALayer] = {}
    holders = {id(x): where for where, holder, x in _held(modules) if holder is not x}
    for name, pair in pairs.items():
        module = modules[name]
        try:
            if id(module) not in layers:
                _check_place(name, module, holders)
                layers[id(module)] = _layer_for(module, pair, adapter, enabled)
        except ValueError as error:
            raise ValueError(f"{name} cannot be adapted: {error}") from None
    for name, module in modules.items():  # a module may be in several places
        if id(module) in layers and layers[id(module)] is not module:
            parent, _, last = name.rpartition(".")
            setattr(modules[parent], last, layers[id(module)])
    for name, pair in pairs.items():
        layer = layers[id(modules[name])]
        if adapter not in layer.pairs:
            layer.add_adapter(adapter, pair)
    _leave_fast_paths(model)
    set_adapter(model, adapter)
    mark_trainable(model)
    return {name: layers[id(modules[name])] for name in pairs}


def _check_place(name: str, module: nn.Module, holders: Mapping[int, str]) -> None:
    """Raises ValueError where others would go on to call the base that an adapter has taken the place of."""
    if isinstance(module, LoRALayer):
        return
    if name.rpartition(".")[2] == "_orig_mod" or hasattr(module, "_orig_mod"):
        raise ValueError(f"it {COMPILED}")
    if id(module) in holders:
        raise ValueError(
            f"it is in {holders[id(module)]} too, not as a module, and would stay there without the adapter"
        )


_OF_TORCH = vars(nn.Module()).keys() - {"_parameters", "_buffers"}


def _held(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module, Any]]:
    """What modules hold beside their submodules, in lists and the like too, with the name and the module."""
    for name, module in modules.items():
        for attribute, value in vars(module).items():
            if attribute not in _OF_TORCH:
                several: Any = value.values() if isinstance(value, dict) else value  # pyright: ignore
                for x in several if isinstance(value, dict | list | tuple) else (value,):
                    if isinstance(x, nn.Module | Tensor | MethodType):
                        where = name if attribute in ("_parameters", "_buffers") else f"{name}.{attribute}".lstrip(".")
                        yield where, module, x.__self__ if isinstance(x, MethodType) else x


def _layer_for(module: nn.Module, pair: Pair, adapter: str, enabled: tuple[bool, ...] | None) -> LoRALayer:
    """The module itself where it is adapted already, or the layer to stand in its place."""
    if isinstance(module, LoRALayer):
        has = module.enabled if isinstance(module, LoRAMergedLinear) else None
        if enabled is not None and has != tuple(enabled):
            raise ValueError(f"enabled must be as in the adapter that it has, {has}, got {enabled}")
        return module
    settings = (pair.r, pair.alpha, pair.dropout)
    if enabled is not None:
        return LoRAMergedLinear(module, enabled, *settings, adapter=adapter)
    kinds: tuple[type[LoRALayer], ...] = (LoRALinear, LoRAEmbedding, LoRAConv1D)
    for kind in kinds:
        if kind.refuses(module) is None:
            return kind(module, *settings, adapter=adapter)
    base = {nn.Linear: LoRALinear, nn.Embedding: LoRAEmbedding}
    near = next((kind for of, kind in base.items() if isinstance(module, of)), None)
    reason = near.refuses(module) if near is not None else f"is a {type(module).__name__}"
    raise ValueError(f"it {reason}")


def _leave_fast_paths(model: nn.Module) -> None:
    """torch's own encoder, when it does not train, takes its layers' weights and never calls the layers."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and any(isinstance(m, LoRALayer) for m in module.modules()):
            module.activation_relu_or_gelu = 0
        if isinstance(module, nn.TransformerEncoder) and any(isinstance(m, LoRALayer) for m in module.modules()):
            module.use_nested_tensor = False


def lora_layers(model: nn.Module) -> dict[str, LoRALayer]:
    """The adapted layers by name, each once. Raises ValueError for a model without one."""
    _check_model(model)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoRALayer)}
    if not layers:
        raise ValueError(f"model must have adapted layers, and this {type(model).__name__} has none: call add_lora")
    return layers


def layers_with(model: nn.Module, adapter: str) -> dict[str, LoRALayer]:
    """Those that have this adapter. Raises ValueError where none has, with the adapters there are."""
    layers = lora_layers(model)
    found = {name: layer for name, layer in layers.items() if isinstance(adapter, str) and adapter in layer.pairs}  # pyright: ignore
    if not found:
        known = sorted({name for layer in layers.values() for name in layer.pairs})
        raise ValueError(f"adapter must be one of {', '.join(map(repr, known))}, got {adapter!r}")
    return found


def set_adapter(model: Model, adapter: str | None) -> Model:
    """Use this adapter in all layers that have it, and none in the others; None for the base alone.

    Its A and B can be trained then, those of the others cannot. Returns the model. Raises ValueError, with nothing
    changed, for an adapter that the model does not have, and while one is merged.
    """
    layers = lora_layers(model) if adapter is None else layers_with(model, adapter) and lora_layers(model)
    for name, layer in layers.items():
        if layer.merged:
            raise ValueError(f"{name} is merged: call unmerge_lora(model) before choosing another adapter")
    for layer in layers.values():
        layer.activate(adapter)
    return model


def mark_trainable(model: Model, bias: Literal["none", "lora", "all"] = "none") -> Model:
    """Freeze all but A and B of the active adapter, and the biases of no layer, of the adapted ones, or of all.

    A new head is frozen too: unfreeze it after this. Returns the model. Raises ValueError for another bias, and for a
    model without adapted layers.
    """
    layers = lora_layers(model)
    if bias not in ("none", "lora", "all"):
        raise ValueError(f"bias must be 'none', 'lora' or 'all', got {bias!r}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bias == "all" and names_it("bias", name))
    for layer in layers.values():
        layer.activate(layer.active)
        if bias == "lora" and getattr(layer, "bias", None) is not None:
            layer.get_parameter("bias").requires_grad_()
    return model


def merge_lora(model: Model) -> Model:
    """Section 4.1, "No Additional Inference Latency": W = W_0 + s B A in each layer, whose forward pass is the base's.

    W_0 is kept beside it for `unmerge_lora`, and is what `model.state_dict()` has. Returns the model. Raises
    ValueError, with nothing changed, where a layer is merged already, where no adapter is active, where another module
    has the same weight (a tied one), which would change along, and where W is not finite, as beyond float16.
    """
    layers = {name: layer for name, layer in lora_layers(model).items() if layer.active is not None or layer.merged}
    if not layers:
        raise ValueError("model must have an active adapter to merge: call set_adapter(model, name)")
    for name, layer in layers.items():
        if layer.merged:
            raise ValueError(f"{name} is merged already")
    names = {id(layer.own_weight): name for name, layer in layers.items()}
    for where, holder, x in _held(dict(model.named_modules())):
        name = names.get(id(x))
        if name is not None and holder is not layers[name]:
            raise ValueError(f"{name} cannot be merged: {where} has the same weight, which would change along; to "
                             "untie them, give one a copy: nn.Parameter(weight.detach().clone())")  # fmt: skip
    merged: dict[str, Tensor] = {}
    for name, layer in layers.items():
        try:
            merged[name] = layer.to_merge()
        except ValueError as error:
            raise ValueError(f"{name} cannot be merged: it {error}") from None
    for name, layer in layers.items():
        layer.merge(merged[name])
    return model


def unmerge_lora(model: Model) -> Model:
    """The inverse of `merge_lora`: W_0 with the very bits that it had.

    Returns the model. Raises ValueError, with nothing changed, where a layer that has an active adapter is not merged.
    """
    layers = {name: layer for name, layer in lora_layers(model).items() if layer.active is not None}
    for name, layer in layers.items():
        if not layer.merged:
            raise ValueError(f"{name} is not merged")
    if not layers:
        raise ValueError("model must be merged, and has no active adapter")
    for layer in layers.values():
        layer.unmerge()
    return model


def lora_state_dict(model: nn.Module, adapter: str = "default") -> dict[str, Tensor]:
    """A and B of each adapted layer, under their names in `model.state_dict()`, and nothing else.

    `model.load_state_dict(tensors, strict=False)` takes them back. Raises ValueError for an adapter that the model does
    not have.
    """
    return {
        f"{name}.{factor}.{adapter}".lstrip("."): getattr(layer, factor)[adapter].detach()
        for name, layer in layers_with(model, adapter).items()
        for factor in ("lora_A", "lora_B")
    }
