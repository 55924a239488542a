"""Coarse climate and weather fields in, fine fields out, which conserve and come with an honest report.

The walk in ten lines:

    import finegrid as fg

    fine = fg.samples.open("navy-winds")  # or fg.open_fields("my/*.nc"): the names stay your own
    coarse = fg.coarsen(fine, 4)  # or the coarse file that you have
    past, future = slice("1982", "1989"), slice("1990", "1992")  # blocks of time: random days would leak
    model = fg.NeuralDownscaler(backbone="resnet", constraint="add")
    model.fit(coarse.sel(time=past), fine.sel(time=past))
    prediction = model.predict(coarse.sel(time=future))  # (member, time, y, x)
    result = fg.evaluate(prediction, fine.sel(time=future), coarse=coarse.sel(time=future))
    model.save("model/")  # fg.load("model/") brings it back

The public names below are imported when they are first used, so that `import finegrid` costs nothing: torch,
xarray and matplotlib come in only with the names that need them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finegrid.calibration import CALIBRATORS as CALIBRATORS
    from finegrid.calibration import EVENT_CALIBRATORS as EVENT_CALIBRATORS
    from finegrid.conventions import InputError as InputError
    from finegrid.data import open_fields as open_fields
    from finegrid.data import samples as samples
    from finegrid.data.coarsen import coarsen as coarsen
    from finegrid.data.write import write as write
    from finegrid.downscalers import DOWNSCALERS as DOWNSCALERS
    from finegrid.downscalers import NeuralDownscaler as NeuralDownscaler
    from finegrid.downscalers import load as load
    from finegrid.downscalers.method import method as method
    from finegrid.downscalers.processors import processors as processors
    from finegrid.evaluation import Evaluation as Evaluation
    from finegrid.evaluation import evaluate as evaluate
    from finegrid.evaluation.value_table import value_table as value_table
    from finegrid.grids import Grid as Grid
    from finegrid.grids import Operator as Operator
    from finegrid.pipeline import Recipe as Recipe
    from finegrid.training import Settings as Settings

__version__ = "0.1.0"

_STAGE_OF_NAME = {
    "InputError": "conventions",
    "Grid": "grids",
    "Operator": "grids",
    "coarsen": "data",
    "open_fields": "data",
    "samples": "data",
    "write": "data",
    "DOWNSCALERS": "downscalers",
    "NeuralDownscaler": "downscalers",
    "load": "downscalers",
    "method": "downscalers",
    "processors": "downscalers",
    "CALIBRATORS": "calibration",
    "EVENT_CALIBRATORS": "calibration",
    "Recipe": "pipeline",
    "Settings": "training",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "value_table": "evaluation",
}

__all__ = ["__version__", *_STAGE_OF_NAME]


def __getattr__(name: str) -> Any:
    """Import a public name from its stage when it is first asked for (PEP 562)."""
    if name not in _STAGE_OF_NAME:
        raise AttributeError(f"module 'finegrid' has no attribute {name!r}; its names are {', '.join(__all__)}")
    value = getattr(import_module(f"finegrid.{_STAGE_OF_NAME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
