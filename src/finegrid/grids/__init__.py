"""Where values lie: grids, and linear maps between two of them."""

from finegrid.grids import cells
from finegrid.grids.grid import Grid, nesting
from finegrid.grids.operator import Operator
from finegrid.grids.regions import RegionOperator
from finegrid.grids.temporal import TIME_OPERATORS, TimeOperator

OPERATORS = {
    "conservative": Operator.conservative,
    "bilinear": Operator.bilinear,
    "bicubic": Operator.bicubic,
    "nearest": Operator.nearest,
}

__all__ = [
    "OPERATORS",
    "TIME_OPERATORS",
    "Grid",
    "Operator",
    "RegionOperator",
    "TimeOperator",
    "cells",
    "nesting",
]
