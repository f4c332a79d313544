"""DeepSpeed, and all that we know of its insides: how an engine is set up, and where its float32 state lies.

ZeRO (Rajbhandari et al. 2020) spreads weights and AdamW's moments over ranks in flat partitions that differ by stage.
`fragments` names each part by its parameter and place in it, so a checkpoint is independent of stage and world size.
Nothing is compiled. In bf16, gradients accumulate in float32; at ZeRO 0 the weights stay float32 under autocast.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from data_specs.training import Training
from training import models

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state per weight (Loshchilov & Hutter 2019)."""


def initialize(model: torch.nn.Module, training: Training, low_precision: bool) -> Any:
    """A DeepSpeed engine over `model` on the running process group. The caller says which micro-batch is the last of a
    step (`set_gradient_accumulation_boundary`), sets the learning rate, and takes its steps with `step`."""
    os.environ["DS_ACCELERATOR"] = next(model.parameters()).device.type
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # DeepSpeed decorates optimizers we do not use: 2.5 s of imports saved
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    __compatible_ops__["deepspeed_shm_comm"] = False  # else DeepSpeed builds it with g++; gloo does the work anyway
    optimizer = torch.optim.AdamW(models.groups(model, training.weight_decay), lr=0.0, betas=training.betas)
    options = {
        "train_micro_batch_size_per_gpu": training.batch.micro,
        "zero_optimization": {"stage": training.zero},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": training.clip if training.zero else 0.0,
        "steps_per_print": None,
    }
    if low_precision and training.zero:
        options |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    with redirect_stdout(io.StringIO()):  # the bf16 optimizer prints memory
        return deepspeed.initialize(model=model, optimizer=optimizer, config=options, dist_init_required=False)[0]


def step(engine: Any, clip: float) -> float | None:
    """After a micro-batch's backward: the optimizer step where it was the last of the step -> norm of the gradient
    before clipping; None before that. DeepSpeed hides the norm at stage 0, so gradients are clipped here."""
    last, plain = engine.is_gradient_accumulation_boundary(), engine.zero_optimization_stage() == 0
    norm = torch.nn.utils.clip_grad_norm_(engine.module.parameters(), clip) if last and plain else None
    engine.step()
    if not last:
        return None
    return float(engine.get_global_grad_norm() if norm is None else norm)


@dataclass(frozen=True)
class Fragment:
    """This rank's part of a parameter: elements start .. start+numel of it, flattened. `flat` (float32) holds them from
    `offset` on, and is the key of AdamW's state."""

    name: str
    start: int
    numel: int
    flat: torch.Tensor
    offset: int

    def view(self, flat: torch.Tensor) -> torch.Tensor:
        """This fragment in a tensor shaped like `flat`."""
        return flat.detach().view(-1).narrow(0, self.offset, self.numel)


def fragments(engine: Any) -> Iterator[Fragment]:
    """The float32 weights that this rank keeps; over all ranks, every element of every parameter once."""
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
        elif dist.get_rank() == 0:  # ZeRO 0: every rank keeps all
            yield Fragment(name, 0, parameter.numel(), parameter, 0)


def state(engine: Any) -> Iterator[tuple[str, int, dict[str, np.ndarray]]]:
    """This rank's share of a checkpoint: (parameter, start in it, float32 `weight`, `exp_avg`, `exp_avg_sq`)."""
    for part in fragments(engine):
        tensors = {"weight": part.flat, **{key: engine.optimizer.state[part.flat][key] for key in MOMENTS}}
        yield part.name, part.start, {key: part.view(tensor).cpu().numpy() for key, tensor in tensors.items()}


def restore(engine: Any, steps: int, read: Callable[[str, int, int], dict[str, np.ndarray]]) -> None:
    """Put back what `state` gave, after `steps` optimizer steps; `read(name, start, numel)` gives a fragment's arrays.
    To the last bit: at the same world size the run goes on as if it had never stopped."""
    for part in fragments(engine):
        moments = engine.optimizer.state[part.flat]
        if not moments:
            moments["step"] = torch.tensor(float(steps))
            moments.update({key: torch.zeros_like(part.flat) for key in MOMENTS})
        arrays = read(part.name, part.start, part.numel)
        part.view(part.flat).copy_(torch.from_numpy(arrays["weight"]))
        for key in MOMENTS:
            part.view(moments[key]).copy_(torch.from_numpy(arrays[key]))
    if engine.zero_optimization_stage() == 3:
        engine.optimizer.checkpoint_event_prologue()
        for group in range(len(engine.optimizer.fp32_partitioned_groups_flat)):
            engine.optimizer._reassign_or_swap_out_partitioned_parameters(group)
        engine.optimizer.checkpoint_event_epilogue()
    elif engine.zero_optimization_stage():
        engine.optimizer.update_lp_params()
