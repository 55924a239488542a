"""Several processes that train one network, as torchrun starts them; each learns from a part of every batch.

    gradient = mean over ranks of gradient( n_r R / n * mean loss of the n_r samples of rank r ),     R ranks, n samples

which is the gradient of the mean loss of the whole batch, also where R does not divide n: two ranks take the steps that
one would take, and each has half of the work. Weights, averages and judgements are the same on every rank; the first
one writes checkpoints and logs. Which samples belong to a step does not depend on the number of ranks.

    torchrun --nproc-per-node 2 -m finegrid fit recipe.yaml --out model/

With `training: {shard: true}` every rank holds a part of weights, gradients and moments and they are put together for
each step (FSDP2), so that networks may be larger than the memory of one device; the averaged weights are whole.

Sources: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020; Zhao et al.,
"PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", VLDB 2023.
"""

from __future__ import annotations

import copy
import os
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from finegrid.heads import Conditions, Head


class MeanLoss(nn.Module):
    """The mean loss of a head, as one call of a module."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, fine: Tensor, given: Conditions) -> Tensor:
        return self.head.loss(fine, given).mean()


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Attributes:
        own: number of this one, from 0.
        count: how many there are.
    """

    own: int = 0
    count: int = 1

    @classmethod
    def joined(cls, device: torch.device) -> Ranks:
        """Those of the environment that torchrun sets, connected with each other; one where there is none."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(distributed.get_rank(), distributed.get_world_size())

    @staticmethod
    def is_first() -> bool:
        """Whether this process is the one that writes."""
        return int(os.environ.get("RANK", "0")) == 0

    def learning(self, head: Head, *, shard: bool) -> tuple[Head, nn.Module]:
        """The head that learns, and its mean loss, whose gradients are those of all ranks.

        Args:
            head: the head, which is whole on every rank.
            shard: whether another one learns in its place, of whose weights, gradients and moments every rank holds a
                part.
        """
        if self.count > 1 and shard:
            from torch.distributed.fsdp import fully_shard

            head = copy.deepcopy(head).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            fully_shard(parted := MeanLoss(head))
            return head, parted
        loss = MeanLoss(head)
        if self.count == 1:
            return head, loss
        with warnings.catch_warnings():  # some heads leave out networks in some steps
            warnings.simplefilter("ignore")
            return head, DistributedDataParallel(loss, find_unused_parameters=True)

    def part(self, fine: Tensor, given: Conditions) -> tuple[Tensor, Conditions, float]:
        """The samples of this rank, and the factor of their mean loss."""
        if self.count == 1:
            return fine, given, 1.0
        chosen = torch.arange(len(fine), device=fine.device)[self.own :: self.count]
        if not len(chosen):  # more ranks than samples: the first sample, which counts nothing
            return fine[:1], given.at(slice(0, 1)), 0.0
        return fine[chosen], given.at(chosen), len(chosen) * self.count / len(fine)

    def mean(self, value: Tensor) -> Tensor:
        """The mean over ranks."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total / self.count

    def agreed(self, value: float) -> float:
        """What the first rank says."""
        if self.count == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64)
        distributed.broadcast(told, src=0)
        return float(told)
