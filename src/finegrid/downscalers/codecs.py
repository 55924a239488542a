"""Codecs of other models: a latent head may take the codec of a saved model, if it was made for the same fields.

What is the same: variables, factor, transforms, what the networks see, the first guess about which fields are
residuals, and the backbone. Where the place matters to a network (a learned position) the size of its numbers says
so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from finegrid.backbones import BACKBONES
from finegrid.conventions import InputError
from finegrid.conventions.components import completed
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.plan import Plan, backbone_of, part
from finegrid.downscalers.store import read
from finegrid.heads import Head, LatentHead

_BY_THE_PROGRAM = ("inputs", "outputs", "factor", "shape", "static", "fine", "condition", "padding")


def take_codecs(head: Head, domain: Domain, plan: Plan, options: Mapping[str, Any]) -> None:
    """Give every latent head that names a folder the codec of the model there.

    Args:
        head: untrained.
        domain: of the downscaler.
        plan: its plan.
        options: its options.

    Raises:
        InputError: where the folder holds no model with a latent head, or one for other fields; says what differs.
    """
    for each in head.modules():
        if isinstance(each, LatentHead) and each.folder is not None:
            tensors = _codec(Path(each.folder), _facts(domain, plan.state()[0], options))
            try:
                each.codec.load_state_dict(tensors)
            except RuntimeError as error:
                reason = str(error).splitlines()[-1].strip()
                raise InputError(
                    f"the codec in {each.folder} has other sizes ({reason}); expected those of this head; give "
                    "compression and texture as that model has them, and a domain of the same size if its backbone "
                    "learns positions"
                ) from None


def _codec(folder: Path, wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Numbers of the codec in a model folder, if that was made for what is wanted."""
    description, tensors = read(folder)
    found = part(tensors, "network/codec.")
    if not found:
        raise InputError(
            f"{folder} holds a model without a codec; expected one whose head is latent; fit one with "
            "head: {name: latent}, or leave codec out"
        )
    state = description["state"]
    facts = _facts(Domain.from_dict(state["domain"]), state["plan"], description["options"])
    differing = [name for name in wanted if facts[name] != wanted[name]]
    if differing:
        pairs = "; ".join(f"{name}: {facts[name]}, here {wanted[name]}" for name in differing)
        raise InputError(
            f"the codec in {folder} was made for other fields ({pairs}); expected the same {', '.join(differing)}; "
            "take a codec that was, or leave codec out"
        )
    return found


def _facts(domain: Domain, plan: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What a codec depends on, as plain values."""
    head = options["head"]
    facts = {
        "variables": domain.outputs,
        "factor": domain.factor,
        "transforms": plan["links"],
        "inputs": plan["transforms"],
        "what is seen of them": [plan[name] for name in ("frames", "views", "cycles", "static")],
        "first guess": options["mean"],
        "mean network": head.get("mean", False) if isinstance(head, Mapping) else False,
        "backbone": completed(backbone_of(options["backbone"], head), BACKBONES, "backbone", *_BY_THE_PROGRAM),
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain
