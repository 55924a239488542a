"""Where a network runs, by name."""

from __future__ import annotations

import torch

from finegrid.conventions import InputError


def chosen_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU when there is one.

    Raises:
        InputError: when there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"got the device '{name}', which cannot be used ({reason}); expected cpu or cuda; set training.device: auto"
        ) from None
    return torch.device(name)
