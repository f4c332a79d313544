"""Settings of model and training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from data_specs import causal_config
from data_specs.base import Count, Label, Name, Settings, Share, Steps, is_empty, is_unset
from data_specs.mixture import Curriculum, Packing
from data_specs.objectives import Causal, Objective
from data_specs.optimization import Average, Muon
from data_specs.trackers import Trackers

CHUNKED_FROM = 4096
"""Entries of a vocabulary from which the loss is chunked by default."""


class VocabularyPadding(Settings):
    """Reserved entries behind those of the tokenizer, so that matrices have a size that processors like and tokens can
    be added later."""

    multiple: Annotated[int, Field(ge=1, le=2**16)] = 128
    """The model's entries are a multiple of this."""
    buffer: Annotated[int | None, Field(ge=0, le=2**16)] = None
    """Reserved entries, at least; null: 1,000 beside a tokenizer of 65,536 entries or more, else none."""

    def reserved(self, entries: int) -> int:
        """How many entries are added to so many."""
        buffer = self.buffer if self.buffer is not None else 1000 if entries >= 2**16 else 0
        return -(-(entries + buffer) // self.multiple) * self.multiple - entries


class Model(Settings):
    """An architecture of transformers, drawn from the spec's seed."""

    architecture: Literal["llama", "bert", "t5", "xlnet", "causal"] = "llama"
    """Llama (Touvron et al. 2023: RoPE, GQA, RMSNorm, SwiGLU), BERT (Devlin et al. 2019), T5 (Raffel et al. 2020),
    XLNet (Yang et al. 2019), or the causal model of `folder`."""
    folder: Annotated[str | None, Field(exclude=True)] = None
    """A folder of a causal model of transformers, whose `config.json` says architecture and sizes; its weights are
    taken where `training.start` names it, too."""
    config: Annotated[dict[str, Any], Field(exclude_if=is_empty)] = {}
    """What that says, as a run keeps it."""
    hidden: Annotated[int, Field(ge=8)] = 128
    """Width."""
    layers: Annotated[int, Field(ge=1)] = 4
    """Of T5, in the encoder and again in the decoder."""
    heads: Annotated[int, Field(ge=1)] = 4
    kv_heads: Annotated[int, Field(ge=1)] = 2
    """Key and value heads of a Llama; divides `heads`."""
    intermediate: Annotated[int, Field(ge=8)] = 320
    """Width between the two matrices of a layer that follow attention."""
    tied: bool = True
    """Input and output embeddings are one matrix."""
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    """Base of a Llama's RoPE."""
    norm_eps: Annotated[float, Field(gt=0, lt=1, exclude_if=lambda eps: eps == 1e-6)] = 1e-6
    """What a Llama's norms add to the mean square, against division by 0."""
    qk_norm: Annotated[bool, Field(exclude_if=is_empty)] = False
    """Normalise a Llama's queries and keys in each head (RMSNorm; Dehghani et al. 2023); it is exported as Qwen3."""
    depth_scaled_init: Annotated[bool, Field(exclude_if=is_empty)] = False
    """Draw a Llama's matrices that add to the residual stream smaller by sqrt(2 x layers) (Radford et al. 2019)."""
    vocabulary: Annotated[VocabularyPadding | None, Field(exclude_if=is_unset)] = None
    """Reserved entries of its vocabulary; by default it has those of the tokenizer, and what the objectives add."""

    @model_validator(mode="before")
    @classmethod
    def _of_folder(cls, said: Any) -> Any:
        """Raises ValueError where a folder has no configuration, or is not the only one to say sizes."""
        if not (isinstance(said, dict) and said.get("folder")):
            return said
        if beside := sorted(said.keys() - {"folder", "architecture", "vocabulary"}):
            raise ValueError(f"folder says what the model is; leave out {', '.join(beside)}")
        if said.get("architecture", "causal") != "causal":
            raise ValueError(f"folder is of a causal model, not of a {said['architecture']}")
        return said | {"architecture": "causal"} | causal_config.read(said["folder"])

    @model_validator(mode="after")
    def _divides(self) -> Model:
        if (self.architecture == "causal") != bool(self.config):
            raise ValueError("a causal model has a folder: model: {folder: PATH}")
        if self.architecture == "causal":
            return self
        if self.architecture != "llama":
            fields = type(self).model_fields
            llamas = ("kv_heads", "rope_theta", "norm_eps", "qk_norm", "depth_scaled_init")
            if idle := [name for name in llamas if getattr(self, name) != fields[name].default]:
                raise ValueError(f"{', '.join(idle)} is for a llama; {self.architecture} has none")
            if self.hidden % (2 * self.heads):
                raise ValueError("hidden must be an even multiple of heads")
            if self.architecture == "t5" and not self.tied:
                raise ValueError("a t5 has one matrix of embeddings (tied: true)")
            return self
        if self.hidden % (2 * self.heads) or self.heads % self.kv_heads:
            raise ValueError("hidden must be an even multiple of heads, as RoPE turns pairs, and heads one of kv_heads")
        return self


class Batch(Settings):
    """The batch of one optimizer step."""

    tokens: Count = 8192
    """Tokens of a step over all ranks; a multiple of sequence x micro x workers."""
    micro: Annotated[int, Field(ge=1)] = 8
    """Rows of a micro-batch of one rank."""


class LearningRate(Settings):
    """A pure function of the place in the plan; training/schedule.py has the formulas."""

    peak: Annotated[float, Field(gt=0)] = 4e-3
    """Largest rate; for noam the factor before (hidden x steps) ** -0.5."""
    schedule: Literal["wsd", "cosine", "linear", "inverse_sqrt", "noam", "constant"] = "wsd"
    """Warm-up, stable, decay (Hu et al. 2024); or warm-up and half a cosine (Loshchilov & Hutter 2017), a line to the
    floor, one over the root of the steps (Raffel et al. 2020), the same scaled by the model's width (Vaswani et al.
    2017), or nothing more."""
    warmup: Steps = 20
    """Steps of linear warm-up."""
    decay: Share = 0.2
    """Last share of the steps in which wsd decays."""
    shape: Annotated[
        Literal["linear", "cosine", "exponential", "1-sqrt"], Field(exclude_if=lambda shape: shape == "linear")
    ] = "linear"
    """How wsd decays; 1-sqrt is that of Hägele et al. 2024."""
    floor: Share = 0.0
    """Share of the peak at the end, and of inverse_sqrt and noam the least."""

    @model_validator(mode="after")
    def _consistent(self) -> LearningRate:
        if self.shape != "linear" and self.schedule != "wsd":
            raise ValueError(f"shape is how wsd decays; {self.schedule} has none")
        if self.shape == "exponential" and not self.floor:
            raise ValueError("an exponential decay needs a floor above 0, such as 1%")
        if self.schedule in ("inverse_sqrt", "noam") and not self.warmup:
            raise ValueError(f"{self.schedule} needs a warm-up of at least one step, from whose end it falls")
        return self


class EvaluationSet(Settings):
    """Documents of a file of JSON lines, plain or compressed (.gz, .zst, .bz2, .xz)."""

    path: Annotated[str, Field(min_length=1)]
    """Path or URL."""
    field: str = "text"
    """Of a line, what its text is in."""
    documents: Annotated[int, Field(ge=1, le=100_000)] = 300
    """The first so many are read."""


class Evaluate(Settings):
    """Held-out loss per channel."""

    every: Steps = 50
    """Steps between evaluations; also before the first and after the last step."""
    held_out: Annotated[Share, Field(lt=1)] = 0.005
    """Share of the first run's documents, which are never trained on; a hash chooses each by itself, so few documents
    may have more or fewer (2% of 310: 11). Frozen then: later nights of the same sources add none, so the share falls
    as the corpus grows; sources that come later have this share of their own."""
    tokens: Count = 65_536
    """Tokens per channel evaluated, at most."""
    sets: Annotated[dict[Label, EvaluationSet], Field(exclude_if=is_empty)] = {}
    """Documents of files, evaluated beside the held-out ones; they are not kept out of the training."""


class Checkpoint(Settings):
    """When state is saved and how much of it stays."""

    every: Steps = 50
    keep: Annotated[int, Field(ge=1)] = 3
    """Newest checkpoints kept."""
    milestones: Annotated[Steps, Field(exclude_if=is_empty)] = 0
    """Every so many steps one is saved that stays; 0: none."""
    upload: Annotated[str | None, Field(exclude_if=is_unset)] = None
    """Folder or URL that the exported model is written to as well, below the training's name."""


class Spikes(Settings):
    """Steps whose loss or gradient is far from those before them, and what is done about them. A loss or norm that is
    not finite is always one."""

    action: Literal["rollback", "skip", "stop"] = "rollback"
    """Go back to the newest checkpoint and on without the step's rows; leave out the step's update, and go on behind
    it; or stop, and let the next run go back."""
    window: Annotated[int, Field(ge=8, le=100_000)] = 128
    """Steps of its phase that a step is held against, once there are half as many and the warm-up is over."""
    threshold: Annotated[float, Field(gt=0)] = 8.0
    """Robust standard deviations (1.4826 times the median absolute deviation, at least 1 % of the median) by which the
    loss may be away from the median, above or below."""
    norm_threshold: Annotated[float, Field(gt=0)] = 100.0
    """The same for the gradient's norm, above its median alone; norms have long tails, and are clipped anyway."""
    at_most: Annotated[int, Field(ge=0)] = 3
    """Rollbacks of a training, or updates left out one after the other; at the next spike it stops."""
    rate: Annotated[Share, Field(gt=0)] = 1.0
    """What the learning rate is multiplied by after rows that were skipped."""
    steps: Steps = 100
    """For so many steps of the plan."""


class Start(Settings):
    """What a training begins with, in the place of weights drawn from the seed: `model` has to have its sizes."""

    folder: str | None = None
    """A folder of transformers' weights (safetensors); its tokenizer is `tokenizer: {kind: file, path: ...}`."""
    run: Annotated[str | None, Field(pattern=r"^[^@]+@[0-9]+$")] = None
    """A checkpoint of another training of this store, NAME@STEP."""
    state: bool = False
    """Of a run, also the optimizer's state: a branch that goes on as the run would."""

    @model_validator(mode="after")
    def _one(self) -> Start:
        if (self.folder is None) == (self.run is None):
            raise ValueError("give a folder, or a run")
        if self.state and self.run is None:
            raise ValueError("state is of a run; a folder has weights alone")
        return self

    @property
    def of_run(self) -> tuple[str, int]:
        """Name and step of the run."""
        name, _, step = (self.run or "@0").rpartition("@")
        return name.removeprefix("runs/"), int(step)


Beta = Annotated[float, Field(ge=0, lt=1)]
"""How much of a running mean of AdamW stays at each step."""


class Training(Settings):
    """Training on DeepSpeed ZeRO (Rajbhandari et al. 2020)."""

    workers: Annotated[int, Field(ge=1)] = 2
    """Ranks: one process and one accelerator (or CPU core) each."""
    zero: Annotated[int, Field(ge=0, le=3)] = 1
    """ZeRO stage."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """auto: GPUs where Ray has one for each worker, else processors, which is said where there are some."""
    precision: Literal["auto", "bf16", "fp32", "fp16"] = "auto"
    """auto: bf16 on CUDA and on processors with a bf16 unit, else fp32. fp16, with a scale of the loss that adapts, is
    for GPUs without bf16."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """How attention is computed: by torch's fused function (sdpa; auto), step by step (eager), or by the package
    flash-attn on GPUs, which needs no mask of T x T to keep documents apart."""
    compile: Literal["auto"] | bool = "auto"
    """Compile layers with torch.compile; auto: on GPUs, up to ZeRO 2. Losses differ by rounding."""
    activation_checkpointing: bool = False
    """Keep of each layer its input alone, and compute it again on the way back (Chen et al. 2016): less memory, a third
    more time. Losses stay the same."""
    sequence_parallel: Annotated[int, Field(ge=1)] = 1
    """Ranks that share the positions of a row (DeepSpeed Ulysses; Jacobs et al. 2023): divides a Llama's heads, those
    of keys and values, and the positions. Losses differ by rounding."""
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    """Ranks that share each matrix of a Llama's layers (Shoeybi et al. 2019; DeepSpeed's AutoTP), at ZeRO 0 or 1.
    Losses differ by rounding."""
    pipeline_parallel: Annotated[int, Field(ge=1)] = 1
    """Ranks that share the layers; there is none yet, so 1."""
    offload: Literal["none", "optimizer", "weights"] = "none"
    """Keep the optimizer's state in the memory of the machine, not of the GPU, and update there (Ren et al. 2021); or,
    at ZeRO 3, the weights, too."""
    objective: Annotated[Objective, Field(exclude_if=lambda objective: objective == Causal())] = Causal()
    """What is predicted: causal, prefix, masked, span_corruption or permutation."""
    sequence: Annotated[int, Field(ge=8)] = 256
    """Positions of a row (T), of the encoder in span corruption. Where each predicts the next token, a row holds T+1
    tokens."""
    batch: Batch = Batch()
    steps: Annotated[int, Field(ge=1, lt=2**40)] | None = None
    """Optimizer steps of `batch.tokens`, whatever the token budget; null: the budget over the tokens of a step. Phases
    of another batch take as many tokens in more steps, or fewer."""
    start: Annotated[Start | None, Field(exclude_if=is_unset)] = None
    """Weights to begin with; by default drawn from the seed."""
    learning_rate: LearningRate = LearningRate()
    z_loss: Annotated[float, Field(ge=0, exclude_if=is_empty)] = 0.0
    """What the square of the logarithm of each target's sum of exponentials is multiplied by and added to what is
    minimised, not to the losses that are reported; 1e-4 in Chowdhery et al. 2022."""
    chunked_loss: Literal["auto"] | bool = "auto"
    """Compute logits and loss of some tokens at a time, so that the logits of a micro-batch are never held whole; auto:
    where the vocabulary has 4,096 entries or more. Losses differ by rounding."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    muon: Annotated[Muon | None, Field(exclude_if=is_unset)] = None
    """Muon for the matrices of layers; by default all have AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """On matrices only."""
    average: Annotated[Average | None, Field(exclude_if=is_unset)] = None
    """Keep a moving average of the weights; by default none."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    evaluate: Evaluate = Evaluate()
    checkpoint: Checkpoint = Checkpoint()
    loss_by: Annotated[tuple[Name, ...], Field(exclude_if=is_empty)] = ()
    """Columns of text, such as language and source, by whose values the loss is summed beside the channels."""
    spikes: Annotated[Spikes | None, Field(exclude_if=is_unset)] = None
    """Watch for spikes; by default a training stops at a loss or norm that is not finite, and at nothing else."""
    restarts: Annotated[int, Field(ge=0, exclude_if=lambda restarts: restarts == 3)] = 3
    """How often a run starts the workers again, from the newest checkpoint, after one of them died."""
    watchdog: Annotated[float, Field(ge=0, exclude_if=lambda seconds: seconds == 300)] = 300.0
    """Seconds that a rank may be silent: then it is named with its stack, and the workers end. 0: any number."""
    trackers: Annotated[Trackers | None, Field(exclude_if=is_unset)] = None
    """Weights & Biases or MLflow beside the log and TensorBoard's files."""
    grace: Annotated[float, Field(ge=0, le=86_400)] = 20.0
    """Seconds that a run which a signal ends waits for a checkpoint; beyond, it ends at the last one."""

    @model_validator(mode="after")
    def _batch(self) -> Training:
        if self.workers % (shared := self.sequence_parallel * self.tensor_parallel):
            raise ValueError(
                f"workers is {self.workers}, not a multiple of sequence_parallel x tensor_parallel = {shared}"
            )
        unit = self.sequence * self.batch.micro * self.replicas
        if self.batch.tokens % unit or not self.batch.tokens:
            raise ValueError(
                f"batch.tokens is {self.batch.tokens:,}, not a multiple of sequence x micro x workers = {unit:,}"
            )
        return self

    @property
    def replicas(self) -> int:
        """Of the model: groups of workers that read rows of their own."""
        return self.workers // (self.sequence_parallel * self.tensor_parallel)

    @model_validator(mode="after")
    def _possible(self) -> Training:
        if self.precision == "fp16" and not self.zero:
            raise ValueError("precision fp16 needs zero 1, 2 or 3, whose optimizer scales the loss")
        if self.pipeline_parallel > 1:
            largest = 80e9 * self.workers / 16e9
            raise ValueError(
                "pipeline_parallel is not there yet: layers are spread by zero 3 and tensor_parallel, which on "
                f"{self.workers} devices of 80 GB hold at most {largest:.0f}B parameters with their optimizer's state"
            )
        if self.tensor_parallel > 1:
            if self.sequence_parallel > 1:
                raise ValueError("tensor_parallel and sequence_parallel exclude each other")
            if self.zero > 1 or self.muon or self.offload != "none":
                raise ValueError("tensor_parallel is for zero 0 and 1, without muon and offload")
        stages = {"none": (0, 1, 2, 3), "optimizer": (1, 2, 3), "weights": (3,)}[self.offload]
        if self.zero not in stages:
            raise ValueError(f"offload {self.offload} needs zero {'3' if len(stages) == 1 else '1, 2 or 3'}")
        if self.compile is True and self.zero == 3:
            raise ValueError("compile is for zero 0 to 2; at zero 3 layers get their weights as they run")
        return self

    @property
    def rows(self) -> int:
        """Rows of one optimizer step over all ranks."""
        return self.batch.tokens // self.sequence

    def chunks_loss(self, vocabulary: int) -> bool:
        """Whether the loss is computed by chunks of tokens."""
        return vocabulary >= CHUNKED_FROM if self.chunked_loss == "auto" else self.chunked_loss

    def micro(self, sequence: int) -> int:
        """Rows of a micro-batch of so many positions: as many tokens as those of `sequence` have."""
        return max(1, self.batch.micro * self.sequence // sequence)


@dataclass(frozen=True)
class PhaseShape:
    """What a phase's steps are made of."""

    steps: int
    sequence: int
    rows: int
    """Rows of a step over all ranks."""
    objective: Objective
    rope_theta: float | None
    """Base of RoPE, where it is not the model's."""
    packing: Packing = "end_to_end"
    order: Curriculum | None = None
