"""The registry: the readers of a spec's sources, and the stages it asks for, in the order that their columns ask for.

Adding a stage is one module and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from data_specs import stages
from data_specs.augmentation import Augmentation
from data_specs.base import Settings
from data_specs.expressions import parse
from data_specs.load import SpecError, placed
from data_specs.scoring import Scorer
from data_specs.spec import Spec
from data_specs.stages import Kind
from tasks import column_checks
from tasks.augmentation.rephrase import Rephrase, RephraseEstimator
from tasks.augmentation.shuffle_sentences import ShuffleSentences
from tasks.augmentation.synonyms import Synonyms
from tasks.decision.channel import Channel
from tasks.decision.conditions import bound, gates, percentiles, rules, thresholds_of
from tasks.decision.held_out import HeldOut, HeldOutColumn, evaluates_dropped, knows_payloads
from tasks.decision.outcome import Outcome
from tasks.decision.verdict import BEFORE_CUT, Verdict
from tasks.dedup.boilerplate import BoilerplateLines
from tasks.dedup.centroids import CentroidsEstimator
from tasks.dedup.cluster_sizes import ClusterSizes
from tasks.dedup.clusters import Clusters
from tasks.dedup.contamination import Contamination
from tasks.dedup.duplicates_of import DuplicatesOf
from tasks.dedup.neighbours import Neighbours
from tasks.dedup.pairs import evidence
from tasks.dedup.repeated_lines import RepeatedLines
from tasks.dedup.repeated_spans import RepeatedSpans
from tasks.dedup.same_url import PagesOfOneUrl
from tasks.dedup.semantic import Semantic
from tasks.engine.counts import Counts
from tasks.engine.custom import custom
from tasks.engine.nodes import Node, ordered
from tasks.engine.reading import SourceError
from tasks.engine.stage import DOCUMENTS, CorpusStage, Estimator, Stage
from tasks.engine.takedowns import Takedowns
from tasks.filters.allowed import Allowed
from tasks.filters.blocked_words import BlockedWords
from tasks.filters.composition import Composition
from tasks.filters.dolma import Dolma
from tasks.filters.language import Language, Languages
from tasks.filters.line_filter import LineFilter
from tasks.filters.listed import Listed
from tasks.filters.normalise import Normalise
from tasks.filters.personal_data import PersonalData
from tasks.filters.script import Script
from tasks.filters.signals import Signals
from tasks.filters.style import Style
from tasks.filters.surface import Surface
from tasks.scoring.classify import Classify
from tasks.scoring.domain import Domain, DomainEstimator
from tasks.scoring.embedding import Embedding
from tasks.scoring.encoder import Encoder, EncoderEstimator
from tasks.scoring.ensemble import Buckets, BucketsEstimator, Ensemble, EnsembleEstimator
from tasks.scoring.labels import Judge, JudgeEstimator, Labels
from tasks.scoring.perplexity import Perplexity, PerplexityEstimator
from tasks.scoring.quality import Quality, QualityEstimator
from tasks.sources import Reader, own_columns, reader
from tasks.sources.taken_down import TakenDown
from tasks.storage.pins import Pins, joins, learned_digest
from tasks.tokenization.repetition import RepeatedTokens
from tasks.tokenization.tokenizer import TokenizerEstimator, provided
from tasks.tokenization.tokens import AugmentedTokens, TokenEstimate, Tokens

_OF_SETTINGS: dict[type[Settings], Callable[[Any], Stage | CorpusStage]] = {
    stages.Normalise: Normalise,
    stages.Contamination: Contamination,
    stages.SameUrl: PagesOfOneUrl,
    stages.Embedding: Embedding,
    stages.Boilerplate: BoilerplateLines,
    stages.RepeatedLines: RepeatedLines,
    stages.RepeatedSpans: RepeatedSpans,
    stages.PersonalData: PersonalData,
    stages.LineFilter: LineFilter,
    stages.Language: Language,
    stages.Languages: Languages,
    stages.Script: Script,
    stages.Signals: Signals,
    stages.Composition: Composition,
    stages.Classify: Classify,
    stages.BlockedWords: BlockedWords,
    stages.Style: Style,
    stages.Surface: Surface,
    stages.Dolma: Dolma,
    stages.Labels: Labels,
}
"""Kinds of stages that their settings alone make."""
_MADE_WHERE_READ = (stages.Composition, stages.Style, stages.Surface, stages.Dolma, stages.Script)
"""Kinds of which a spec has one with its defaults where an expression reads it, though no stage is named so."""


@placed
def readers(spec: Spec, takedowns: Takedowns | None = None) -> dict[str, Reader]:
    """The reader of each source of a spec, by the source's name; `takedowns` are those of its store. Raises SpecError
    where columns of a source's own have names that are taken, or two types."""
    own_columns(spec)
    found = {name: reader(name, source, spec.extract, spec.lists) for name, source in spec.sources.items()}
    for source, each in found.items():
        if taken := sorted(each.own.keys() & set(each.knows)):
            raise SpecError([f"sources.{source}.columns.{taken[0]}: every record has a column of this name"])
        if takedowns:
            each.taken_down = TakenDown.of(takedowns)
    return found


@placed
def nodes(spec: Spec, pins: Pins, taken_down: bool = False) -> list[Node]:
    """The stages of a spec, with what is pinned; `taken_down`: whether documents were from its store. Raises SpecError
    where an expression reads a column that no stage writes, or one that comes of what it decides, or is neither true
    nor false."""
    make, own = _Maker(spec, pins), own_columns(spec)
    found = [
        make.learn(HeldOut(spec.training.evaluate, spec.seed), bound={}),
        make.node(_held_out(spec, pins), "held_out"),
        *make.of_stages(),
    ]
    for kind in _MADE_WHERE_READ:
        stage = _OF_SETTINGS[kind](kind())
        if stage.name not in spec.stages and _reads(spec) & set(stage.writes.names):
            found.append(make.node(stage))
    if spec.mixture.rehydration or "cluster_size" in _reads(spec):
        found.append(make.node(ClusterSizes(spec.duplicates)))
    written = column_checks.columns(found, own)
    found += [*_decided(spec, pins, make, written.names, taken_down), *_tokenized(spec, pins, make)]
    column_checks.check(spec, found, own)
    models = {column: each.pins for each in found for column in each.writes}
    found += [make.learn(each, "held_out", *models.get(each.column, ())) for each in percentiles(spec)]
    try:
        return ordered(found, [*DOCUMENTS.names, *own.names])
    except ValueError as error:
        raise SpecError([f"{spec.name}: {error}"]) from None


def _decided(spec: Spec, pins: Pins, make: _Maker, written: Collection[str], taken_down: bool) -> list[Node]:
    """What decides on documents: their channels, the verdict, and the outcome where what is kept is cut."""
    channels = {name: bound(text, pins) for name, text in spec.channels.items()}
    verdict = Verdict(
        rules(spec, pins),
        [name for name in spec.duplicates.keep if name in ("length", "date") or name in written],
        spec.duplicates.partitions,
        gates(spec),
        _emptied(spec, written),
        taken_down,
        spec.duplicates.sources,
        bool(spec.cut_texts),
        evaluates_dropped(pins),
        knows_payloads(pins),
    )
    thresholds = thresholds_of(text for rule in spec.rules for text in (rule.drop, rule.where))
    found = [
        make.node(Channel(channels), *thresholds_of(spec.channels.values())),
        make.node(verdict, *thresholds, bound=make.text | make.verdict),
    ]
    if spec.cut_texts:
        found.append(make.node(Outcome([f"{name}_emptied" for name in spec.cut_texts])))
    return found


def _tokenized(spec: Spec, pins: Pins, make: _Maker) -> list[Node]:
    """What the tokenizer is learned by, and what is made with it."""
    pinned, trained = pins.get("tokenizer"), {"text": spec.text}
    file = provided(spec.tokenizer.path, spec.tokenizer) if spec.tokenizer.path is not None and not pinned else None
    learned = TokenizerEstimator(spec.tokenizer, spec.seed, weights(spec), file, _learned_too(spec))
    facts, files = pinned["facts"] if pinned else {}, pins.files("tokenizer")
    made: list[Stage | CorpusStage] = [
        *(AugmentedTokens(name, spec.tokenizer, files, facts.get("size")) for name in spec.augmentations),
        TokenEstimate(facts.get("compression", {})),
    ]
    if spec.mixture.repetitions or "repeated_tokens" in _reads(spec):
        made.append(RepeatedTokens())
    return [
        make.learn(learned, "held_out", bound=trained),
        make.node(Tokens(spec.tokenizer, files, facts.get("size")), "tokenizer", bound=trained),
        *(make.node(stage, "tokenizer") for stage in made),
    ]


def counts(spec: Spec) -> Counts:
    """What counts the documents of a spec's shards."""
    known = scorers(spec).items()
    return Counts(spec.text, sorted(name for name, each in known if isinstance(each, stages.Quality | stages.Ensemble)))


def scorers(spec: Spec) -> dict[str, Scorer]:
    """The stages that score documents, by name; without those of the kind `quality` that have nothing to learn from."""
    found = spec.of_kind(Scorer)
    return {name: each for name, each in found.items() if not isinstance(each, stages.Quality) or each.reference}


class _Maker:
    """Makes the nodes of a spec."""

    def __init__(self, spec: Spec, pins: Pins) -> None:
        self.spec, self.pins = spec, pins
        self.text = {"text": spec.judged_text}
        self.verdict = BEFORE_CUT if spec.cut_texts else {}
        """What the verdict's columns are called for the verdict itself, and for what is cut of documents it keeps."""
        self.sealed = [
            f"({name} is null or {name} < {settings.threshold})"
            for name, settings in spec.of_kind(stages.Contamination).items()
        ]
        """Of which documents something may be learned: those that hold no evaluation."""

    def node(self, stage: Stage | CorpusStage, *needs: str, bound: Mapping[str, str] | None = None) -> Node:
        """A stage, and the pins that it needs."""
        if not stage.bound:
            stage.bound = self.text if bound is None else bound
        return Node(stage.label, stage, needs, all(self.pins.get(name) for name in needs))

    def learn(self, learned: Estimator, *models: str, bound: Mapping[str, str] | None = None) -> Node:
        """Something to learn, and the pins that shape what it is learned from."""
        if not learned.bound:
            learned.bound = self.text if bound is None else bound
        learned.models = {name: learned_digest(pin) for name in models if (pin := self.pins.get(name))}
        if self.sealed:
            learned.where = " and ".join([f"({learned.where})", *self.sealed] if learned.where else self.sealed)
        return Node(f"learn_{learned.label}", learned)

    def of_stages(self) -> list[Node]:
        """The nodes of the stages that the spec names. Raises SpecError with the mistakes of all of them."""
        found, mistakes = list[Node](), list[str]()
        for name, settings in self.spec.stages.items():
            try:
                found += self._of_stage(name, settings)
            except (SpecError, SourceError) as error:
                texts = error.mistakes if isinstance(error, SpecError) else [str(error)]
                mistakes += [_of_name(text, settings.kind, name) for text in texts]
        if mistakes:
            raise SpecError(dict.fromkeys(mistakes))
        return found

    def _of_stage(self, name: str, settings: Kind) -> list[Node]:
        """The nodes of a stage as the spec names it."""
        seed, files = self.spec.seed, self.pins.files(name)
        plain = _OF_SETTINGS.get(type(settings))
        if plain and isinstance(settings, stages.Stage):
            return [self.node(self._called(plain(settings), name, settings))]
        match settings:
            case stages.Custom():
                return [self.node(self._called(custom(name, settings), name, settings))]
            case stages.Allowed():
                return [self.node(self._called(Allowed(settings, self.spec.lists), name, settings))]
            case stages.DuplicatesOf():
                return [self.node(self._called(DuplicatesOf(settings, self.spec.duplicates.symbols), name, settings))]
            case stages.Listed():
                return [self.node(self._called(Listed(settings, self.spec.lists), name, settings))]
            case stages.Domain() if settings.labels:
                return self._scored(DomainEstimator(settings, seed), Domain(settings, files), name, settings)
            case stages.Quality() if settings.reference:
                return self._of_columns(QualityEstimator(settings, seed), Quality(settings, files), name, settings)
            case stages.Perplexity():
                return self._of_columns(
                    PerplexityEstimator(settings, seed), Perplexity(settings, files), name, settings
                )
            case stages.Semantic():
                return self._scored(CentroidsEstimator(settings, seed), Semantic(settings, files), name, settings)
            case stages.Neighbours():
                return self._scored(CentroidsEstimator(settings, seed), Neighbours(settings, files), name, settings)
            case stages.Judge():
                return self._scored(JudgeEstimator(settings, seed), Judge(settings, files), name, settings)
            case stages.Encoder(target=None):
                return [self.node(self._called(Encoder(settings), name, settings))]
            case stages.Encoder():
                return self._of_columns(EncoderEstimator(settings, seed), Encoder(settings, files), name, settings)
            case stages.Ensemble():
                lower = tuple(of for of in settings.of if of in settings.lower or self._lower(of))
                stage = Ensemble(settings.model_copy(update={"lower": lower}), files)
                return self._of_columns(EnsembleEstimator(settings, seed), stage, name, settings)
            case stages.Buckets(of=of):
                cut = settings.model_copy(update={"lower": settings.lower or self._lower(of)})
                return self._of_columns(BucketsEstimator(settings, seed), Buckets(cut, files), name, settings)
            case stages.ShuffleSentences():
                return [self.node(self._called(ShuffleSentences(settings, seed), name, settings))]
            case stages.Synonyms():
                return [self.node(self._called(Synonyms(settings, seed), name, settings))]
            case stages.Rephrase():
                rephrase = Rephrase(settings, seed, files)
                return self._scored(RephraseEstimator(settings, seed), rephrase, name, settings)
            case stages.Duplicates():
                found = [*evidence(settings), Clusters(settings)]
                return [self.node(self._called(each, each.name, settings)) for each in found]
        return []

    def _scored(
        self, learned: Estimator, stage: Stage | CorpusStage, name: str, settings: stages.Stage, *models: str
    ) -> list[Node]:
        """What a scorer is learned by, and the stage that scores with it."""
        learn = self.learn(self._called(learned, name, settings), "held_out", *models)
        return [learn, self.node(self._called(stage, name, settings), name)]

    def _of_columns(self, learned: Estimator, stage: Stage, name: str, settings: Scorer) -> list[Node]:
        """The same of what is learned from columns of others, and moves with their pins."""
        known = {*scorers(self.spec), *self.spec.of_kind(stages.Domain), *self.spec.of_kind(stages.Judge)}
        read = [settings.reads.get(role, role) for role in learned.reads]
        models = [column for column in read if column in known]
        return self._scored(learned, stage, name, settings, *models)

    def _lower(self, column: str) -> bool:
        """Whether of a column of scores the lower ones are better."""
        return isinstance(self.spec.stages.get(column), stages.Perplexity)

    def _called(self, stage: Any, name: str, settings: stages.Stage) -> Any:
        own = self.spec.text if isinstance(settings, Augmentation) else self.spec.judged_text
        text = settings.text or ("text" if getattr(stage, "rewrites", False) else own)
        verdict = self.verdict if isinstance(stage, RepeatedLines | RepeatedSpans) else {}
        return stage.called(name, {"text": text, **verdict, **settings.reads})


def _of_name(mistake: str, kind: str, name: str) -> str:
    """A mistake of a stage, which knows of itself its kind alone, as one of the stage of that name in the spec."""
    place, _, _ = (text := mistake.removeprefix("source ")).partition(":")
    if place.split(".")[:2] == ["stages", kind]:
        return f"stages.{name}{text.removeprefix(f'stages.{kind}')}"
    return text if place.startswith(("stages.", "lists.")) else f"stages.{name}: {text}"


def _reads(spec: Spec) -> set[str]:
    """The columns that rules, channels, and phases and cells of the mixture read."""
    texts = [text for rule in spec.rules for text in (rule.drop, rule.where) if text]
    texts += [phase.where for phase in spec.mixture.phases if phase.where]
    texts += [cell.where for cell in spec.mixture.repeat]
    ordered_by = {phase.order.by for phase in spec.mixture.phases if phase.order}
    return ordered_by.union(*(parse(text).columns for text in [*texts, *spec.channels.values()]))


def _held_out(spec: Spec, pins: Pins) -> HeldOutColumn:
    """By the table and, of sources that came after it, by their shares; a table that was learned anew has of these."""
    table, payloads = pins.get("held_out"), knows_payloads(pins)
    chosen_of = table["facts"]["sources"] if table and payloads else ()
    found = {name: pins.get(joins(name)) for name in spec.sources if name not in chosen_of}
    joined = {name: (pin["value"], pin["seed"]) for name, pin in found.items() if pin}
    return HeldOutColumn(pins.files("held_out"), joined, payloads)


def _emptied(spec: Spec, written: Collection[str]) -> list[str]:
    """The columns that say of a document whether one of the stages that its judged text went through left nothing of
    it. A stage of one's own between them may not say it."""
    columns = [f"{name}_emptied" for name in spec.rewritings(spec.judged_text)]
    return columns[:1] + [name for name in columns[1:] if name in written]


def _learned_too(spec: Spec) -> tuple[str, ...]:
    """Stages whose texts the tokenizer is learned from, too."""
    return tuple(spec.augmentations) if spec.tokenizer.augmented else ()


def weights(spec: Spec) -> dict[str, float]:
    """Weight of each channel over the whole run, of what the tokenizer is learned from: its phases' weights by their
    length; empty without phases."""
    result: dict[str, float] = {}
    begin = 0.0
    for phase in spec.mixture.phases:
        total = sum(phase.weights.values())
        for name, weight in phase.weights.items():
            result[name] = result.get(name, 0.0) + weight / total * (phase.until - begin)
        begin = phase.until
    known = {*spec.channels, *_learned_too(spec)}
    return {name: weight for name, weight in result.items() if name in known}
