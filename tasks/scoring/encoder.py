"""A small transformer encoder with a head that gives one number, as FineWeb-Edu's classifier (Penedo et al. 2024).

Three ways: a folder of Hugging Face's whose model ends in one number is asked as it is; the mean of the last layer of
any other folder's model is given to a linear head that is learned from a column of numbers, the model itself left as it
is; without a folder a small model is trained whole, with a tokenizer of its own. Texts are batched by length, so that
little is padded. A value hangs on its neighbours in the last digits of a float, so four decimals are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs import stages
from data_specs.amounts import plural
from data_specs.document import SpecError
from tasks.arrays.numbers import as_float
from tasks.arrays.sampling import smallest
from tasks.engine.stage import Estimator, Stage
from tasks.scoring.kind import prose
from tasks.storage.columns import value_digest
from tasks.text.held_back import held_back

if TYPE_CHECKING:
    import torch

F32 = NDArray[np.float32]

CHARACTERS = 10_000
"""Leading characters of a text that are cut into tokens."""
TOKENS_AT_ONCE = 16_384
"""Tokens of a batch, padding included."""
VOCABULARY, HIDDEN, LAYERS, HEADS = 8192, 128, 2, 4
"""A model that is trained here: 1.5M parameters."""
RATE = 1e-3
PADDING = "<pad>"
RIDGE = 1.0
"""How much the head of a given model is held to small weights, in documents."""
LIBRARIES = ("torch", "transformers", "tokenizers")


def folder_files(settings: stages.Encoder | stages.Embedding) -> dict[str, str]:
    """The files of the model's folder and their sha256; none without a folder. Raises SpecError where it is none."""
    if settings.model is None:
        return {}
    folder = Path(settings.model).expanduser().resolve()
    if not (folder / "config.json").is_file():
        raise SpecError(f"stages.{settings.kind}.model: {folder} has no config.json: name a folder of Hugging Face's")
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return {str(path): _digest(path) for path in paths}


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Encoder(Stage):
    """`encoder`: the number that the model gives a text; null for a text without a visible character, or of a kind that
    is skipped. On a GPU where the stage's `gpus` reserve one."""

    name, version = "encoder", 1
    libraries = LIBRARIES
    writes = pa.schema([("encoder", pa.float32())])
    settings: stages.Encoder

    def __init__(self, settings: stages.Encoder, files: dict[str, str] | None = None) -> None:
        """`files`: path and sha256 of what was learned, where something is. Raises SpecError."""
        super().__init__(settings, {**folder_files(settings), **(files or {})})
        self.where = settings.where
        self.reads = ("text", *(["kind"] if settings.skip else []))

    def hashed_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include={"skip", "tokens"})

    def setup(self) -> None:
        """Raises SpecError where the folder is not what the run began with."""
        learned = next((path for path in self.files if path not in folder_files(self.settings)), None)
        self.scorer = Scorer.loaded(self.settings, Path(learned).read_bytes() if learned else None)
        check_files(self.settings, self.files)

    def __call__(self, batch: pa.Table) -> pa.Table:
        visible = pc.not_equal(pc.utf8_trim_whitespace(batch["text"]), "").combine_chunks()
        rows = np.flatnonzero(pc.and_(visible, prose(batch, self.settings.skip)).to_numpy(zero_copy_only=False))
        found = np.full(batch.num_rows, np.nan, np.float32)
        found[rows] = np.round(self.scorer.scores(batch["text"].take(pa.array(rows)).to_pylist()), 4)
        return pa.table([pa.array(found, from_pandas=True)], schema=self.writes)


def check_files(settings: stages.Encoder | stages.Embedding, expected: dict[str, str]) -> None:
    """Raises SpecError where the model's folder does not hold what is expected; asked once it is loaded, as files may
    be written to meanwhile."""
    found = folder_files(settings)
    folders = {os.path.dirname(path) for path in found}
    known = {path: digest for path, digest in expected.items() if os.path.dirname(path) in folders}
    for path in sorted(found.keys() | known.keys()):
        if found.get(path) != known.get(path):
            raise SpecError(f"{path} has changed since this run began; run again")


class EncoderEstimator(Estimator):
    """What `Encoder` learns: the head of a given model, or a model with its tokenizer; a safetensors file."""

    name, version = "encoder", 1
    libraries = (*LIBRARIES, "safetensors")
    suffix = ".safetensors"
    settings: stages.Encoder

    def __init__(self, settings: stages.Encoder, seed: int) -> None:
        super().__init__(settings, seed)
        self.where = settings.where
        self.files = folder_files(settings)
        self.reads = tuple(sorted({"id", "text", "kind", str(settings.target)}))

    def hashed_settings(self) -> dict[str, Any]:
        included = {"target", "skip", "tokens", "sample", "epochs"}
        return self.settings.model_dump(mode="json", include=included) | {"files": sorted(self.files.values())}

    def sample(self, batch: pa.Table) -> pa.Table:
        """`id`, `text` (its leading characters) and `target` of documents that have one."""
        target = as_float(batch[str(self.settings.target)])
        text = pc.utf8_slice_codeunits(batch["text"], 0, CHARACTERS)
        known = pc.and_(pc.fill_null(pc.is_finite(target), False), pc.not_equal(pc.utf8_trim_whitespace(text), ""))
        rows = pa.table({"id": batch["id"], "text": text, "target": target})
        return self.downsample(rows.filter(pc.and_(known, prose(batch, self.settings.skip))))

    def downsample(self, rows: pa.Table) -> pa.Table:
        """What `fit` would use of samples put together; may be called on any part of them, any number of times."""
        return smallest(rows, self.settings.sample, (), self.seed, self.name)

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """A tenth of the texts is held back. Facts: documents, mean and deviation of the target, of what was held back
        the mean error and the correlation of ranks, digest of the sample. Raises ValueError where there are fewer than
        20 documents, or all have the same target, SpecError where the folder is not what the run began with."""
        rows = self.downsample(rows)
        texts, target = rows["text"].to_pylist(), rows["target"].to_numpy()
        learns, held = held_back(texts)
        if len(texts) < 20 or np.ptp(target[learns]) == 0:
            raise ValueError(
                f"stages.{self.label}.target: {plural(len(texts), 'document')} with a value of {self.settings.target}, "
                f"of {plural(len(np.unique(target)), 'kind')}; 20 documents of two are the least that something is "
                "learned from"
            )
        scale = float(target[learns].mean()), float(target[learns].std())
        wanted = ((target[learns] - scale[0]) / scale[1]).astype(np.float32)
        learn = _headed if self.settings.model else _trained
        data = learn(self.settings, self.seed, [*compress(texts, learns)], wanted, scale)
        check_files(self.settings, self.files)
        facts = {"documents": int(learns.sum()), "mean": scale[0], "deviation": scale[1]}
        scores = Scorer.loaded(self.settings, data).scores([*compress(texts, held)])
        return data, facts | {"validation": _validation(scores, target[held]), "sample": value_digest(rows["id"])}


def _validation(found: F32, target: NDArray[np.float64]) -> dict[str, Any]:
    """How far scores are from what they should be; nothing of none, as where all texts are copies of a few."""
    order = None
    if len(found) and np.ptp(target) and np.ptp(found):
        from scipy.stats import spearmanr  # here, as it takes most of a second

        order = round(float(spearmanr(found, target).statistic), 4)
    error = round(float(np.abs(found - target).mean()), 4) if len(found) else None
    return {"documents": len(found), "mean_error": error, "rank_correlation": order}


class Scorer:
    """A model, its tokenizer and its head."""

    def __init__(
        self,
        settings: stages.Encoder | stages.Embedding,
        tokenizer: Any,
        model: Any,
        head: tuple[F32, float] | None,
    ) -> None:
        """`head`: weights of the last layer's mean, and what is added; None where the model has a head of its own."""
        import torch

        self.tokens, self.tokenizer, self.head = settings.tokens, tokenizer, head
        self.device = torch.device("cuda" if settings.gpus and torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            torch.set_num_threads(max(1, int(settings.cores)))
        self.model = model.to(self.device).eval()

    @classmethod
    def loaded(cls, settings: stages.Encoder, learned: bytes | None) -> Scorer:
        """The scorer of a spec's folder, and of what was `learned`."""
        if learned is None:
            from transformers import AutoModelForSequenceClassification

            return cls(settings, *given(settings, AutoModelForSequenceClassification), None)
        from safetensors.torch import load
        from transformers import AutoModel

        tensors = load(learned)
        head = tensors.pop("head.weight").numpy(), float(tensors.pop("head.bias"))
        if settings.model:
            return cls(settings, *given(settings, AutoModel), head)
        tokenizer = bytes(tensors.pop("tokenizer").numpy()).decode()
        model = _small(settings, len(tensors["embeddings.word_embeddings.weight"]))
        model.load_state_dict(tensors)
        return cls(settings, _fast(tokenizer), model, head)

    def scores(self, texts: Sequence[str]) -> F32:
        if not texts:
            return np.zeros(0, np.float32)
        if self.head is None:
            found = self._outputs(texts, lambda given: self.model(**given).logits[:, :1])
            return found[:, 0]
        weight, bias = self.head
        return self.means(texts) @ weight + np.float32(bias)

    def means(self, texts: Sequence[str]) -> F32:
        """The mean of the last layer over the tokens of each text, [n, hidden]."""
        return self._outputs(texts, lambda given: pooled(self.model(**given).last_hidden_state, given))

    def _outputs(self, texts: Sequence[str], ask: Any) -> F32:
        import torch

        ids = numbered(self.tokenizer, texts, self.tokens)
        found: list[torch.Tensor] = []
        places: list[int] = []
        with torch.inference_mode():
            for batch in by_length(ids):
                given = padded([ids[place] for place in batch], self.tokenizer.pad_token_id or 0, self.device)
                found.append(ask(given).float().cpu())
                places += batch
        if not found:
            return np.zeros((0, 1), np.float32)
        values = torch.cat(found).numpy()
        return values[np.argsort(places)]


def numbered(tokenizer: Any, texts: Sequence[str], longest: int) -> list[list[int]]:
    """The tokens of each text, at most so many; one of padding for a text without any."""
    leading = [text[:CHARACTERS] for text in texts]
    found = tokenizer(leading, truncation=True, max_length=longest)["input_ids"] if leading else []
    return [ids or [tokenizer.pad_token_id or 0] for ids in found]


def by_length(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of texts of about the same length, the shortest first, as many as fit into a batch."""
    batch: list[int] = []
    for place in sorted(range(len(ids)), key=lambda place: (len(ids[place]), place)):
        if batch and len(ids[place]) * (len(batch) + 1) > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def padded(ids: Sequence[Sequence[int]], padding: int, device: torch.device) -> dict[str, torch.Tensor]:
    import torch

    longest = max(map(len, ids))
    tokens = torch.tensor([[*each, *[padding] * (longest - len(each))] for each in ids])
    mask = torch.tensor([[1] * len(each) + [0] * (longest - len(each)) for each in ids])
    return {"input_ids": tokens.to(device), "attention_mask": mask.to(device)}


def pooled(hidden: torch.Tensor, given: dict[str, torch.Tensor]) -> torch.Tensor:
    mask = given["attention_mask"][:, :, None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def given(settings: stages.Encoder | stages.Embedding, kind: Any) -> tuple[Any, Any]:
    """Tokenizer and model of the spec's folder; nothing of it is run, nothing fetched."""
    import torch
    from transformers import AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder = str(Path(str(settings.model)).expanduser().resolve())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    if isinstance(settings, stages.Encoder) and settings.target is None and model.config.num_labels != 1:
        raise SpecError(
            f"stages.{settings.kind}.model: {folder} gives {plural(model.config.num_labels, 'number')}, not one; name "
            "a `target`, a column from which a head is learned"
        )
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()  # transformers maps the file, and what is written over it would be the model
    return tokenizer, model


def _headed(
    settings: stages.Encoder, seed: int, texts: Sequence[str], wanted: F32, scale: tuple[float, float]
) -> bytes:
    """The head of a given model: least squares, held to small weights."""
    del seed
    from transformers import AutoModel

    tokenizer, model = given(settings, AutoModel)
    means = Scorer(settings, tokenizer, model, None).means(texts).astype(np.float64)
    middle, spread = means.mean(0), means.std(0) + 1e-6
    x = (means - middle) / spread
    found = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ wanted) / spread
    return _saved({}, found * scale[1], scale[0] - float(middle @ found) * scale[1])


def _trained(
    settings: stages.Encoder, seed: int, texts: Sequence[str], wanted: F32, scale: tuple[float, float]
) -> bytes:
    """A model with its tokenizer, trained on texts in a seeded order."""
    import torch

    tokenizer = _fast(_learned_tokenizer(texts))
    ids = numbered(tokenizer, texts, settings.tokens)
    torch.manual_seed(seed)
    model = _small(settings, len(tokenizer))
    head = torch.nn.Linear(HIDDEN, 1)
    device = torch.device("cuda" if settings.gpus and torch.cuda.is_available() else "cpu")
    torch.set_num_threads(max(1, int(settings.cores)))
    both = torch.nn.ModuleList([model, head]).to(device).train()
    optimizer = torch.optim.AdamW(both.parameters(), RATE)
    batches = [batch[at : at + 32] for batch in by_length(ids) for at in range(0, len(batch), 32)]
    steps, order = settings.epochs * len(batches), np.random.default_rng(seed)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1, pct_start=0.1)
    for _ in range(settings.epochs):
        for number in order.permutation(len(batches)).tolist():
            given = padded([ids[place] for place in batches[number]], tokenizer.pad_token_id, device)
            found = head(pooled(model(**given).last_hidden_state, given))[:, 0]
            loss = torch.nn.functional.mse_loss(found, torch.from_numpy(wanted[batches[number]]).to(device))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    tensors["tokenizer"] = torch.frombuffer(bytearray(tokenizer.backend_tokenizer.to_str().encode()), dtype=torch.uint8)
    weight = head.weight.detach().cpu().numpy()[0].astype(np.float64) * scale[1]
    return _saved(tensors, weight, scale[0] + float(head.bias.detach()) * scale[1])


def _small(settings: stages.Encoder, vocabulary: int) -> Any:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * HIDDEN,
        max_position_embeddings=settings.tokens,
    )
    return BertModel(config, add_pooling_layer=False)


def _learned_tokenizer(texts: Sequence[str]) -> str:
    """Byte-level BPE of the texts, as JSON."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[PADDING], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return json.dumps(json.loads(made.to_str()), ensure_ascii=False, sort_keys=True)


def _fast(tokenizer: str) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer), pad_token=PADDING)


def _saved(tensors: dict[str, Any], weight: NDArray[np.float64], bias: float) -> bytes:
    import torch
    from safetensors.torch import save

    head = {"head.weight": torch.from_numpy(weight.astype(np.float32)), "head.bias": torch.tensor(bias)}
    return save(tensors | head)
