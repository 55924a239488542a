"""The columns of ClimSim: which variables there are, on how many levels, in which units and in which order.

    v1    124 inputs and 128 outputs: what the paper trains on
    v2    557 inputs and 368 outputs: all variables

A variable on levels takes as many columns as there are levels (60), from the top of the atmosphere down; the others
take one. Outputs called ptend are differences of the state after and before the physics of a step, over its 1200 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import dask.array as da
import xarray as xr

STEP_SECONDS = 1200.0


@dataclass(frozen=True)
class Column:
    """A variable.

    Attributes:
        units: of its values.
        levels: whether it has a value on every level.
        state: for a tendency, the state that it is the change of.
    """

    units: str
    levels: bool = False
    state: str | None = None


_V1_INPUTS = {
    "state_t": Column("K", levels=True),
    "state_q0001": Column("kg kg-1", levels=True),
    "state_ps": Column("Pa"),
    "pbuf_SOLIN": Column("W m-2"),
    "pbuf_LHFLX": Column("W m-2"),
    "pbuf_SHFLX": Column("W m-2"),
}
_SURFACE = {
    "cam_out_NETSW": Column("W m-2"),
    "cam_out_FLWDS": Column("W m-2"),
    "cam_out_PRECSC": Column("m s-1"),
    "cam_out_PRECC": Column("m s-1"),
    "cam_out_SOLS": Column("W m-2"),
    "cam_out_SOLL": Column("W m-2"),
    "cam_out_SOLSD": Column("W m-2"),
    "cam_out_SOLLD": Column("W m-2"),
}
_V1_OUTPUTS = {
    "ptend_t": Column("K s-1", levels=True, state="state_t"),
    "ptend_q0001": Column("kg kg-1 s-1", levels=True, state="state_q0001"),
    **_SURFACE,
}
_V2_INPUTS = {
    "state_t": Column("K", levels=True),
    "state_q0001": Column("kg kg-1", levels=True),
    "state_q0002": Column("kg kg-1", levels=True),
    "state_q0003": Column("kg kg-1", levels=True),
    "state_u": Column("m s-1", levels=True),
    "state_v": Column("m s-1", levels=True),
    "state_ps": Column("Pa"),
    "pbuf_SOLIN": Column("W m-2"),
    "pbuf_LHFLX": Column("W m-2"),
    "pbuf_SHFLX": Column("W m-2"),
    "pbuf_TAUX": Column("N m-2"),
    "pbuf_TAUY": Column("N m-2"),
    "pbuf_COSZRS": Column("1"),
    **{f"cam_in_{name}": Column("1") for name in ("ALDIF", "ALDIR", "ASDIF", "ASDIR")},
    "cam_in_LWUP": Column("W m-2"),
    **{f"cam_in_{name}": Column("1") for name in ("ICEFRAC", "LANDFRAC", "OCNFRAC")},
    "cam_in_SNOWHICE": Column("m"),
    "cam_in_SNOWHLAND": Column("m"),
    "pbuf_ozone": Column("mol mol-1", levels=True),
    "pbuf_CH4": Column("mol mol-1", levels=True),
    "pbuf_N2O": Column("mol mol-1", levels=True),
}
_V2_OUTPUTS = {
    "ptend_t": Column("K s-1", levels=True, state="state_t"),
    **{f"ptend_q000{kind}": Column("kg kg-1 s-1", levels=True, state=f"state_q000{kind}") for kind in (1, 2, 3)},
    "ptend_u": Column("m s-2", levels=True, state="state_u"),
    "ptend_v": Column("m s-2", levels=True, state="state_v"),
    **_SURFACE,
}
INPUTS: Mapping[str, Mapping[str, Column]] = {"v1": _V1_INPUTS, "v2": _V2_INPUTS}
OUTPUTS: Mapping[str, Mapping[str, Column]] = {"v1": _V1_OUTPUTS, "v2": _V2_OUTPUTS}


def width(columns: Mapping[str, Column], levels: int) -> int:
    """Number of columns of an array of these variables."""
    return sum(levels if each.levels else 1 for each in columns.values())


def apart(values: da.Array, columns: Mapping[str, Column], levels: int) -> xr.Dataset:
    """An array (time, point, column) as one field a variable, (time, point, lev) or (time, point)."""
    fields, start = {}, 0
    for name, column in columns.items():
        stop = start + (levels if column.levels else 1)
        dims = ("time", "point", "lev") if column.levels else ("time", "point")
        fields[name] = (
            dims,
            values[:, :, start:stop] if column.levels else values[:, :, start],
            {"units": column.units},
        )
        start = stop
    return xr.Dataset(fields)
