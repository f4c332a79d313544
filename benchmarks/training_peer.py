"""The Hugging Face Trainer as a peer of our training loop, for `benchmarks/training.py`; it needs accelerate.

A rank of its own process group trains the class of transformers that ours is, from the same weights, on the same packed
rows in the same order: positions that restart at each document, by which transformers masks documents, and targets as
the plan has them. Rows lie in memory, the optimizer is ours, the rate constant; all else is as the Trainer comes. With
DeepSpeed it has the configuration of ours. Accelerate knows DeepSpeed on GPUs alone; so it is told of the ranks that
there are.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.training_ranks import RATE, WORKERS, Clock, joined


def rows_of(plan: Any, store: Any) -> list[dict[str, Any]]:
    """The rows of a plan, as the Trainer's own collator takes them."""
    import torch

    from training.rows import Rows

    phase = plan.phases[0]
    batch = Rows(store, plan, 0).batch(0, phase.steps * phase.rows_per_step)
    inputs, positions, labels = map(torch.from_numpy, (batch.inputs, batch.positions, batch.labels))
    return [
        {"input_ids": i, "position_ids": p, "labels": t, "shift_labels": t}
        for i, p, t in zip(inputs, positions, labels, strict=True)
    ]


def turns(pipe: Connection, tokens: int) -> Any:
    """Has the Trainer take so many steps as it is told over `pipe`, and answers how fast it took them."""
    from transformers import TrainerCallback

    class Turns(TrainerCallback):
        def wait(self, control: Any) -> None:
            order = pipe.recv()
            control.should_training_stop = order is None
            if order:
                _, self.count = order
                self.left, self.clock = self.count, Clock()

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.wait(control)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.left -= 1
            if not self.left:
                pipe.send(self.clock.rates(self.count * tokens))
                self.wait(control)

    return Turns()


def configured(deepspeed: bool, training: Any, bf16: bool, folder: str, steps: int) -> Any:
    """The Trainer's arguments; with DeepSpeed accelerate is told that it runs on this process group."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType
    from transformers import TrainingArguments

    from training import engine

    more: dict[str, Any] = {"use_cpu": True, "ddp_backend": "gloo", "ddp_find_unused_parameters": False}
    if deepspeed:
        PartialState(cpu=True).distributed_type = DistributedType.DEEPSPEED
        more["accelerator_config"] = {"use_configured_state": True}
        more["deepspeed"] = engine.configuration(training, bf16) | {"gradient_accumulation_steps": "auto"}
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=training.batch.micro,
        gradient_accumulation_steps=training.rows // (training.batch.micro * WORKERS),
        max_steps=steps,
        learning_rate=RATE,
        max_grad_norm=training.clip,
        bf16=bf16,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        logging_first_step=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **more,
    )


def rank(number: int, pipes: list[Connection], folder: str, zero: int, kind: str) -> None:
    """One worker: steps when it is told; at the end the loss of the first step."""
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False  # as ours has it
    spec, store, plan = joined(number, folder, zero, kind)
    import torch
    from transformers import LlamaForCausalLM, PrinterCallback, Trainer

    from training import models, optimizers

    bf16 = models.bf16(spec.training, torch.device("cpu"))
    drawn = models.build(spec.model, plan.vocabulary, plan.longest(), spec.seed)
    model = LlamaForCausalLM(drawn.config)
    model.load_state_dict(drawn.state_dict())
    optimizer = optimizers.of(model, spec.training)
    for group in optimizer.param_groups:
        group["lr"] = RATE
    trainer = Trainer(
        model=model,
        args=configured(kind == "deepspeed", spec.training, bf16, f"{folder}/{kind}-output", plan.steps),
        train_dataset=rows_of(plan, store),
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
        callbacks=[turns(pipes[number], spec.training.batch.tokens)],
    )
    trainer.remove_callback(PrinterCallback)
    with redirect_stdout(io.StringIO()):  # DeepSpeed prints memory
        trainer.train()
    pipes[number].send({"loss": trainer.state.log_history[0]["loss"]})
