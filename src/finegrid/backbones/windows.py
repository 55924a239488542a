"""Part of a domain as a network sees it: windows of coarse cells, and fields made window by window without seams.

    tile = rows x columns of coarse cells;  window = tile and `reach` cells around it, as far as there are any
    answer on the tile = network(all that it sees on the window) on the tile

A network with convolutions looks no further than its receptive field, so that the answer is the same as that for the
whole domain at once, whatever the size of the tiles, and only the features of one window are in memory. Around the
Earth a window goes on at the other side; at an edge of the domain it ends there, and the network pads as it always
does. What belongs to places (learned positions) is cut for the window, and networks that halve the grid begin at
multiples of their `stride`. Noise, first guess and constraint are those of the whole domain (`heads.space.Seen`).

The reach is measured: one input cell that is no number makes the answer no number as far as it is seen.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from finegrid.conventions import InputError

# Sides of the fields on which a reach is measured; a network that sees all of the last has none.
_PROBES = (32, 64, 128, 256)


@dataclass(frozen=True)
class Window:
    """Some coarse cells of a domain, and all fine cells in them.

    Attributes:
        rows: first row, and the one after the last.
        columns: likewise; beyond the domain they go on at its other side.
        shape: coarse cells of the domain along y and x.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    shape: tuple[int, int]

    def of(self, values: Tensor) -> Tensor:
        """The part of fields (..., y, x) on the coarse grid of the domain, or on one whose cells divide its cells."""
        down, across = (size // cells for size, cells in zip(values.shape[-2:], self.shape, strict=True))
        (top, bottom), (left, right) = self.rows, self.columns
        part = (
            values[..., top * down : bottom * down, :]
            if bottom <= self.shape[0]
            else _turned(values, -2, top * down, bottom * down)
        )
        if left >= 0 and right <= self.shape[1]:
            return part[..., left * across : right * across]
        return _turned(part, -1, left * across, right * across)

    def within(self, other: Window) -> Window:
        """This window as part of another one that holds it."""
        (top, bottom), (left, right) = other.rows, other.columns
        rows = (self.rows[0] - top, self.rows[1] - top)
        return Window(rows, (self.columns[0] - left, self.columns[1] - left), (bottom - top, right - left))


def _turned(values: Tensor, axis: int, start: int, stop: int) -> Tensor:
    places = torch.arange(start, stop, device=values.device) % values.shape[axis]
    return values.index_select(axis, places)


@contextmanager
def seen_through(network: nn.Module, window: Window | None) -> Iterator[None]:
    """What is learnt for places is that of the window, within the block."""
    placed = [module for module in network.modules() if hasattr(module, "window")]
    before = [module.window for module in placed]
    try:
        for module in placed:
            module.window = window  # type: ignore[assignment]
        yield
    finally:
        for module, old in zip(placed, before, strict=True):
            module.window = old


@dataclass(eq=False)
class Tiles:
    """How large the tiles are, in coarse cells on a side, and how far each network reaches.

    Raises:
        InputError: on a size below one.
    """

    size: int
    _reaches: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"got tiles of {self.size} coarse cells; expected at least 1; choose another --tile")

    def through(
        self, network: nn.Module, coarse: Tensor, static: Tensor | None, fine: Tensor | None, condition: Tensor | None
    ) -> Tensor:
        """The answer of a backbone, tile by tile.

        Raises:
            InputError: where the network sees the whole domain from every cell.
        """
        height, width = coarse.shape[-2:]
        if self.size >= max(height, width):
            return _answer(network, None, coarse, static, fine, condition)
        if id(network) not in self._reaches:
            self._reaches[id(network)] = reach(network, coarse, static, fine, condition)
        made: Tensor | None = None
        for tile, window in _windows((height, width), self.size, self._reaches[id(network)], network):
            part = _answer(network, window, coarse, static, fine, condition)
            inner = tile.within(window).of(part)
            if made is None:
                cell = [size // cells for size, cells in zip(inner.shape[-2:], _sides(tile), strict=True)]
                made = inner.new_empty(*inner.shape[:2], height * cell[0], width * cell[1])
            tile.of(made).copy_(inner)
        if made is None:
            raise InputError("got a domain without cells; expected some; check the coarse grid")
        return made


def reach(
    network: nn.Module, coarse: Tensor, static: Tensor | None, fine: Tensor | None, condition: Tensor | None
) -> int:
    """Coarse cells beyond its own that a fine cell of the answer depends on, measured on fields like these.

    Raises:
        InputError: where that is all of them.
    """
    probe = copy.deepcopy(network).to("cpu", torch.float64).eval()
    size = coarse.shape[-2:]
    for side in _PROBES:
        whole = Window((0, side), (0, side), (size[0], size[1]))
        shown = [_zeros(each, whole) for each in (coarse, static, fine)]
        told = None if condition is None else torch.zeros(1, condition.shape[-1], dtype=torch.float64)
        found = max(_seen_from(probe, whole, shown, told, side // 2 + offset) for offset in range(stride(network)))
        if found < side // 2 - stride(network):
            return found
    raise InputError(
        f"{type(network).__name__} sees the whole domain from every cell, so that tiles would have seams; expected a "
        "network of convolutions; leave --tile out"
    )


def stride(network: nn.Module) -> int:
    """Coarse cells of which the corner of a window must be a multiple."""
    return int(getattr(network, "stride", 1))


def _seen_from(probe: nn.Module, window: Window, shown: list[Tensor | None], told: Tensor | None, place: int) -> int:
    """How far away the answer changes when all inputs of one coarse cell do."""
    side = window.rows[1]
    marked = [None if each is None else each.clone() for each in shown]
    for each in marked:
        if each is not None:
            down, across = each.shape[-2] // side, each.shape[-1] // side
            each[..., place * down : (place + 1) * down, place * across : (place + 1) * across] = torch.nan
    with torch.no_grad(), seen_through(probe, window):
        answer = probe(marked[0], marked[1], marked[2], told)
    hit = torch.isnan(answer).any(1)[0]
    distances = [0]
    for axis, cells in ((0, hit.shape[0] // side), (1, hit.shape[1] // side)):
        places = torch.nonzero(hit.any(1 - axis))[:, 0] // cells
        distances += [int((places - place).abs().max())] if len(places) else []
    return max(distances)


def _zeros(values: Tensor | None, window: Window) -> Tensor | None:
    if values is None:
        return None
    down, across = (size // cells for size, cells in zip(values.shape[-2:], window.shape, strict=True))
    return torch.zeros(1, values.shape[1], window.rows[1] * down, window.columns[1] * across, dtype=torch.float64)


def _answer(network: nn.Module, window: Window | None, *fields: Tensor | None) -> Tensor:
    if window is None:
        answer: Tensor = network(*fields)
        return answer
    *maps, condition = fields
    cut = [None if each is None else window.of(each) for each in maps]
    with seen_through(network, window):
        answer = network(*cut, condition)
    return answer


def _windows(shape: tuple[int, int], size: int, margin: int, network: nn.Module) -> Iterator[tuple[Window, Window]]:
    """Every tile with the window around it."""
    around = any(getattr(module, "padding", None) == "circular-longitude" for module in network.modules())
    step = stride(network)
    # Where the halvings do not go around evenly, the seam belongs to the whole circle.
    wraps = around and shape[1] % step == 0
    across = _cuts(shape[1], size) if wraps or not around else [(0, shape[1])]
    for rows, columns in itertools.product(_cuts(shape[0], size), across):
        down = _widened(rows, margin, step, shape[0], wraps=False)
        yield Window(rows, columns, shape), Window(down, _widened(columns, margin, step, shape[1], wraps), shape)


def _cuts(count: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def _widened(cells: tuple[int, int], margin: int, step: int, count: int, wraps: bool) -> tuple[int, int]:
    """Cells with the margin, from a multiple of the step to one; no more than there are."""
    start, stop = (cells[0] - margin) // step * step, -(-(cells[1] + margin) // step) * step
    if wraps:
        return (start, stop) if stop - start < count else (0, count)
    return max(start, 0), min(stop, count)


def _sides(window: Window) -> tuple[int, int]:
    return window.rows[1] - window.rows[0], window.columns[1] - window.columns[0]
