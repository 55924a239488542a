"""What harmonising takes away from a Dataset, kept as plain values so that `restore` can put it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np
import xarray as xr

# What names say of places, by coordinate and beside it.
_PLACES = ("y", "x", "lat", "lon")
_OF_PLACES = (
    "y_descending",
    "x_westward",
    "x_ascending",
    "x_lowest",
    "metres",
    "grid_mapping",
    "attached",
    "curvilinear",
    "latitude",
    "longitude",
    "bounds_dimension",
    "vertices_dimension",
)


@dataclass(frozen=True)
class Coordinate:
    """One of the user's coordinates.

    Attributes:
        dimension: the user's dimension, which may have another name than the coordinate.
        dtype: NumPy's name of the data type; empty for dates.
        attributes: the user's attributes.
        encoding: how dates are stored (units, calendar, dtype).
        bounds: the user's name of the bounds variable.
        upper_first: whether the bounds of a cell descend.
    """

    dimension: str
    dtype: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    encoding: Mapping[str, str] = field(default_factory=dict)
    bounds: str | None = None
    upper_first: bool = False


@dataclass(frozen=True)
class Scalar:
    """A coordinate without dimension, such as `height` or a grid mapping variable; dates count in their unit."""

    value: Any
    dtype: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, variable: xr.DataArray) -> Self:
        """Keep a coordinate with one value."""
        values = variable.values.reshape(-1)[:1]
        value = values.astype(np.int64)[0] if values.dtype.kind in "mM" else values[0]
        return cls(plain(value), str(values.dtype), plain(variable.attrs))

    def variable(self) -> xr.Variable:
        """The coordinate again."""
        dtype = None if self.dtype == "object" else np.dtype(self.dtype)
        value = np.array(self.value.encode() if dtype is not None and dtype.kind == "S" else self.value, dtype=dtype)
        return xr.Variable((), value, attributes(self.attributes))


@dataclass(frozen=True)
class Levels:
    """A vertical dimension that became variables such as `ta@850`.

    Attributes:
        name: the user's dimension.
        labels: what follows the `@`, per value.
        values: the user's values.
        dtype: NumPy's name of their data type.
        attributes: the user's attributes.
    """

    name: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    dtype: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Names:
    """The way back to the user's words.

    Attributes:
        time: the user's name of the time coordinate, like `y`, `x` and `member`.
        order: the user's order of dimensions; a member dimension that is not among them goes first.
        orders: the order for variables that have another one.
        coordinates: more about the coordinates, by harmonised name (time, y, x, member, lat, lon).
        scalars: coordinates without dimension.
        y_descending: rows run from north to south.
        x_westward: columns run from east to west.
        x_ascending: longitudes ascend although they are cut in the middle of the domain (0, 5, 350, 355).
        x_lowest: the user's longitudes lie in [x_lowest, x_lowest + 360); None off longitudes.
        metres: length of the user's unit of y and x.
        grid_mapping: the user's grid mapping variable, one of `scalars`.
        attached: whether fields name it (and coordinates their bounds) by attributes, rather than by encodings.
        curvilinear: y and x only number rows and columns; latitudes and longitudes say where they are.
        latitude: the user's name of two-dimensional latitudes, like `longitude`.
        bounds_dimension: the user's dimension of the two vertices, and `vertices_dimension` that of four.
        levels: the vertical dimension that became variables.
    """

    time: str = "time"
    y: str = "y"
    x: str = "x"
    member: str = "member"
    order: tuple[str, ...] = ("time", "y", "x")
    orders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    coordinates: Mapping[str, Coordinate] = field(default_factory=dict)
    scalars: Mapping[str, Scalar] = field(default_factory=dict)
    y_descending: bool = False
    x_westward: bool = False
    x_ascending: bool = False
    x_lowest: float | None = None
    metres: float = 1.0
    grid_mapping: str | None = None
    attached: bool = False
    curvilinear: bool = False
    latitude: str = "lat"
    longitude: str = "lon"
    bounds_dimension: str = "bnds"
    vertices_dimension: str = "vertices"
    levels: Levels | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them."""
        return {key: plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The names that `to_dict` described."""
        known = dict(values)
        known["order"] = tuple(known["order"])
        known["orders"] = {name: tuple(order) for name, order in known["orders"].items()}
        known["coordinates"] = {name: Coordinate(**each) for name, each in known["coordinates"].items()}
        known["scalars"] = {name: Scalar(**each) for name, each in known["scalars"].items()}
        if known["levels"] is not None:
            levels = known["levels"]
            known["levels"] = Levels(**{**levels, "labels": tuple(levels["labels"]), "values": tuple(levels["values"])})
        return cls(**known)


def placed(own: Names, other: Names) -> Names:
    """A file's names for its fields on another's grid: its own times, members and levels, the places of the other."""
    rows = {own.y: other.y, own.x: other.x}
    coordinates = {key: each for key, each in own.coordinates.items() if key not in _PLACES}
    scalars = {name: each for name, each in own.scalars.items() if name != own.grid_mapping}
    if other.grid_mapping is not None:
        scalars[other.grid_mapping] = other.scalars[other.grid_mapping]
    return replace(
        own,
        y=other.y,
        x=other.x,
        order=tuple(rows.get(dim, dim) for dim in own.order),
        orders={name: tuple(rows.get(dim, dim) for dim in order) for name, order in own.orders.items()},
        coordinates={**coordinates, **{key: other.coordinates[key] for key in _PLACES if key in other.coordinates}},
        scalars=scalars,
        **{key: getattr(other, key) for key in _OF_PLACES},
    )


def plain(value: Any) -> Any:
    """Values of attributes without NumPy: numbers, text, lists and dicts."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain attributes as xarray keeps them: lists of numbers as arrays."""
    return {key: np.array(value) if isinstance(value, list) else value for key, value in values.items()}
