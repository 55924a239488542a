"""Downscalers by one word, as tables of scores and the command line name them.

shift/ridge+add           a bias adjustment of the coarse fields before, and a slash after it
ridge, bicubic+add        a downscaler, and after the plus its constraint
resnet, srresnet+softmax  a backbone on its own: the network starts from the coarse value
resnet-on-ridge           a backbone that refines a downscaler
noise-injected-on-ridge   a head, which makes an ensemble, with the usual backbone
unet:latent               a backbone and a head
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from finegrid.backbones import BACKBONES
from finegrid.constraints import CONSTRAINTS
from finegrid.conventions import InputError
from finegrid.conventions.components import build, nearest
from finegrid.conventions.documents import understood
from finegrid.data import ADJUSTMENTS
from finegrid.downscalers.base import Downscaler
from finegrid.downscalers.baselines import BASELINES
from finegrid.downscalers.blend import Blend
from finegrid.downscalers.neural import NeuralDownscaler
from finegrid.downscalers.store import read
from finegrid.downscalers.trees import BoostedTrees
from finegrid.heads import HEADS
from finegrid.training import Settings

STATISTICAL: dict[str, type[Downscaler]] = {**BASELINES, **{each.name: each for each in (BoostedTrees, Blend)}}
"""All that one word names: the simple ones, and those that are built on them."""
# What networks with few weights may still ask for, such as steps of a sampler.
_LEAST_SIZE = 4096
_ENSEMBLES = tuple(name for name, head in HEADS.items() if head.random)
DOWNSCALERS: dict[str, type[Downscaler]] = {**STATISTICAL, NeuralDownscaler.name: NeuralDownscaler}


def load(folder: str | Path) -> Downscaler:
    """The downscaler that was saved in a folder.

    Raises:
        InputError: when the folder holds none, a file was changed, or another finegrid is needed.
    """
    description, tensors = read(Path(folder))
    with understood(folder, "fit the model again, or ask whoever made it for the folder as it was"):
        kind, options = description["downscaler"], dict(description["options"])
        if kind not in DOWNSCALERS:
            raise InputError(
                f"{folder} names the downscaler '{kind}'; expected one of {', '.join(DOWNSCALERS)}; install the "
                f"finegrid version that wrote it: {description['versions'].get('finegrid', '')}"
            )
        _check_sizes(options, tensors)
        if "settings" in options:
            options["settings"] = Settings(**options["settings"])
        return DOWNSCALERS[kind](**options).remember(description["state"], tensors)


def _check_sizes(options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """A network is not deeper, wider or more often there than there are weights: it would be built first, for hours."""
    most = max(_LEAST_SIZE, sum(each.numel() for each in tensors.values()))
    left = [options.get(part) for part in ("networks", "backbone", "head")]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left += [each for name, each in value.items() if not str(name).startswith("seed")]
        elif isinstance(value, list | tuple):
            left += value
        elif isinstance(value, int) and value > most:
            raise ValueError(f"it asks for {value} of something, with fewer weights")


def method(name: str, *, settings: Settings | None = None, **options: Any) -> Downscaler:
    """The unfitted downscaler of that name.

    Args:
        name: see the module docstring.
        settings: how to train a network.
        **options: further arguments of the constructor; `backbone` holds those of the backbone.

    Raises:
        InputError: on an unknown name; lists the valid ones and the nearest.
    """
    adjust, slash, rest = name.rpartition("/")
    if slash and adjust not in ADJUSTMENTS:
        raise InputError(
            f"There is no bias adjustment '{adjust}' (in the method '{name}'). The names are {', '.join(ADJUSTMENTS)}."
            f"{nearest(adjust, ADJUSTMENTS)}"
        )
    options = {**options, "adjust": adjust} if slash else options
    word, _, constraint = rest.partition("+")
    if constraint and constraint not in CONSTRAINTS:
        raise InputError(
            f"There is no constraint '{constraint}' (in the method '{name}'). The names are {', '.join(CONSTRAINTS)}."
            f"{nearest(constraint, CONSTRAINTS)}"
        )
    if constraint:
        options = {**options, "constraint": constraint}
    if (network := _network(word)) is not None:
        trained = {} if settings is None else {"settings": settings}
        named = {key: name for key, name in network.items() if key != "mean" and name is not None}
        parts = {key: {**options.pop(key, {}), "name": name} for key, name in named.items()}
        if "backbone" not in named and "backbone" in options:
            parts["backbone"] = {**HEADS[named["head"]].usual_backbone, **options.pop("backbone")}
        return build("neural", DOWNSCALERS, "downscaler", mean=network["mean"], **parts, **trained, **options)
    if word not in STATISTICAL:
        valid = [*STATISTICAL, *BACKBONES, *_ENSEMBLES]
        raise InputError(
            f"There is no method '{name}'. The names are {', '.join(valid)}, networks on a downscaler such as "
            "resnet-on-ridge, heads with a backbone such as unet:latent, each "
            f"with a constraint if wanted, such as ridge+add.{nearest(word, valid)}"
        )
    return build(word, STATISTICAL, "downscaler", **options)


def _network(word: str) -> dict[str, Any] | None:
    """Backbone (None: that of the head), head (None: as in the options) and mean downscaler; None for other words."""
    first, _, mean = word.partition("-on-")
    alone = first in _ENSEMBLES
    backbone, _, head = (None, "", first) if alone else first.partition(":")
    if (not alone and backbone not in BACKBONES) or (head and head not in HEADS) or (mean and mean not in BASELINES):
        return None
    return {"backbone": backbone, "head": head or None, "mean": mean or None}
