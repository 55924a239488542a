"""Parts of a report: tables and pictures that stand in its page, its Markdown and its JSON alike.

calibration          whether chances of an ensemble come true
between_variables    whether variables go together as in truth
climate_change       of the prediction, the truth and the coarse model, and whether it is kept
likeness             whether the input is like that of training, as the guard sees it
Cost                 time and memory, where they were measured
"""

from finegrid.evaluation.parts.base import Part, Picture
from finegrid.evaluation.parts.climate import between_variables, climate_change
from finegrid.evaluation.parts.cost import Cost
from finegrid.evaluation.parts.honesty import calibration
from finegrid.evaluation.parts.likeness import likeness, remembered

__all__ = ["Cost", "Part", "Picture", "between_variables", "calibration", "climate_change", "likeness", "remembered"]
