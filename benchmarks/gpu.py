"""What only a GPU shows: `python -m benchmarks.gpu`, at most 8 minutes on one; where there is none, it says so.

A Llama of 150M parameters, rows of 2,048 positions that hold several documents each. Printed: losses in bf16 beside
those in float32 on the same batches; tokens/s and the share of the device's peak (MFU) with and without compiled
layers, and with flash-attn, where that is installed; whether a resumed training takes the steps of a straight one to
the last bit; peak memory with and without whole logits, and, where Sluice's own packages are installed, that which its
planner expects. It needs torch and transformers; parts for which something is missing are named and left out.

`--tiny` takes the same path on any machine with a model that shows nothing, to see that it runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

SECONDS = 450
"""After which no further part begins."""
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12, "3090": 71e12}
"""Published operations per second in bf16 without sparsity, by what is in a device's name."""
VOCABULARY, SEED = 50_304, 1


@dataclass(frozen=True)
class Shape:
    """A model and its batches."""

    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 2048
    vocabulary: int = VOCABULARY
    sequence: int = 2048
    micro: int = 8
    steps: int = 10


TINY = Shape(32, 2, 2, 64, 320, 64, 2, 4)


class Bench:
    """One model on one device, trained by torch alone on batches drawn from a seed."""

    def __init__(self, shape: Shape, device: Any, bf16: bool, compiled: bool = False, attention: str = "sdpa") -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(SEED)
        self.shape, self.device, self.bf16 = shape, device, bf16
        config = LlamaConfig(
            vocab_size=shape.vocabulary, hidden_size=shape.hidden, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, num_key_value_heads=shape.heads, intermediate_size=shape.intermediate,
            max_position_embeddings=shape.sequence, tie_word_embeddings=True, use_cache=False,
        )  # fmt: skip
        self.model: Any = LlamaForCausalLM._from_config(config, attn_implementation=attention).to(device)
        for layer in self.model.model.layers if compiled else ():
            layer.compile()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def flops(self) -> int:
        """Of training on one token: 6 per weight that multiplies, and attention (Chowdhery et al. 2022)."""
        return 6 * self.parameters + 12 * self.shape.layers * self.shape.hidden * self.shape.sequence

    def batch(self, step: int) -> tuple[Any, Any, Any]:
        """Tokens of a skewed distribution, positions that begin anew at each of 8 documents, and labels."""
        import torch

        shape, drawn = self.shape, torch.Generator().manual_seed(SEED * 1000 + step)
        tokens = torch.rand(shape.micro, shape.sequence + 1, generator=drawn).pow(4).mul(shape.vocabulary).long()
        positions = (torch.arange(shape.sequence) % (shape.sequence // 8)).expand(shape.micro, -1)
        labels = tokens[:, 1:].masked_fill(positions == shape.sequence // 8 - 1, -100)
        return tokens[:, :-1].to(self.device), positions.to(self.device), labels.to(self.device)

    def step(self, number: int, chunked: bool = False) -> Any:
        """-> the loss, on the device."""
        import torch

        inputs, positions, labels = self.batch(number)
        with torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            found = self.model.model(input_ids=inputs, position_ids=positions, use_cache=False).last_hidden_state
            if chunked:
                from training.models.head import chunked_losses

                total, _ = chunked_losses(found, self.model.lm_head.weight, None, labels)
            else:
                logits = self.model.lm_head(found).float().flatten(0, 1)
                total = torch.nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum")
        loss = total / (labels >= 0).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def speed(bench: Bench, peak: float | None) -> str:
    """Tokens/s of steps after the first ones, which compile and warm up."""
    for number in range(3):
        bench.step(number)
    wait(bench.device)
    began = time.perf_counter()
    for number in range(bench.shape.steps):
        bench.step(number)
    wait(bench.device)
    rate = bench.shape.steps * bench.shape.micro * bench.shape.sequence / (time.perf_counter() - began)
    return f"{rate:,.0f} tokens/s" + (f", MFU {rate * bench.flops / peak:.1%}" if peak else "")


def memory(bench: Bench, chunked: bool) -> str:
    import torch

    if bench.device.type != "cuda":
        bench.step(0, chunked)
        return "no device to measure"
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for number in range(2):
        bench.step(number, chunked)
    most = torch.cuda.max_memory_allocated()
    return f"{most / 2**20:,.0f} MiB at most, of which {(most - before) / 2**20:,.0f} beside the weights"


def losses(bench: Bench) -> list[float]:
    return [float(bench.step(number)) for number in range(bench.shape.steps)]


def resumed(shape: Shape, device: Any) -> str:
    """A straight training, and one whose state went through a copy in the middle and into a new model."""
    import copy

    straight = losses(Bench(shape, device, bf16=True))
    half = shape.steps // 2
    first = Bench(shape, device, bf16=True)
    before = [float(first.step(number)) for number in range(half)]
    state = copy.deepcopy((first.model.state_dict(), first.optimizer.state_dict()))
    second = Bench(shape, device, bf16=True)
    second.model.load_state_dict(state[0])
    second.optimizer.load_state_dict(state[1])
    after = [float(second.step(number)) for number in range(half, shape.steps)]
    if before + after == straight:
        return "to the last bit"
    apart = max(abs(a - b) for a, b in zip(before + after, straight, strict=True))
    return f"NOT to the last bit: losses differ by {apart:.2g} at most"


@contextmanager
def emptied() -> Iterator[None]:
    """What a part held is freed at its end."""
    import gc

    import torch

    yield
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def parts(shape: Shape, device: Any, peak: float | None) -> dict[str, Callable[[], str]]:
    """What is measured, in this order."""

    def precision() -> str:
        exact, low = (losses(Bench(replace(shape, micro=2), device, bf16)) for bf16 in (False, True))
        worst = max(abs(a - b) for a, b in zip(exact, low, strict=True))
        return f"{worst:.4f} apart at most over {shape.steps} steps (float32 {exact[0]:.4f} to {exact[-1]:.4f})"

    found: dict[str, Callable[[], str]] = {
        "losses in bf16 and float32": precision,
        "speed": lambda: speed(Bench(shape, device, bf16=True), peak),
        "speed, layers compiled": lambda: speed(Bench(shape, device, bf16=True, compiled=True), peak),
        "speed, flash-attn": lambda: speed(
            Bench(shape, device, bf16=True, attention="flash_attention_2"), peak
        ),
        "speed, flash-attn, layers compiled": lambda: speed(
            Bench(shape, device, bf16=True, compiled=True, attention="flash_attention_2"), peak
        ),
        "resume": lambda: resumed(shape, device),
        "memory, whole logits": lambda: memory(Bench(shape, device, bf16=True), chunked=False),
        "memory, chunked logits": lambda: memory(Bench(shape, device, bf16=True), chunked=True),
        "memory that is planned": lambda: planned(shape),
        "Sluice's loop": lambda: ours(shape),
    }  # fmt: skip
    return found


def ours(shape: Shape) -> str:
    """Sluice's own loop on DeepSpeed at ZeRO 1: speed, memory against the planner's, and resume from a checkpoint."""
    import tempfile

    import deepspeed  # noqa: F401

    from tasks.storage.store import Store
    from tests import training_plan
    from training import checkpoint, fit, log, memory, ranks
    from training.peak import Peak
    from training.rows import Plan

    ranks.join("auto")
    model, _ = settings(shape)
    made = training_plan.spec(
        1, shape.micro, rows=shape.micro, sequence=shape.sequence, precision="auto", zero=1,
        checkpoint={"every": 3},
    ).model_copy(update={"model": model})  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        training_plan.write(
            store, (6,), rows=shape.micro, sequence=shape.sequence, vocabulary=shape.vocabulary, longest=shape.sequence
        )
        plan = Plan.read(store, training_plan.PLAN)
        runs = []
        for resume in (False, True):
            peak = Peak(torch_device())
            trainer, _ = fit.run_to_end(made, store, plan, "gpu", resume)
            most = peak.most() - peak.before
            assert trainer.log
            trainer.log.flush()
            trainer.engine.destroy()
            runs.append(log.read(store, "gpu"))
            checkpoint.remove(store, "gpu", 6, 6)
        same = [[record["loss"] for record in steps] for steps in runs]
        rows = shape.sequence, shape.sequence
        expected = memory.estimate(model, made.training, shape.vocabulary, *rows, trainer.bf16).total
    rate = runs[0][-1]["tokens_per_second"]
    resumed = "to the last bit" if same[0] == same[1] else "NOT to the last bit"
    sizes = f"{most / 2**20:,.0f} MiB at most, planned {expected / 2**20:,.0f}"
    return f"{rate:,.0f} tokens/s in its last step, {sizes}; resumes {resumed}"


def torch_device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def settings(shape: Shape) -> tuple[Any, Any]:
    """The same model and batch in Sluice's terms."""
    from data_specs.training import Batch, Model

    model = Model(
        hidden=shape.hidden, layers=shape.layers, heads=shape.heads, kv_heads=shape.heads,
        intermediate=shape.intermediate,
    )  # fmt: skip
    return model, Batch(tokens=shape.sequence * shape.micro, micro=shape.micro)


def planned(shape: Shape) -> str:
    from data_specs.training import Training
    from training.memory import estimate

    model, batch = settings(shape)
    training = Training(workers=1, zero=0, sequence=shape.sequence, batch=batch, chunked_loss=False)
    found = estimate(model, training, shape.vocabulary, shape.sequence, shape.sequence, bf16=True)
    return f"{found.total / 2**20:,.0f} MiB with whole logits"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="the same path on any machine; measures nothing")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available() and not options.tiny:
        print("no GPU here: nothing measured")
        return
    device = torch_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "a processor"
    shape = TINY if options.tiny else Shape()
    peak = next((found for key, found in PEAKS.items() if key in name), None)
    built = Bench(shape, device, bf16=False)
    print(f"{name}, torch {torch.__version__}: {built.parameters / 1e6:.0f}M parameters, rows of {shape.sequence:,}")
    del built
    began = time.monotonic()
    for what, measure in parts(shape, device, peak).items():
        if time.monotonic() - began > SECONDS:
            print(f"{what}: left out, as {SECONDS} s are over", flush=True)
            continue
        with emptied():
            try:
                found = measure()
            except (ImportError, ValueError) as error:
                found = f"left out ({str(error).strip().splitlines()[0]})"
        print(f"{what}: {found}", flush=True)


if __name__ == "__main__":
    main()
