"""Where values lie: grids, and linear maps between two of them."""

from finegrid.grids import cells
from finegrid.grids.grid import Grid, nesting
from finegrid.grids.operator import Operator

OPERATORS = {
    "conservative": Operator.conservative,
    "bilinear": Operator.bilinear,
    "bicubic": Operator.bicubic,
    "nearest": Operator.nearest,
}

__all__ = ["OPERATORS", "Grid", "Operator", "cells", "nesting"]
