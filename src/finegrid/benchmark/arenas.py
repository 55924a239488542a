"""Where heads are compared: tasks that share one training, simple methods, and the network of the heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finegrid.heads import HEADS


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the table.

    Attributes:
        label: its name there.
        method: a method name (`pipeline.naming`).
        options: of the downscaler; `settings` among them are those of training.
        dressed: whether a Gaussian dressing of it is a line too.
    """

    label: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dressed: bool = False


@dataclass(frozen=True, kw_only=True)
class Arena:
    """Tasks with one training, and what is common to the methods on them.

    Attributes:
        tasks: names; the first one is learnt from, the tests of all are predicted.
        simple: methods that are no networks.
        network: the method that heads replace the answer of, with its constraint.
        options: of every network.
        target: the CRPS of the best head over the error of the best deterministic method that is to be reached.
    """

    tasks: tuple[str, ...]
    simple: tuple[str, ...]
    network: str
    options: Mapping[str, Any]
    target: float

    def entries(self, heads: Sequence[str | Mapping[str, Any]] | None = None) -> list[Entry]:
        """Simple methods, the network by itself, and it with each head; by default with every head that there is."""
        wanted = [name for name in HEADS if name != "point"] if heads is None else heads
        simple = [Entry(label=name, method=name) for name in self.simple]
        point = Entry(label=self.network, method=self.network, options=self.options, dressed=True)
        return [*simple, point, *(self.entry(head) for head in wanted)]

    def entry(self, head: str | Mapping[str, Any], **options: Any) -> Entry:
        """The network with a head, by name or `{name: ..., **arguments}`."""
        table: Mapping[str, Any] = {"name": head} if isinstance(head, str) else head
        more = ", ".join(f"{key} {each}" for key, each in table.items() if key != "name")
        label = f"{table['name']} ({more})" if more else str(table["name"])
        return Entry(label=label, method=self.network, options={**self.options, **options, "head": dict(table)})


ARENAS: Mapping[str, Arena] = {
    "mrms": Arena(
        tasks=("mrms-x8", "mrms-fmi-x8"),
        simple=("bicubic", "bicubic+multiplicative", "ridge+multiplicative"),
        network="resnet+multiplicative",
        options={"transforms": {"rain_rate": "sqrt"}, "settings": {"batch": 8, "augment": "flips"}},
        target=0.80,
    ),
    "era5": Arena(
        tasks=("era5-uk-t2m-x4",),
        simple=("bicubic", "ridge"),
        network="resnet-on-ridge",
        options={},
        target=0.85,
    ),
    "racmo": Arena(
        tasks=("racmo-pr-x4",),
        simple=("bicubic", "ridge", "glm", "analogues"),
        network="resnet+softmax",
        options={"predictors": ("tas",), "transforms": {"pr": "sqrt"}},
        target=0.80,
    ),
}
