"""The composed job: a recipe, and what it makes; files downscaled and judged."""

from finegrid.pipeline.recipe import Recipe

__all__ = ["Recipe"]
