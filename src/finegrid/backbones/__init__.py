"""Networks from coarse to fine tensors; `base` says what they share."""

from __future__ import annotations

from collections.abc import Callable

from finegrid.backbones.base import Backbone
from finegrid.backbones.resnet import ResNet
from finegrid.backbones.srresnet import SRResNet
from finegrid.backbones.unet import UNet

BACKBONES: dict[str, Callable[..., Backbone]] = {"srresnet": SRResNet, "resnet": ResNet, "unet": UNet}

__all__ = ["BACKBONES", "Backbone", "ResNet", "SRResNet", "UNet"]
