"""What a regression sees of coarse fields; each variant by name."""

from finegrid.downscalers.features.around import Around, Components
from finegrid.downscalers.features.base import Features, Prepared
from finegrid.downscalers.features.convolutions import Convolutions
from finegrid.downscalers.features.window import Window

FEATURES: dict[str, type[Features]] = {each.name: each for each in (Window, Around, Components, Convolutions)}

__all__ = ["FEATURES", "Around", "Components", "Convolutions", "Features", "Prepared", "Window"]
