"""Where heads are compared: tasks that share one training, simple methods, and the network of the heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finegrid.conventions.components import table_of, word_of
from finegrid.heads import HEADS

# The single answer is there already, and the general parametric head under the names of its distributions.
_NOT_BY_DEFAULT = ("point", "parametric")


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
        point: the method of the best network with a single answer, with its constraint.
        of_point: its options.
        after: what follows the name of a head in its method name: the downscaler that it refines, and the constraint.
        options: of every head.
        of_heads: further options of some, by name.
        of_simple: options of the methods that are no networks.
        target: the CRPS of the best head over the error of the best deterministic method that is to be reached.
    """

    tasks: tuple[str, ...]
    simple: tuple[str, ...]
    point: str
    of_point: Mapping[str, Any]
    after: str
    options: Mapping[str, Any]
    target: float
    of_heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    of_simple: Mapping[str, Any] = field(default_factory=dict)

    def entries(self, heads: Sequence[str | Mapping[str, Any]] | None = None) -> list[Entry]:
        """Simple methods, the best single answer, and each head with its usual network; by default every one."""
        wanted = [name for name in HEADS if name not in _NOT_BY_DEFAULT] if heads is None else heads
        simple = [Entry(label=name, method=name, options=self.of_simple) for name in self.simple]
        point = Entry(label=self.point, method=self.point, options=self.of_point, dressed=True)
        return [*simple, point, *(self.entry(head) for head in wanted)]

    def entry(self, head: str | Mapping[str, Any], **options: Any) -> Entry:
        """A head with its usual network, by name or `{name: ..., **arguments}`."""
        table, name = table_of(head), word_of(head)
        more = ", ".join(f"{key} {each}" for key, each in table.items() if key != "name")
        usual = self.of_heads.get(name, {})
        own = {**self.options, **usual, **options, "head": {**usual.get("head", {}), **table}}
        word = name if HEADS[name].random else word_of(HEADS[name].usual_backbone)
        return Entry(label=f"{name} ({more})" if more else name, method=f"{word}{self.after}", options=own)


_RADAR: Mapping[str, Any] = {
    "transforms": {"rain_rate": "sqrt"},
    "backbone": {"dropout": 0.1},
    "settings": {"batch": 8, "augment": "flips", "patience": None},
}
# Denoisers are seldom sure of what they have learnt by heart, since they never see the same noise twice; and a field
# with noise is a larger sample than one without, so that few of them make a batch.
_DENOISING: Mapping[str, Any] = {"backbone": {}, "settings": {**_RADAR["settings"], "batch": 2}}
# Members of twenty steps, the usual number, have the same scores here.
_TEN_STEPS: Mapping[str, Any] = {"head": {"steps": 10}}
_ON_RIDGE: Mapping[str, Any] = {"backbone": {"dropout": 0.1}}
_TO_THE_END: Mapping[str, Any] = {"settings": {"patience": None}}

ARENAS: Mapping[str, Arena] = {
    "mrms": Arena(
        tasks=("mrms-x8", "mrms-fmi-x8"),
        simple=("bicubic", "bicubic+multiplicative", "ridge+multiplicative"),
        point="resnet+multiplicative",
        of_point=_RADAR,
        after="+multiplicative",
        options=_RADAR,
        of_heads={"diffusion": {**_DENOISING, **_TEN_STEPS}, "flow": _DENOISING},
        target=0.80,
    ),
    "era5": Arena(
        tasks=("era5-uk-t2m-x4",),
        simple=("bicubic", "ridge"),
        point="resnet-on-ridge",
        of_point=_ON_RIDGE,
        after="-on-ridge",
        options=_ON_RIDGE,
        of_heads={"diffusion": _TEN_STEPS},
        target=0.85,
    ),
    "racmo": Arena(
        tasks=("racmo-pr-x4",),
        simple=("bicubic", "ridge", "random-features", "glm", "analogues"),
        point="resnet+softmax",
        of_point={"predictors": ("tas",), "networks": 3, **_TO_THE_END},
        after="+multiplicative",
        options={"predictors": ("tas",), "backbone": {"dropout": 0.1}, **_TO_THE_END},
        of_heads={"diffusion": _TEN_STEPS},
        target=0.80,
        of_simple={"predictors": ("tas",)},
    ),
}
