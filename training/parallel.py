"""Several ranks that share rows: each has a part of the positions (sequence), or of every matrix (tensor).

Ranks of a replica are neighbours and read the same rows; replicas read different ones.

Sequence (Ulysses, Jacobs et al. 2023): each rank computes some positions of all heads, and for attention, all positions
of some heads; DeepSpeed's all-to-all takes one to the other and back. Weights are whole, so ZeRO spreads them over all
ranks as if each were a replica of its own: the sum of their gradients is the gradient.

Tensor (Shoeybi et al. 2019, by DeepSpeed's AutoTP): matrices that read the residual stream are cut by rows, those that
add to it by columns. Embeddings, norms and the output matrix are whole on each rank. In a checkpoint all is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from data_specs.training import Training

ULYSSES = "ulysses"
"""What transformers calls attention over parts of the positions."""
PARTITION = {
    "use_default_specs": False,
    "layer_specs": [
        {"patterns": [r".*\.(q|k|v|gate|up)_proj\.weight$"], "partition_type": "column"},
        {"patterns": [r".*\.(o|down)_proj\.weight$"], "partition_type": "row"},
    ],
}
"""Which matrices AutoTP cuts, in its terms."""


@dataclass(frozen=True)
class Place:
    """Where a rank stands: in which of the replicas, and which part of it."""

    replica: int
    replicas: int
    sequence: tuple[int, int] = (0, 1)
    """Which part of the positions it has, of how many."""
    tensor: tuple[int, int] = (0, 1)
    """The same of matrices."""

    @classmethod
    def of(cls, training: Training, rank: int, world: int) -> Place:
        sequence, tensor = training.sequence_parallel, training.tensor_parallel
        share = sequence * tensor
        return cls(rank // share, world // share, (rank % share % sequence, sequence), (rank % share % tensor, tensor))

    def positions(self, width: int) -> slice:
        """Of so many, those that this rank has."""
        number, of = self.sequence
        return slice(number * width // of, (number + 1) * width // of)

    def rows(self, first: int, count: int, micro: int) -> range:
        """Where this rank's micro-batches of so many rows begin."""
        return range(first + self.replica * micro, first + count, micro * self.replicas)

    @property
    def averaged(self) -> int:
        """Over how many ranks DeepSpeed takes the mean of gradients."""
        return self.replicas * self.sequence[1]

    @property
    def counts(self) -> bool:
        """Whether this rank's losses are counted: of ranks that compute the same ones, the first's are."""
        return self.tensor[0] == 0


def share_positions(model: Any, place: Place) -> None:
    """Have a Llama compute this rank's part of the positions. All ranks call it."""
    from deepspeed.sequence.layer import _SeqAllToAll
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ranks = place.sequence[1]
    groups = [dist.new_group(list(range(first, first + ranks))) for first in range(0, dist.get_world_size(), ranks)]
    group = groups[dist.get_rank() // ranks]

    def attention(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, **more: Any
    ) -> tuple[torch.Tensor, None]:
        """Some positions of all heads [m, heads, T / n, width] -> the same [m, T / n, heads, width]."""
        given = (each.transpose(1, 2).contiguous() for each in (query, key, value))
        some_heads = [_SeqAllToAll.apply(group, each, 2, 1, 0).transpose(1, 2) for each in given]
        found, _ = sdpa_attention_forward(module, *some_heads, mask, **more)
        return _SeqAllToAll.apply(group, found.contiguous(), 1, 2, 0), None

    ALL_ATTENTION_FUNCTIONS.register(ULYSSES, attention)
    model.set_attn_implementation(ULYSSES)
    model.place = place


def _cut(shape: torch.Size, whole: torch.Size) -> int | None:
    """By which dimension a matrix is cut; None where it is whole."""
    return next((number for number, (a, b) in enumerate(zip(shape, whole, strict=True)) if a != b), None)


class Whole:
    """Parameters that AutoTP has cut, put together and cut again; all ranks of a training call it alike."""

    def __init__(self, engine: Any, shapes: dict[str, torch.Size], place: Place) -> None:
        from deepspeed.utils import groups

        self.engine, self.shapes, self.place = engine, shapes, place
        self.tensor_group = groups.get_tensor_model_parallel_group()
        self.data_group = groups.get_data_parallel_group()
        self.parameters = dict(engine.module.named_parameters())
        self.cut = {name: _cut(p.shape, shapes[name]) for name, p in self.parameters.items()}

    def joined(
        self, parts: Iterator[tuple[str, int, dict[str, np.ndarray]]], kinds: Callable[[str], tuple[str, ...]]
    ) -> Iterator[tuple[str, int, dict[str, np.ndarray]]]:
        """Of the parts of cut parameters that each rank keeps, on rank 0 the whole ones."""
        mine: dict[str, list[tuple[int, dict[str, np.ndarray]]]] = {}
        for name, start, arrays in parts:
            mine.setdefault(name, []).append((start, arrays))
        for name, parameter in self.parameters.items():
            found = {}
            for kind in kinds(name):
                part = torch.zeros(parameter.numel())
                for start, arrays in mine.get(name, []):
                    part[start : start + len(arrays[kind])] = torch.from_numpy(arrays[kind])
                if self.engine.zero_optimization_stage():
                    dist.all_reduce(part, group=self.data_group)
                found[kind] = self._whole(name, part.view(parameter.shape)).flatten().numpy()
            if dist.get_rank() == 0:
                yield name, 0, found

    def _whole(self, name: str, part: torch.Tensor) -> torch.Tensor:
        dimension = self.cut[name]
        if dimension is None:
            return part
        parts = [torch.empty_like(part) for _ in range(self.place.tensor[1])]
        dist.all_gather(parts, part.contiguous(), group=self.tensor_group)
        return torch.cat(parts, dimension)

    def reader(self, read: Callable[[str, int, int], dict[str, np.ndarray]]) -> Callable[..., dict[str, np.ndarray]]:
        """(parameter, start in this rank's part of it, elements) -> its arrays, of a reader of whole ones."""

        def of_part(name: str, start: int, count: int) -> dict[str, np.ndarray]:
            number, of = self.place.tensor
            shape, dimension = self.shapes[name], self.cut[name]
            found = read(name, 0, shape.numel())
            if dimension is not None:
                found = {k: np.split(a.reshape(shape), of, axis=dimension)[number].ravel() for k, a in found.items()}
            return {kind: array[start : start + count] for kind, array in found.items()}

        return of_part

    def clip(self, limit: float) -> float:
        """Scale gradients of which each rank has a part, where it has one, to a norm -> their norm before."""
        grads = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        squares = torch.zeros(2)
        for name, grad in grads.items():
            squares[0 if self.cut[name] is None else 1] += grad.float().square().sum().cpu()
        dist.all_reduce(squares[1:], group=self.tensor_group)
        norm = float(squares.sum().sqrt())
        for grad in grads.values():
            grad.mul_(min(1.0, limit / (norm + 1e-6)))
        return norm
