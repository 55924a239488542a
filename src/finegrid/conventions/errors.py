"""The one error for mistakes that a user can mend.

A message has three parts: what was got (naming the file and the variable), what is expected, and the call or
option that fixes it. The command line prints it and exits with code 2; any other exception is a fault of the
program.
"""

from __future__ import annotations

import xarray as xr

from finegrid.conventions.credentials import without_credentials


class InputError(ValueError):
    """A file, a variable, a unit or an option that the user can put right; passwords of addresses are left out."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_credentials(str(message)))


def provenance(fields: xr.Dataset, source: str = "input", *, otherwise: str = "input") -> str:
    """Words for `fields` in a message: `source` if the caller named one, else the file that they came from.

    Without a file they are called `otherwise`. This is how the origin of fields is written and said everywhere: it has
    no passwords or tokens of an address.
    """
    return without_credentials(str(fields.encoding.get("source", otherwise))) if source == "input" else source


def described(fields: xr.Dataset) -> str:
    """The first variables with their dimensions: "t2m (time, lat, lon), pr (time, lat, lon)"."""
    shown = (f"{name} ({', '.join(map(str, field.dims))})" for name, field in list(fields.data_vars.items())[:8])
    return ", ".join(shown) or "none"
