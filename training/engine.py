"""DeepSpeed, and all that we know of its insides: how an engine is set up, and where its float32 state lies.

ZeRO (Rajbhandari et al. 2020) spreads weights and optimizer state over ranks in flat partitions that differ by stage.
`fragments` names each part by its parameter and place in it, so a checkpoint is independent of stage and world size.
Nothing is compiled. In bf16, gradients accumulate in float32; at ZeRO 0 the weights stay float32 under autocast.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from data_specs.training import Training
from training import optimizers
from training.checkpoint import CheckpointError
from training.optimizers.muon import MuonAndAdamW, Part
from training.parallel import PARTITION, Place, Whole
from training.ranks import from_all_ranks

AVERAGE = "average"
"""What checkpoints call the moving average of weights."""


def initialize(model: torch.nn.Module, training: Training, bf16: bool, compiled: bool = False) -> Any:
    """A DeepSpeed engine over `model` on the running process group. The caller says which micro-batch is the last of a
    step (`set_gradient_accumulation_boundary`), sets the learning rate, and takes its steps with `step`."""
    os.environ["DS_ACCELERATOR"] = next(model.parameters()).device.type
    if not compiled:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # DeepSpeed decorates optimizers we do not use: 2.5 s of imports saved
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    __compatible_ops__["deepspeed_shm_comm"] = False  # else DeepSpeed builds it with g++; gloo does the work anyway
    optimizer, kinds = optimizers.of(model, training), optimizers.kinds(model, training)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    options = configuration(training, bf16)
    with redirect_stdout(io.StringIO()):  # the bf16 optimizer prints memory
        made = deepspeed.initialize(model=model, optimizer=optimizer, config=options, dist_init_required=False)[0]
    made.state_kinds, made.averages, made.whole = kinds, None, None
    if training.tensor_parallel > 1:
        made.whole = Whole(made, shapes, Place.of(training, dist.get_rank(), dist.get_world_size()))
    if isinstance(optimizer, MuonAndAdamW) and training.zero:
        optimizer.layout = _layout(made, shapes)
    made.wanted = None
    update = optimizer.step

    def update_where_wanted() -> Any:
        """DeepSpeed calls it with the step's gradients in place, and clears them afterwards either way."""
        return update() if made.wanted is None or made.wanted() else None

    optimizer.step = update_where_wanted  # type: ignore[assignment, method-assign]
    if training.average:
        made.averages = {flat: flat.detach().clone() for flat in flats(made)}
    return made


def configuration(training: Training, bf16: bool) -> dict[str, Any]:
    """What DeepSpeed is told; `bf16`: whether to train in that."""
    options = {
        "train_micro_batch_size_per_gpu": training.batch.micro,
        "zero_optimization": {"stage": training.zero, **_offloaded(training)},
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": training.clip if training.zero else 0.0,
        "steps_per_print": None,
    }
    if bf16 and training.zero:
        options |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    if training.precision == "fp16":
        options |= {"fp16": {"enabled": True, "loss_scale": 0, "initial_scale_power": 16}}
    if training.tensor_parallel > 1:
        options |= {"tensor_parallel": {"autotp_size": training.tensor_parallel, "partition_config": PARTITION}}
    return options


def _offloaded(training: Training) -> dict[str, Any]:
    """What ZeRO keeps in the memory of the machine."""
    kept = {"optimizer": ("offload_optimizer",), "weights": ("offload_optimizer", "offload_param")}
    return {key: {"device": "cpu", "pin_memory": True} for key in kept.get(training.offload, ())}


def overflowed(engine: Any) -> bool:
    """Whether the last step was left out as gradients in fp16 were too large; the next has half the scale."""
    return bool(engine.fp16_enabled() and engine.optimizer.overflow)


def step(engine: Any, clip: float, wanted: Callable[[float], bool] | None = None) -> float | None:
    """After a micro-batch's backward: the optimizer step where it was the last of the step -> norm of the gradient
    before clipping; None before that. `wanted` tells by the norm whether weights and the optimizer's state are updated.
    DeepSpeed hides the norm at stage 0, so gradients are clipped here."""
    last, plain = engine.is_gradient_accumulation_boundary(), engine.zero_optimization_stage() == 0
    norm = _clip(engine, clip) if last and plain else None
    if wanted:
        engine.wanted = lambda: wanted(float(engine.optimizer._global_grad_norm if norm is None else norm))
    engine.step()
    engine.wanted = None
    if not last:
        return None
    return float(engine.get_global_grad_norm() if norm is None else norm)


def _clip(engine: Any, clip: float) -> float:
    """Norm of the gradient, before it is scaled to what it may be at most."""
    if engine.whole:
        return float(engine.whole.clip(clip))
    return float(torch.nn.utils.clip_grad_norm_(engine.module.parameters(), clip))


@dataclass(frozen=True)
class Fragment:
    """This rank's part of a parameter: elements start .. start+numel of it, flattened. `flat` (float32) holds them from
    `offset` on, and is the key of the optimizer's state."""

    name: str
    start: int
    numel: int
    flat: torch.Tensor
    offset: int

    def view(self, flat: torch.Tensor) -> torch.Tensor:
        """This fragment in a tensor shaped like `flat`."""
        return flat.detach().view(-1).narrow(0, self.offset, self.numel)


def fragments(engine: Any, copies: bool = False) -> Iterator[Fragment]:
    """The float32 weights that this rank keeps; over all ranks, every element of every parameter once, or also the
    `copies` of those that another rank is the first to keep."""
    for name, parameter in engine.module.named_parameters():
        if hasattr(parameter, "ds_id"):  # ZeRO 3
            optimizer, size = engine.optimizer, parameter.partition_numel()
            group, offset, _ = optimizer.grad_position[optimizer.get_param_id(parameter)]
            start = dist.get_rank() * size
            numel = min(size, parameter.ds_numel - start)
            if numel > 0:
                yield Fragment(name, start, numel, optimizer.fp32_partitioned_groups_flat[group], offset)
        elif hasattr(parameter, "_hp_mapping"):  # ZeRO 1 and 2
            mapping = parameter._hp_mapping
            if mapping is not None:
                flat = engine.optimizer.param_groups[mapping.param_group_index]["params"][0]
                here, there = mapping.lp_fragment_address, mapping.hp_fragment_address
                yield Fragment(name, here.start, here.numel, flat, there.start)
        elif copies or dist.get_rank() == 0:  # ZeRO 0: every rank keeps all
            yield Fragment(name, 0, parameter.numel(), parameter, 0)


def flats(engine: Any) -> list[torch.Tensor]:
    """The float32 tensors that hold this rank's weights."""
    if engine.zero_optimization_stage() == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [tensor for group in engine.optimizer.param_groups for tensor in group["params"]]


def _layout(engine: Any, shapes: Mapping[str, torch.Size]) -> dict[torch.Tensor, list[Part]]:
    """The matrices of each flat tensor that Muon moves, in the order of the model, with every rank's parts of them."""
    mine = {part.name: part for part in fragments(engine)}
    everyone = from_all_ranks({name: (part.start, part.numel) for name, part in mine.items()})
    found: dict[torch.Tensor, list[Part]] = {}
    for name, parameter in engine.module.named_parameters():
        if engine.state_kinds[name] != optimizers.MUON:
            continue
        if hasattr(parameter, "ds_id"):
            group = engine.optimizer.grad_position[engine.optimizer.get_param_id(parameter)][0]
            flat = engine.optimizer.fp32_partitioned_groups_flat[group]
        else:
            flat = next(group for group in engine.optimizer.param_groups if group["muon"])["params"][0]
        part, parts = mine.get(name), [places.get(name, (0, 0)) for places in everyone]
        start, numel, offset = (part.start, part.numel, part.offset) if part else (0, 0, 0)
        found.setdefault(flat, []).append(Part(shapes[name], start, numel, offset, parts))
    return found


def state(engine: Any) -> Iterator[tuple[str, int, dict[str, np.ndarray]]]:
    """This rank's share of a checkpoint: (parameter, start in it, float32 `weight`, what the optimizer keeps of it, and
    `average` where there is one)."""
    if engine.whole is None:
        return _state(engine)
    more = (AVERAGE,) if engine.averages else ()
    return engine.whole.joined(_state(engine, copies=True), lambda name: ("weight", *engine.state_kinds[name], *more))


def _state(engine: Any, copies: bool = False) -> Iterator[tuple[str, int, dict[str, np.ndarray]]]:
    """The same of parameters as they are cut."""
    for part in fragments(engine, copies):
        tensors = {"weight": part.flat}
        tensors |= {key: engine.optimizer.state[part.flat][key] for key in engine.state_kinds[part.name]}
        if engine.averages:
            tensors[AVERAGE] = engine.averages[part.flat]
        yield part.name, part.start, {key: part.view(tensor).cpu().numpy() for key, tensor in tensors.items()}


def restore(engine: Any, steps: int, read: Callable[[str, int, int], dict[str, np.ndarray]]) -> None:
    """Put back what `state` gave, after `steps` updates by the optimizer; `read(name, start, numel)` gives a fragment's
    arrays, of which before the first only the weights are needed. To the last bit: at the same world size the run goes
    on as if it had never stopped. Raises CheckpointError where an array is missing."""
    if engine.whole:
        read = engine.whole.reader(read)
    for part in fragments(engine, copies=True):
        kept, kinds = engine.optimizer.state[part.flat], engine.state_kinds[part.name]
        if not kept:
            if kinds == optimizers.ADAMW:
                kept["step"] = torch.tensor(float(steps))
            kept.update({key: torch.zeros_like(part.flat) for key in kinds})
        arrays = read(part.name, part.start, part.numel)
        wanted = {"weight": part.flat, **{key: kept[key] for key in kinds}}
        if engine.averages:
            wanted[AVERAGE] = engine.averages[part.flat]
            if not steps:
                arrays.setdefault(AVERAGE, arrays["weight"])
        for key, tensor in wanted.items():
            if key in arrays:
                part.view(tensor).copy_(torch.from_numpy(arrays[key]))
            elif steps:
                raise CheckpointError(f"the checkpoint has no {key} of {part.name}: it is of other settings")
    _weights_changed(engine)


def average(engine: Any, decay: float, step: int) -> None:
    """Move the average of weights towards them, after an optimizer step; `step` are those that were taken."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    for flat, mean in engine.averages.items():
        mean.lerp_(flat.detach(), share)


@contextmanager
def averaged(engine: Any) -> Iterator[None]:
    """While the block runs, the model has the average of its weights."""
    _swap(engine)
    try:
        yield
    finally:
        _swap(engine)


@torch.no_grad()
def _swap(engine: Any) -> None:
    """Weights and their average change places."""
    for flat, mean in engine.averages.items():
        weights = flat.detach().clone()
        flat.copy_(mean)
        mean.copy_(weights)
    _weights_changed(engine)


def _weights_changed(engine: Any) -> None:
    """Have the model read the float32 weights anew."""
    if engine.zero_optimization_stage() == 3:
        engine.optimizer.checkpoint_event_prologue()
        for group in range(len(engine.optimizer.fp32_partitioned_groups_flat)):
            engine.optimizer._reassign_or_swap_out_partitioned_parameters(group)
        engine.optimizer.checkpoint_event_epilogue()
    elif engine.zero_optimization_stage():
        engine.optimizer.update_lp_params()
