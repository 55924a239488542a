"""Flow matching: a head that follows a velocity, in many steps or in few that it has learnt as such."""

from __future__ import annotations

from finegrid.heads.flow.head import FlowHead
from finegrid.heads.flow.solvers import SOLVERS

__all__ = ["SOLVERS", "FlowHead"]
