"""The boundary between labelled Datasets and tensors; the only module before `training` that knows both.

A `Layout` says what a tensor leaves out: which field is which channel, in which units, on which grids, after which
transform. Physical tensors (what constraints see) hold values in the user's units; features (what a network sees) are
transformed, with frames and cycles appended. Missing coarse values become the training mean in features and stay NaN in
physical tensors, where constraints leave their blocks alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional

from finegrid.conventions import InputError
from finegrid.data.predictors import cycles, frame_indices
from finegrid.data.transforms import Transform
from finegrid.grids import Grid

VIEWS = ("value", "departure")
# Cells on either side that are the surroundings in the view "departure", and what brings departures to order one.
_AROUND = 2
_DEPARTURE_GAIN = 3.0


@dataclass(frozen=True, eq=False)
class Layout:
    """What the tensors of one downscaler leave out.

    Attributes:
        outputs: names of the predicted fields, the channels of fine tensors.
        inputs: names of the coarse fields, outputs first.
        units: units of each field.
        grid: fine grid; its mask says which cells can hold a value.
        coarse_grid: coarse grid, nested in the fine one.
        factor: fine cells in a coarse cell along y and x.
        frames: offsets in time steps of the coarse fields that are features.
        cycles: phases of time that are features.
        views: how each transformed coarse field is shown, among "value" and "departure" from the cells around.
        transforms: how each coarse field is transformed to features.
    """

    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    units: Mapping[str, str]
    grid: Grid
    coarse_grid: Grid
    factor: tuple[int, int]
    frames: tuple[int, ...] = (0,)
    cycles: tuple[str, ...] = ()
    views: tuple[str, ...] = ("value",)
    transforms: Mapping[str, Transform] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Number of features."""
        return len(self.inputs) * len(self.frames) * len(self.views) + 4 * len(self.cycles)

    def with_features(
        self,
        *,
        cycles: Sequence[str],
        transforms: Mapping[str, Transform],
        frames: Sequence[int] = (0,),
        views: Sequence[str] = ("value",),
    ) -> Layout:
        """The same fields and grids with other features.

        Raises:
            InputError: on an unknown view, or none.
        """
        if not views or not set(views) <= set(VIEWS):
            raise InputError(
                f"got the views {', '.join(views) or 'none'}; expected some of {', '.join(VIEWS)}; set downscaler.views"
            )
        return replace(
            self, frames=tuple(frames), cycles=tuple(cycles), views=tuple(views), transforms=dict(transforms)
        )


def to_tensor(fields: xr.Dataset, names: Sequence[str]) -> Tensor:
    """Physical values of the named fields, (time, channel, y, x) or, for static fields, (1, channel, y, x), float32.

    Raises:
        InputError: when a field is missing.
    """
    missing = [name for name in names if name not in fields.data_vars]
    if missing:
        raise InputError(
            f"got fields {', '.join(map(str, fields.data_vars))}; expected also {', '.join(missing)}; add them to "
            "the Dataset"
        )
    stacked = np.stack([np.asarray(fields[name].values, dtype=np.float32) for name in names], axis=-3)
    tensor = torch.from_numpy(stacked)
    return tensor if tensor.ndim == 4 else tensor[None]


def to_dataset(tensor: Tensor, layout: Layout, time: xr.DataArray) -> xr.Dataset:
    """Fine fields (member, time, channel, y, x) as a Dataset (member, time, y, x); NaN where the grid is masked."""
    values = tensor.detach().cpu().numpy()
    if layout.grid.mask is not None:
        values = np.where(layout.grid.mask, values, np.float32(np.nan))
    dims = ("member", "time", "y", "x")
    fields = {
        name: (dims, values[:, :, channel], {"units": layout.units[name]} if layout.units[name] else {})
        for channel, name in enumerate(layout.outputs)
    }
    coords = {**layout.grid.coords(), "time": time, "member": np.arange(values.shape[0])}
    return xr.Dataset(fields, coords=coords)


def to_features(fields: xr.Dataset, layout: Layout) -> Tensor:
    """What a network sees of coarse fields: every view at every frame, then the cycles; (time, channel, h, w)."""
    return features_of(to_tensor(fields, layout.inputs), fields["time"], layout)


def features_of(physical: Tensor, time: xr.DataArray, layout: Layout) -> Tensor:
    """The same of physical values (time, channel, h, w) in the order of the inputs; gradients pass."""
    each = zip(layout.inputs, physical.unbind(1), strict=True)
    values = torch.stack([_transformed(field, layout.transforms[name]) for name, field in each], dim=1)
    shown = {"value": lambda: values, "departure": lambda: _departures(values, layout.coarse_grid.periodic)}
    views = torch.cat([shown[view]() for view in layout.views], dim=1)
    frames = [views[torch.as_tensor(frame_indices(time, offset))] for offset in layout.frames]
    phases = torch.from_numpy(cycles(time, layout.cycles))[:, :, None, None]
    return torch.cat([*frames, phases.expand(-1, -1, *values.shape[-2:])], dim=1)


def _transformed(coarse: Tensor, transform: Transform) -> Tensor:
    return torch.nan_to_num(transform.forward(coarse.contiguous(), torch), nan=0.0)


def _departures(values: Tensor, periodic: bool) -> Tensor:
    """Difference from the mean of the cells around, which does not know how warm the day is, only how uneven."""
    wide = functional.pad(values, (_AROUND, _AROUND, 0, 0), mode="circular" if periodic else "replicate")
    tall = functional.pad(wide, (0, 0, _AROUND, _AROUND), mode="replicate")
    return _DEPARTURE_GAIN * (values - functional.avg_pool2d(tall, 2 * _AROUND + 1, stride=1))


class BlockMean(nn.Module):
    """The area-weighted mean over the valid fine cells of each coarse cell, as tensors (`constraints.Aggregation`).

    Args:
        area: area of the fine cells (H, W), any unit.
        factor: fine cells in a coarse cell along y and x.
        mask: True where a fine cell can hold a value (H, W); None is everywhere.
    """

    share: Tensor
    valid: Tensor
    disjoint = True
    whole = True

    def __init__(self, area: np.ndarray, factor: tuple[int, int], *, mask: np.ndarray | None = None) -> None:
        super().__init__()
        self.factor = factor
        used = np.ones(area.shape, dtype=bool) if mask is None else mask
        weights = self._split(torch.as_tensor(area * used, dtype=torch.float64))
        total = weights.sum((-3, -1), keepdim=True)
        share = weights / torch.where(total > 0, total, 1.0)
        # (h, fy, w, fx): the layout in which fine cells of one coarse cell are two axes.
        self.register_buffer("share", share, persistent=False)
        self.register_buffer("valid", self._split(torch.as_tensor(used.copy())), persistent=False)
        self._whole = bool(used.all())
        self._rounded: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    @classmethod
    def of(cls, layout: Layout) -> BlockMean:
        """The mean between the grids of a layout."""
        return cls(layout.grid.area, layout.factor, mask=layout.grid.mask)

    def mean(self, fine: Tensor) -> Tensor:
        """Weighted mean of each block, (..., H, W) -> (..., h, w)."""
        # Rows of a block first, which are long; over both axes at once torch takes three times as long.
        return (self._split(self._filled(fine)) * self._share(fine)).sum(-3).sum(-1)

    def max(self, fine: Tensor) -> Tensor:
        """Largest valid value of each block, (..., H, W) -> (..., h, w); 0 where none is valid."""
        if self._whole:
            return self._split(fine).amax((-3, -1))
        lowest = torch.finfo(fine.dtype).min
        largest = torch.where(self.valid, self._split(fine), lowest).amax((-3, -1))
        return torch.where(self.valid.any(-1).any(-2), largest, 0.0)

    def spread(self, coarse: Tensor) -> Tensor:
        """Every fine cell gets the value of its coarse cell, (..., h, w) -> (..., H, W)."""
        (fy, fx), (*lead, h, w) = self.factor, coarse.shape
        rows = coarse[..., None].expand(*lead, h, w, fx).reshape(*lead, h, 1, w * fx)
        return rows.expand(*lead, h, fy, w * fx).reshape(*lead, h * fy, w * fx)

    def _filled(self, fine: Tensor) -> Tensor:
        return fine if self._whole else torch.where(self._joined(self.valid), fine, 0.0)

    def _share(self, fine: Tensor) -> Tensor:
        key = (fine.dtype, fine.device)
        if key not in self._rounded:
            self._rounded[key] = self.share.to(dtype=fine.dtype, device=fine.device)
        return self._rounded[key]

    def _split(self, fine: Tensor) -> Tensor:
        (fy, fx), (*lead, height, width) = self.factor, fine.shape
        return fine.reshape(*lead, height // fy, fy, width // fx, fx)

    @staticmethod
    def _joined(split: Tensor) -> Tensor:
        *lead, h, fy, w, fx = split.shape
        return split.reshape(*lead, h * fy, w * fx)
