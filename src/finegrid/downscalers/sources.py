"""Coarse fields of another source than the training one, brought to the climate in which was learnt."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import xarray as xr
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.conventions.errors import provenance
from finegrid.data.climatology import Climatology
from finegrid.data.inputs import CoarseInputs

_MEAN, _DEVIATION = "climatology/mean/", "climatology/deviation/"


def adopted(
    fields: xr.Dataset, reference: xr.Dataset, inputs: CoarseInputs, climatology: Climatology | None, *, adjusts: bool
) -> xr.Dataset:
    """Fields that were read from another source, in the climate of the training fields.

    Args:
        fields: what `CoarseInputs.read` gave of that source.
        reference: the source in its reference period, in the user's names.
        inputs: how coarse files are read.
        climatology: that of the training fields.
        adjusts: whether a bias adjustment was learnt from the training source.

    Raises:
        InputError: when the model cannot do this, or months are missing.
    """
    if adjusts:
        raise InputError(
            "got a reference for a model that adjusts the bias of its training source; expected one of the two; leave "
            "--reference away for that source, or fit without --adjust for another one"
        )
    if climatology is None:
        raise InputError("this model has no climatology of its training fields; expected one; fit it again")
    source = provenance(reference, otherwise="the reference")
    return climatology.adopt(fields, Climatology.of(inputs.read(reference, source=source)), source)


def state_of_climatology(climatology: Climatology | None) -> dict[str, Tensor]:
    """What it adds to the tensors of a model file."""
    if climatology is None:
        return {}
    parts = ((_MEAN, climatology.mean), (_DEVIATION, climatology.deviation))
    return {f"{prefix}{name}": torch.from_numpy(each) for prefix, numbers in parts for name, each in numbers.items()}


def remembered_climatology(tensors: Mapping[str, Tensor]) -> Climatology | None:
    """The climatology in a model file."""
    found = [
        {name.removeprefix(prefix): each.numpy() for name, each in tensors.items() if name.startswith(prefix)}
        for prefix in (_MEAN, _DEVIATION)
    ]
    return Climatology(found[0], found[1]) if found[0] else None
