"""Languages as identification writes them, for settings that are keyed by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from data_specs.augmentation import Synonyms
from data_specs.base import Settings
from data_specs.expressions import compared, suggestion
from data_specs.filters import BlockedWords, Language, Signals
from data_specs.stage import Stage

PACKAGED = frozenset(
    """
    af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy
    da de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy
    ia id ie ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr
    min mk ml mn mr mrj ms mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt
    qu rm ro ru rue sa sah sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz
    vec vep vi vls vo wa war wuu xal xmf yi yo yue zh
    """.split()
)
"""What lid.176.ftz may say: ISO 639-1, else 639-3, and some codes of Wikipedias."""
_OTHERWISE = dict(
    pair.split(":")
    for pair in """
    afr:af alb:sq amh:am ara:ar arb:ar arg:an arm:hy asm:as ava:av aze:az azj:az bak:ba baq:eu bel:be ben:bn
    bod:bo bos:bs bre:br bul:bg bur:my cat:ca ces:cs che:ce chi:zh chv:cv cls:sa cmn:zh cn:zh cor:kw cos:co
    cym:cy cz:cs cze:cs dan:da deu:de div:dv dk:da drh:mn dut:nl ekk:et ell:el eng:en epo:eo est:et eus:eu
    fas:fa fil:tl fin:fi fra:fr fre:fr fry:fy geo:ka ger:de gla:gd gle:ga glg:gl glv:gv gr:el gre:el grn:gn
    gug:gn guj:gu hat:ht hbs:sh heb:he hin:hi hrv:hr hun:hu hye:hy ice:is ido:io ile:ie in:id ina:ia ind:id
    isl:is ita:it iw:he jav:jv ji:yi jp:ja jpn:ja jw:jv kan:kn kat:ka kaz:kk khk:mn khm:km kir:ky kmr:ku
    kom:kv kor:ko kpv:kv kur:ku lao:lo lat:la lav:lv lim:li lit:lt ltz:lb lvs:lv mac:mk mal:ml mar:mr may:ms
    mkd:mk mlg:mg mlt:mt mo:ro mol:ro mon:mn msa:ms mya:my nb:no nep:ne nld:nl nno:nn nob:no nor:no npi:ne
    oci:oc ori:or ory:or oss:os pan:pa pbu:ps per:fa pes:fa plt:mg pol:pl por:pt prp:gu pus:ps que:qu quz:qu
    roh:rm ron:ro rum:ro rus:ru san:sa scc:sr scr:hr sin:si slk:sk slo:sk slv:sl snd:sd som:so spa:es sqi:sq
    src:sc srd:sc srp:sr sun:su swa:sw swe:sv swh:sw tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th tib:bo tuk:tk
    tur:tr ua:uk uig:ug ukr:uk urd:ur uzb:uz uzn:uz vie:vi vn:vi vol:vo wel:cy wln:wa ydd:yi yid:yi yor:yo
    zho:zh zsm:ms
    """.split()
)
"""Other codes of these languages, of ISO 639-2 and 639-3 (aliases of CLDR) and such as are often taken for codes."""

_BY_LANGUAGE: Mapping[type[Settings], tuple[str, ...]] = {
    Signals: ("words", "stop_words"),
    BlockedWords: ("words",),
    Synonyms: ("tables",),
}
"""Settings that are keyed by language."""


def mistakes(stages: Mapping[str, Settings]) -> Iterator[str]:
    """One line for each setting of a language that the stage which identifies it never gives: it would be of no
    document. Of other models than lid.176.ftz, and of columns of one's own, it is not known what they give."""
    for name, stage in stages.items():
        for setting in _BY_LANGUAGE.get(type(stage), ()):
            identifying = stages.get(stage.reads.get("language", "language")) if isinstance(stage, Stage) else None
            unknown = _unknown(getattr(stage, setting)) if by_packaged(identifying) else {}
            yield from (f"stages.{name}.{setting}.{code}: {why}" for code, why in unknown.items())


def by_packaged(stage: Settings | None) -> bool:
    """Whether a stage identifies languages, by lid.176.ftz."""
    return isinstance(stage, Language) and stage.model == Language().model


def never(texts: Iterable[str], column: str) -> dict[str, str]:
    """Which expressions compare a column of what lid.176.ftz gives with what it never does -> what is wrong."""
    wrong = {text: "; ".join(_unknown(sorted(compared(text, column))).values()) for text in texts}
    return {text: why for text, why in wrong.items() if why}


def _unknown(codes: Iterable[str]) -> dict[str, str]:
    """What is wrong with codes that lid.176.ftz never gives."""
    found = {}
    for code in codes:
        if code not in PACKAGED:
            other = _OTHERWISE.get(code.lower().partition("_")[0])
            hint = f"; did you mean `{other}`?" if other else suggestion(code, PACKAGED)
            found[code] = f"{code} is no language that lid.176.ftz gives (ISO 639-1, else 639-3){hint}"
    return found
