"""How likely a field is, by a denoiser: the easier it comes back from noise, the likelier it is.

For a denoiser D that is right at every level s,

    log p(x) = constant - integral of  E |x - D(x + s e; s)|^2 / s^2  d(log s).

The integral is over a few levels around the size of the residuals, and the mean over one noise field and its opposite,
the same for all fields: what matters is how fields differ.

Source: Kong, Brekelmans and Ver Steeg, "Information-theoretic diffusion", ICLR 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from finegrid.heads.draws import Draws

_LOWEST, _HIGHEST, _LEVELS = 0.1, 10.0, 8


@torch.no_grad()
def log_density(
    denoised: Callable[[Tensor, Tensor], Tensor], truth: Tensor, known: Tensor, noise: Callable[[Draws], Tensor]
) -> Tensor:
    """Logarithm of the density of fields (n,), up to a constant; costs sixteen network calls.

    Args:
        denoised: estimates of (noisy fields, levels (n,)).
        truth: fields (n, output, H, W), of order one.
        known: where they count.
        noise: base noise.
    """
    step = math.log(_HIGHEST / _LOWEST) / (_LEVELS - 1)
    total = torch.zeros(len(truth), device=truth.device)
    for number in range(_LEVELS):
        level = _LOWEST * math.exp(step * number)
        some = level * noise(Draws.fresh(1, truth.device))
        for noisy in (truth + some, truth - some):
            error = denoised(noisy, torch.full_like(total, level)) - truth
            total -= torch.where(known, error, 0.0).square().sum((1, 2, 3)) * step / (2 * level**2)
    return total
