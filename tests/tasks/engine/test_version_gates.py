"""Gates of versions: new shards of a source against its earlier ones."""

from __future__ import annotations

from typing import Any

from data_specs.gates import NewShards
from tasks.engine.version_gates import Funnel, judged, why


def funnel(records: int, quarantined: int = 0, scale: int = 1, **outcomes: dict[str, int]) -> Funnel:
    """Of `language_outcome={channel: documents}`."""
    groups: dict[str, dict[str, dict[str, list[int]]]] = {"language": {}, "channel": {}}
    for name, channels in outcomes.items():
        language, _, outcome = name.partition("_")
        for channel, count in channels.items():
            for by, value in (("language", language), ("channel", channel)):
                row = groups[by].setdefault(value, {}).setdefault(outcome, [0, 0, 0])
                row[0] += count * scale
    return Funnel(records, quarantined, groups)


EARLIER = funnel(
    100_000, en_kept={"en": 40_000}, zh_kept={"zh": 20_000}, en_short={"en": 30_000}, en_duplicate={"en": 5000}
)


def stops(now: Funnel, older: int = 0, earlier: Funnel | None = EARLIER, **limits: Any) -> list[str]:
    """The gates that new shards of a source do not pass."""
    rows = judged(NewShards(**limits), 0.01, {"web": now}, {"web": earlier} if earlier else {}, {"web": older}, [])
    return [row["gate"] for row in rows if not row["passed"]]


def test_shards_like_the_earlier_ones_pass_and_so_do_few_or_those_of_a_new_source() -> None:
    alike = funnel(2000, en_kept={"en": 800}, zh_kept={"zh": 400}, en_short={"en": 600})
    assert stops(alike) == []
    destroyed = funnel(2000, en_kept={"en": 30}, en_short={"en": 1900})
    assert stops(destroyed, earlier=None) == []
    assert stops(destroyed, least=5000) == []
    assert "band" in stops(destroyed)


def test_what_is_kept_may_move_by_a_share_of_what_it_was_copies_apart() -> None:
    half = funnel(2000, en_kept={"en": 450}, zh_kept={"zh": 220}, en_short={"en": 1250})
    assert stops(half) == []
    assert stops(half, band=0.2) == ["band"]
    copies = funnel(2000, en_kept={"en": 60}, zh_kept={"zh": 30}, en_duplicate={"en": 1850})
    assert "band" not in stops(copies, older=1850)


def test_copies_of_each_other_and_of_older_documents_have_limits_of_their_own() -> None:
    again = funnel(2000, en_kept={"en": 30}, zh_kept={"zh": 20}, en_duplicate={"en": 1950})
    assert stops(again, older=1950) == []
    assert stops(again, older=1950, again=0.5) == ["again"]
    assert stops(again, older=0) == ["removed"]


def test_a_channel_that_is_missing_and_a_language_that_has_moved_stop() -> None:
    english = funnel(2000, en_kept={"en": 1200}, en_short={"en": 600})
    assert stops(english) == ["channels", "drift"]
    mixed = funnel(2000, en_kept={"en": 300, "zh": 30}, zh_kept={"zh": 870}, en_short={"en": 600})
    assert stops(mixed) == ["drift"]
    assert stops(mixed, drift=2) == []


def test_damage_is_not_diluted_and_a_refusal_says_what_where_and_which_limit() -> None:
    damaged = funnel(2000, 100, en_kept={"en": 800}, zh_kept={"zh": 400}, en_short={"en": 500})
    assert stops(damaged) == ["quarantined"]
    [row] = [
        row
        for row in judged(NewShards(), 0.01, {"web": damaged}, {"web": EARLIER}, {"web": 0}, [])
        if not row["passed"]
    ]
    assert (
        why(row)
        == "new shards of source web: share that is quarantined 0.05, at most 0.01 asked for (gates.quarantined)"
    )


def test_a_share_that_misses_its_limit_by_little_is_not_said_to_be_at_it() -> None:
    now = funnel(3_000_000, en_kept={"en": 1_499_999}, en_short={"en": 1_500_001})
    before = funnel(2_000_000, en_kept={"en": 2_000_000})
    rows = judged(NewShards(band=0.5), 0.01, {"web": now}, {"web": before}, {"web": 0}, [])
    [said] = [why(row) for row in rows if row["gate"] == "band" and not row["passed"]]
    assert "share kept 0.4999997, at least 0.5 asked for" in said
