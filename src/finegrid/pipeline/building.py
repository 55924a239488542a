"""From a recipe to the unfitted downscaler that it asks for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from finegrid.backbones import BACKBONES
from finegrid.constraints import CONSTRAINTS
from finegrid.conventions.components import build, completed, word_of
from finegrid.data import ADJUSTMENTS
from finegrid.downscalers import BASELINES, DOWNSCALERS, Downscaler
from finegrid.downscalers.archive import placeless
from finegrid.downscalers.plan import backbone_of
from finegrid.heads import HEADS
from finegrid.losses import ENSEMBLE_LOSSES, LOSSES
from finegrid.pipeline.recipe import Recipe

# The arguments of a backbone that the data decide.
_FROM_DATA = ("inputs", "outputs", "factor", "shape", "static", "fine", "condition", "padding")


def built(recipe: Recipe) -> tuple[Downscaler, Recipe]:
    """The unfitted downscaler of a recipe, and the recipe with every default written out.

    Raises:
        InputError: on a component or an argument that does not exist; names the nearest one.
    """
    given = _given(recipe)
    adjust = None if recipe.adjust is None else completed(recipe.adjust, ADJUSTMENTS, "adjustment")
    whole = completed(recipe.downscaler, DOWNSCALERS, "downscaler", *given)
    if "backbone" in whole:
        whole["backbone"] = backbone_of(whole["backbone"], whole["head"])
    for key, (components, kind, decided) in _PARTS.items():
        if whole.get(key) is not None:
            told = decided or _told(components.get(word_of(whole[key])))
            whole[key] = completed(whole[key], components, kind, *told)
    if recipe.training.patch is not None and whole.get("backbone") is not None:
        whole["backbone"] = placeless(whole["backbone"])
    # As it will be read back: a resumed run must be the same job to the last tuple.
    full = Recipe.of(replace(recipe, downscaler=whole, adjust=adjust).to_dict())
    downscaler: Downscaler = build(full.downscaler, DOWNSCALERS, "downscaler", **_given(full))
    return downscaler, full


_PARTS: Mapping[str, tuple[Mapping[str, Any], str, tuple[str, ...]]] = {
    "backbone": (BACKBONES, "backbone", _FROM_DATA),
    "head": (HEADS, "head", ("problem", "loss", "networks")),
    "loss": ({**LOSSES, **ENSEMBLE_LOSSES}, "loss", ("prediction", "truth", "weight")),
    "constraint": (CONSTRAINTS, "constraint", ()),
    "mean": (BASELINES, "mean downscaler", ("variables", "predictors", "constraint")),
}


def _told(constraint: Any) -> tuple[str, ...]:
    """The arguments of a constraint that the data decide; a relation may be told its variables."""
    return tuple(getattr(constraint, "statistics", ()))


def _given(recipe: Recipe) -> dict[str, Any]:
    """Arguments of the downscaler that other sections of the recipe hold; those that its class knows."""
    name, data = str(recipe.downscaler["name"]), recipe.data
    every = {
        "variables": data.variables,
        "predictors": data.predictors,
        **({} if data.frames is None else {"frames": data.frames}),
        "cycles": data.cycles,
        "transforms": data.transforms,
        "settings": recipe.training,
        "adjust": recipe.adjust,
    }
    known = inspect.signature(DOWNSCALERS[name]).parameters if name in DOWNSCALERS else every
    return {key: value for key, value in every.items() if key in known}
