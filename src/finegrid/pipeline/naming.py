"""Methods by the one word that command lines and tables of scores use, and by the table that a recipe holds.

Every method in a table conserves by addition unless its name says otherwise: `bicubic` is bicubic interpolation with
its block means restored, `bicubic+none` the plain one. Otherwise baselines would lose for a reason that has nothing to
do with skill.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from finegrid.conventions import InputError, components
from finegrid.downscalers import DOWNSCALERS, Downscaler, NeuralDownscaler, method
from finegrid.downscalers.plan import backbone_of, kind_of
from finegrid.pipeline.recipe import Recipe

DEFAULT_CONSTRAINT = "add"
USUAL_ENSEMBLE = "noise-injected"
"""The head for who wants members and has no wish which: one call each, and a spread near its error on rain."""
RIVALS = ("bilinear", "bicubic", "mean-map", "ridge")
"""What every model is compared with: two interpolations, and two simple methods that learnt from the same data."""


def named(name: str, **options: Any) -> Downscaler:
    """The unfitted downscaler of a method name; it conserves by addition unless the name says otherwise."""
    return method(name, **{"constraint": DEFAULT_CONSTRAINT, **options})


def adjustment_of(name: str) -> dict[str, Any] | None:
    """What a recipe says under `adjust` for a method name."""
    adjust = named(name).adjust
    return None if adjust is None else components.table_of(adjust)


def table_of(name: str) -> dict[str, Any]:
    """What a recipe says under `downscaler` for a method name.

    Raises:
        InputError: on an unknown name; lists the valid ones.
    """
    chosen = named(name)
    if not isinstance(chosen, NeuralDownscaler):
        return {"name": chosen.name, "constraint": components.table_of(chosen.constraint)}
    words = ("backbone", "head", "mean", "loss", "constraint")
    parts = {word: getattr(chosen, word) for word in words}
    tables = {word: None if part is None else components.table_of(part) for word, part in parts.items()}
    return {"name": chosen.name, **tables}


def as_ensemble(recipe: Recipe) -> Recipe:
    """The same job with the usual head that draws members, unless the method draws some already.

    Raises:
        InputError: on a method without a network that has a single answer.
    """
    table = recipe.downscaler
    if table["name"] != NeuralDownscaler.name:
        if _draws(table["name"]):
            return recipe
        drawing = ", ".join(name for name in DOWNSCALERS if name != NeuralDownscaler.name and _draws(name))
        raise InputError(
            f"got --ensemble for the method '{table['name']}', which has a single answer and no network; expected a "
            f"network, such as resnet-on-ridge, or one of {drawing}; leave --ensemble out, or take another method"
        )
    if kind_of(table.get("head", NeuralDownscaler.head)).random:
        return recipe
    kept = {key: part for key, part in table.items() if key != "loss"}
    return replace(recipe, downscaler={**kept, "head": {"name": USUAL_ENSEMBLE}})


def _draws(method: str) -> bool:
    """Whether a method without a network draws members."""
    return DOWNSCALERS[method].usual_members > 1


def name_of(downscaler: Downscaler) -> str:
    """The method name of a downscaler, arguments of its parts left out."""
    word = downscaler.name
    if isinstance(downscaler, NeuralDownscaler):
        mean = "" if downscaler.mean is None else f"-on-{components.word_of(downscaler.mean)}"
        word = f"{_network(downscaler)}{mean}"
    if downscaler.adjust is not None:
        word = f"{components.word_of(downscaler.adjust)}/{word}"
    constraint = components.word_of(downscaler.constraint)
    return word if constraint == DEFAULT_CONSTRAINT else f"{word}+{constraint}"


def _network(downscaler: NeuralDownscaler) -> str:
    head, usual = components.word_of(downscaler.head), components.word_of(backbone_of(None, downscaler.head))
    backbone = components.word_of(backbone_of(downscaler.backbone, downscaler.head))
    if head == "point":
        return backbone
    return head if backbone == usual else f"{backbone}:{head}"
