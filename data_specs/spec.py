"""The spec: everything a run is made of, in one frozen model. `data_specs.load` reads it from YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, TypeVar

from pydantic import Field, PrivateAttr, field_validator, model_validator

from data_specs import stage_checks
from data_specs.amounts import digits, plural
from data_specs.augmentation import Augmentation
from data_specs.base import Count, Expression, Label, Name, Settings, is_empty, is_unset
from data_specs.causal_config import positions
from data_specs.cluster import Cluster
from data_specs.dedup import Boilerplate, Duplicates, RepeatedLines, RepeatedSpans
from data_specs.expressions import parse, suggestion
from data_specs.extract import Extract
from data_specs.filters import LineFilter, Normalise, PersonalData
from data_specs.gates import Gates
from data_specs.languages import mistakes as strange_languages
from data_specs.mixture import Mixture
from data_specs.objectives import ARCHITECTURES, Causal
from data_specs.reasons import OWN_REASONS
from data_specs.scoring import Buckets, Perplexity, Scorer
from data_specs.sources import Source, UrlList
from data_specs.stages import ALWAYS, Custom, Kind, Stage
from data_specs.tokenizer import Tokenizer
from data_specs.training import Model, PhaseShape, Training

AnyStage = TypeVar("AnyStage", bound=Stage)


class Rule(Settings):
    """`drop: <expression>`: TRUE drops, FALSE and NULL do not."""

    name: Name
    drop: Expression
    where: Expression | None = None
    """The rule judges only documents for which this is true."""
    origin: str = ""
    """The paper or rule set it is from, and the file and line it stands in."""


class Budget(Settings):
    """How many tokens should be left: `sluice plan` shows which thresholds leave them."""

    tokens: Annotated[Count, Field(gt=0)]
    """Tokens of kept documents, at least."""
    rule: Name | None = None
    """A rule such as `low_quality: "quality < percentile(quality, 10)"`, whose percentile is chosen after the threshold
    of duplicates; null: that alone."""
    apply: Annotated[bool, Field(exclude_if=is_empty)] = False
    """Whether runs take the thresholds that are chosen: the first makes a version by those of the spec, chooses by it,
    pins the choice, and makes the next version by that. Another number of tokens, or a percentile of another column, is
    chosen for anew, as by `--retrain budget`; `--set` holds before it."""


class Spec(Settings):
    """One pipeline, from sources to a trained model."""

    name: Label
    """Names the lineage: pins, runs and plans belong to it."""
    store: Annotated[str, Field(min_length=1)] = "./store"
    """A folder, or a URL that fsspec writes (s3://bucket/prefix)."""
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 20260101
    """Every random stream derives from it."""
    sources: Annotated[dict[Label, Source], Field(min_length=1)]
    lists: dict[Name, UrlList] = {}
    """Lists of addresses by name, for what sources `refuse`, and for the stages `allowed` and `listed`."""
    stages: dict[Name, Kind] = {}
    """Stage by name; of the kinds `extract`, `language`, `signals` and `duplicates` there is one of that name, also
    where it is not named here. In the order people think of them; columns decide what runs when."""
    text: Name = "text"
    """The column of text that stages read and the model is trained on: the source's, or that of a stage which rewrites
    it. Of one that reads the verdict (`repeated_lines`, `repeated_spans`) the model alone reads the text."""
    rules: tuple[Rule, ...] = ()
    """In order; the first that is true is the reason."""
    gates: Gates = Gates()
    channels: Annotated[dict[Label, Expression], Field(min_length=1)]
    """The first that is true is a document's channel; a document without one is dropped."""
    tokenizer: Tokenizer = Tokenizer()
    mixture: Mixture = Mixture()
    budget: Annotated[Budget | None, Field(exclude_if=is_unset)] = None
    """A budget of tokens, by which thresholds are chosen; it changes nothing unless it says `apply`."""
    model: Model = Model()
    training: Training = Training()
    cluster: Cluster = Cluster()
    _places: dict[tuple[str | int, ...], str] = PrivateAttr(default_factory=dict)
    """Keys from the top -> `file:line` where they were written; see `data_specs.load`."""

    @field_validator("store")
    @classmethod
    def _url(cls, store: str) -> str:
        if re.match(r"[a-z][a-z0-9+]+:/(?!/)", store):
            raise ValueError(f"{store} is neither a folder nor a URL, which has `://`")
        if "\0" in store:
            raise ValueError("no path has a NUL byte")
        return store

    @field_validator("stages")
    @classmethod
    def _whole(cls, stages: dict[str, Kind]) -> dict[str, Kind]:
        return {name: each for name, each in ALWAYS.items() if name not in stages} | stages

    @model_validator(mode="after")
    def _consistent(self) -> Spec:
        """One line per mistake, each beginning with its dotted key."""
        mistakes = [
            *self._names(),
            *self._refusals(),
            *self._stages(),
            *strange_languages(self.stages),
            *self._percentiles(),
            *self._phases(),
            *self._objectives(),
            *self._unsupported(),
            *self._epochs(),
            *self._budget(),
        ]
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    @property
    def extract(self) -> Extract:
        """The settings of extraction."""
        found = self.stages["extract"]
        assert isinstance(found, Extract)  # a name that is a kind is of that kind
        return found

    @property
    def duplicates(self) -> Duplicates:
        """The settings of duplicates."""
        found = self.stages["duplicates"]
        assert isinstance(found, Duplicates)  # a name that is a kind is of that kind
        return found

    def of_kind(self, kind: type[AnyStage]) -> dict[str, AnyStage]:
        """The stages of a kind by name, in the order in which they are written."""
        return {name: stage for name, stage in self.stages.items() if isinstance(stage, kind)}

    @property
    def texts(self) -> list[str]:
        """Columns of text: the source's, and those of stages that rewrite it."""
        kinds = (Normalise, PersonalData, LineFilter, Boilerplate, RepeatedLines, RepeatedSpans, Custom)
        return ["text", *(name for kind in kinds for name in self.of_kind(kind))]

    @property
    def judged_text(self) -> str:
        """The column of text that stages, rules and channels read: that of the model or, where this one is made of what
        the verdict keeps, the one that it is made from."""
        return [self.text, *self._cut_from(self.text)][-1]

    @property
    def cut_texts(self) -> list[str]:
        """The stages that cut the model's text of what the verdict keeps, the last first; none where it is judged."""
        return [self.text, *self._cut_from(self.text)][:-1]

    def rewritings(self, name: str) -> list[str]:
        """The stages that a text went through, the last first; none for the source's."""
        found = list[str]()
        while name != "text" and name not in found:
            found.append(name)
            stage = self.stages[name]
            name = (stage.text if isinstance(stage, Stage) else None) or "text"
        return found

    def _cut_from(self, name: str) -> list[str]:
        """The text that one which is made of what the verdict keeps is cut from, that which this one is, and so on;
        none for another text."""
        late, found = self.of_kind(RepeatedLines) | self.of_kind(RepeatedSpans), list[str]()
        while name in late and (name := late[name].text or "text") not in found:
            found.append(name)
        return found

    @property
    def augmentations(self) -> list[str]:
        """The stages that make other texts of kept documents."""
        return [*self.of_kind(Augmentation)]

    @property
    def mixed(self) -> list[str]:
        """What the mixture is of: the channels, and the texts of each stage that makes some."""
        return [*self.channels, *self.augmentations]

    @property
    def preferences(self) -> list[str]:
        """What may say which of several duplicates stays."""
        scorers = [name for name, each in self.of_kind(Scorer).items() if not isinstance(each, Perplexity | Buckets)]
        return list(dict.fromkeys(["quality", "length", "date", "source", "url", *scorers]))

    @property
    def refusals(self) -> frozenset[str]:
        """Reasons for which sources refuse records."""
        return frozenset(reason for source in self.sources.values() for reason in source.refuse)

    def _stages(self) -> Iterator[str]:
        yield from stage_checks.mistakes(self.stages, self.texts, self.lists, self.sources, self.preferences)
        for name in self.of_kind(RepeatedLines) | self.of_kind(RepeatedSpans):
            if name in self._cut_from(name):
                yield f"stages.{name}.text: a text is not cut from itself"
        for name in self.augmentations:
            if name in self.channels or name == "default":
                yield f"stages.{name}: the mixture has a {name}, which its texts would be called; name it otherwise"
            if f"{name}_tokens" in self.stages:
                yield f"stages.{name}_tokens: the tokens of {name} are called so; name the stage otherwise"
        if self.text not in self.texts:
            yield f"text is {self.text}, which is no text{suggestion(self.text, self.texts, mark='')}"

    def _names(self) -> Iterator[str]:
        names = [rule.name for rule in self.rules]
        for number, name in enumerate(names):
            if name in names[:number]:
                yield f"rules.{number}: {name} is defined twice"
            if name in OWN_REASONS:
                yield f"rules.{number}: {name} is a reason of Sluice's own; name the rule otherwise"
            if name in self.refusals:
                yield f"rules.{number}: {name} is what a source refuses, before there is a document; name one otherwise"
        if "default" in self.channels:
            yield "channels.default: default is what mixture.epochs says of all others; name the channel otherwise"

    def _refusals(self) -> Iterator[str]:
        for source, settings in self.sources.items():
            for name, text in settings.refuse.items():
                if name in OWN_REASONS:
                    yield f"sources.{source}.refuse.{name}: {name} is a reason of Sluice's own; name it otherwise"
                if parse(text).percentiles:
                    yield f"sources.{source}.refuse.{name}: percentile is for rules, channels and phases"

    def _percentiles(self) -> Iterator[str]:
        """Percentiles are known once the stages' columns are."""
        texts: dict[str, str | None] = {}
        for name, stage in self.stages.items():
            texts[f"{name}.where"] = stage.where if isinstance(stage, Stage) else None
            texts |= {f"{name}.labels.{label}": text for label, text in getattr(stage, "labels", {}).items()}
            texts[f"{name}.reference"] = getattr(stage, "reference", None)
        for key, text in texts.items():
            if text and parse(text).percentiles:
                yield f"stages.{key}: percentile is for rules, channels and phases; a stage needs a number here"

    def _budget(self) -> Iterator[str]:
        """What thresholds are chosen by has to be known."""
        if self.budget is None:
            return
        if not self.duplicates.keeps_pairs:
            yield "budget: other thresholds are known where stages.duplicates.floor is below the threshold"
        names = {rule.name: rule for rule in self.rules}
        wanted = self.budget.rule
        if wanted is not None and wanted not in names:
            yield f"budget.rule: {wanted} is no rule{suggestion(wanted, names, mark='')}"
        elif wanted is not None and len(parse(names[wanted].drop).percentiles) != 1:
            yield f"budget.rule: {wanted} has to ask for one percentile, such as `quality < percentile(quality, 10)`"

    def _phases(self) -> Iterator[str]:
        ends = [phase.until for phase in self.mixture.phases]
        for number, phase in enumerate(self.mixture.phases):
            key = f"mixture.phases.{number}"
            for channel in phase.weights:
                if channel not in self.mixed:
                    yield f"{key}.weights.{channel} is no channel{suggestion(channel, self.mixed, mark='')}"
            if not sum(phase.weights.values()):
                yield f"{key}.weights: no channel has a weight above 0"
            if phase.until <= max(ends[:number], default=0):
                yield f"{key}.until is {phase.until:.6g}, not after the phase before it"
        if ends and ends[-1] != 1:
            yield f"mixture.phases.{len(ends) - 1}.until is {digits(ends[-1], 6, 1)}, but the last phase ends at 100%"
        if not self.steps:
            batch = self.training.batch.tokens
            yield f"mixture.tokens is {self.mixture.tokens:,}, less than training.batch.tokens, a step's {batch:,}"
        elif all(first < end for first, end in pairwise([0, *ends])):
            for number, shape in enumerate(self.shapes):
                if shape.steps < 1:
                    steps = plural(self.steps, "step")
                    yield f"mixture.phases.{number} has none of the {steps}: it is too short or they too few"

    def _objectives(self) -> Iterator[str]:
        """What phases say of rows, batch and objective, and what the model can learn."""
        training, turned = self.training, None
        for number, phase in enumerate((None, *self.mixture.phases)):
            key = "training" if phase is None else f"mixture.phases.{number - 1}"
            objective = phase.objective if phase else training.objective
            if objective is not None:
                wanted, has = ARCHITECTURES[objective.kind], self.model.architecture
                if has != wanted and (objective.kind, has) != ("causal", "causal"):
                    yield f"{key}.objective: {objective.kind} trains a {wanted}, but model.architecture is {has}"
                middle = objective.fill_in_the_middle if isinstance(objective, Causal) else None
                turned = middle if phase is None else turned
                if middle != turned:
                    yield f"{key}.objective.fill_in_the_middle: documents are turned round the same way in all phases"
            sequence = (phase and phase.sequence) or training.sequence
            if (most := positions(self.model.config)) and sequence > most:
                yield f"{key}: rows of {sequence:,} tokens are longer than the {most:,} positions of model.folder"
            if phase is None:
                continue
            if phase.rope_theta and self.model.architecture != "llama":
                yield f"{key}.rope_theta: a {self.model.architecture} has none"
            batch = phase.batch or training.batch.tokens
            unit = sequence * training.micro(sequence) * training.replicas
            if batch % unit:
                yield f"{key}: a batch of {batch:,} tokens is not a multiple of sequence x micro x workers = {unit:,}"
        packings = {self.mixture.packing, *(phase.packing for phase in self.mixture.phases)}
        if "best_fit" in packings and self.mixture.shards == "rows":
            yield "mixture.shards: rows that are packed by best_fit are of many lengths, and are not written out"
        if self.mixture.cut_at != "anywhere" and "best_fit" not in packings:
            yield "mixture.cut_at: documents that are packed end_to_end are cut wherever a row is full; best_fit is not"
        if self.mixture.cut_at != "anywhere" and turned:
            yield "mixture.cut_at: documents that are turned round (fill_in_the_middle) are cut anywhere"
        if turned and self.mixture.shards == "rows":
            yield "mixture.shards: rows of documents that are turned round (fill_in_the_middle) are not written out"

    def _unsupported(self) -> Iterator[str]:
        """Settings of training that an architecture does not have."""
        training = self.training
        if self.model.architecture == "xlnet":
            asked = {"muon": training.muon, "activation_checkpointing": training.activation_checkpointing}
            asked["compile"] = training.compile is True
            for name in (name for name, on in asked.items() if on):
                yield f"training.{name}: an xlnet's layers, which have tensors of three dimensions, do not do that"
        if training.attention == "flash_attention_2":
            objectives = (training.objective, *(shape.objective for shape in self.shapes))
            for kind in sorted({objective.kind for objective in objectives} - {"causal"}):
                yield (
                    "training.attention: flash_attention_2 is told where documents end and nothing else, but rows of "
                    f"{kind} need a mask; leave it at auto"
                )
        if training.tensor_parallel > 1 and self.model.qk_norm:
            yield "training.tensor_parallel: not with model.qk_norm, of which each rank would learn another"
        for name, width in {"sequence_parallel": "sequence", "tensor_parallel": "intermediate"}.items():
            if (count := getattr(training, name)) == 1:
                continue
            if self.model.architecture != "llama":
                yield f"training.{name}: only a llama's, not a {self.model.architecture}'s, is shared by ranks"
            divided = {"heads": self.model.heads, "kv_heads": self.model.kv_heads}
            if width == "intermediate":
                divided[width] = self.model.intermediate
            else:
                divided |= {f"the sequence of phase {n}": shape.sequence for n, shape in enumerate(self.shapes)}
            for what, value in divided.items():
                if value % count:
                    yield f"training.{name} is {count}, which does not divide {what}, {value}"

    def _epochs(self) -> Iterator[str]:
        known = {*self.mixed, "default"}
        for channel in self.mixture.epochs:
            if channel not in known:
                yield f"mixture.epochs.{channel} is no channel{suggestion(channel, known, mark='')}"

    @property
    def steps(self) -> int:
        """Optimizer steps of the training."""
        return sum(max(0, shape.steps) for shape in self.shapes)

    @property
    def base_steps(self) -> int:
        """The token budget in steps of `training.batch`."""
        return self.training.steps or self.mixture.tokens // self.training.batch.tokens

    @property
    def shapes(self) -> tuple[PhaseShape, ...]:
        """Of each phase, of what its steps are made. A phase ends with the step nearest to its share of the budget."""
        training, taken, rope, found = self.training, 0.0, None, []
        plain = self.mixture.phases or (None,)
        for phase in plain:
            sequence = (phase and phase.sequence) or training.sequence
            share = ((phase and phase.batch) or training.batch.tokens) / training.batch.tokens
            end = (phase.until if phase else 1.0) * self.base_steps
            steps = round(end) - round(taken) if share == 1 and taken == int(taken) else round((end - taken) / share)
            taken += steps * share
            objective = (phase and phase.objective) or training.objective
            rows = round(share * training.batch.tokens) // sequence
            rope = (phase and phase.rope_theta) or rope
            packing = (phase and phase.packing) or self.mixture.packing
            found.append(PhaseShape(steps, sequence, rows, objective, rope, packing, phase.order if phase else None))
        return tuple(found)
