"""Pictures of a run as SVG text: what was kept, what is trained on, how it goes.

Each function takes plain numbers and returns the text of one SVG, at most 60 KB: the same numbers give the same bytes.
A picture brings its own light ground, so that it reads alike in a light and a dark page; its labels are text, in the
reader's own sans-serif.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from data_specs.amounts import decimal, plural
from flows.terminal import percent

GROUND, INK, FAINT, GRID = "#fbfaf7", "#26303a", "#7b8590", "#e6e3dc"
TEAL, PALE_TEAL, SAND, BRICK, SLATE = "#0f766e", "#a7d3cc", "#d9a860", "#b5523b", "#8d99a6"
LINES = ("#2563a8", "#d07c1f", "#2a8a5f", "#8a56b0", "#c2413b", "#2b97a8", "#7f8f2a", "#c05a93", "#5b6470")
DASHES = ("-", "--", ":", "-.")
"""One after the other, where there are more channels than colours."""
FONTS = "system-ui, 'Segoe UI', 'Helvetica Neue', 'Noto Sans', 'DejaVu Sans', Arial, sans-serif"
FAMILY, SIZE = "DejaVu Sans", 10
"""What text is measured with: as wide as any font a reader may have, and its points."""
STYLE: dict[Any, Any] = {
    "font.family": FAMILY,
    "font.size": SIZE,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "sluice",
}
WIDTH = 8.0
"""Inches, of 72 units each."""
LONGEST = 2.7
"""Inches of a label, at most; longer ones lose their middle."""
REASONS = 14
"""Reasons a funnel names; the smaller ones are put together."""
NAMED = 0.2
"""Inches between the names at the ends of lines, at least."""
POINTS, RINGS = 1000, 100
"""Points of all lines of losses together, at most: longer runs are shown by means over equal stretches of steps. And
rings of all channels: of more evaluations some are left out."""


@matplotlib.rc_context(STYLE)
def funnel(found: Mapping[str, Any]) -> str:
    """`{"in": n, "kept": n, "dropped": {reason: n}, "quarantined": {reason: n}}` -> a waterfall from all records to
    those that are kept: each reason's bar begins where the one above it ends, the largest first."""
    total = max(found["in"], 1)
    losses = [(reason, count, SAND) for reason, count in found["dropped"].items() if count]
    losses += [(f"{reason} (quarantined)", count, BRICK) for reason, count in found["quarantined"].items() if count]
    losses.sort(key=lambda loss: (-loss[1], loss[0]))
    if len(losses) > REASONS:
        rest = losses[REASONS - 1 :]
        losses[REASONS - 1 :] = [(plural(len(rest), "other reason"), sum(count for _, count, _ in rest), SAND)]
    labels = ["records in", *(reason for reason, _, _ in losses), "kept"]
    figure, axes = _rows("What became of the records", labels, 0.34)
    _bar(axes, 0, (0, found["in"]), total, SLATE, f"{found['in']:,}", weight="bold")
    end = found["in"]
    for row, (_, count, colour) in enumerate(losses, 1):
        _bar(axes, row, (end - count, end), total, colour, f"{count:,} ({percent(count / total)})")
        end -= count
    text = f"{found['kept']:,} ({percent(found['kept'] / total)})"
    _bar(axes, len(losses) + 1, (0, found["kept"]), total, TEAL, text, weight="bold")
    axes.set_xlim(0, total)
    return _svg(figure)


def _bar(axes: Axes, row: int, span: tuple[int, int], total: int, colour: str, text: str, **style: Any) -> None:
    """A bar from span[0] to span[1], its text behind it, or before or inside it where there is no room."""
    start, end = span
    axes.barh(row, end - start, left=start, height=0.72, color=colour, edgecolor=colour, linewidth=0.8)
    room = (_inches(text, **style) + 0.12) / _width(axes) * total
    if end + room < total:
        _note(axes, text, (end, row), 7, **style)
    elif start > room:
        _note(axes, text, (start, row), -7, ha="right", **style)
    else:
        _note(axes, text, (end, row), -8, ha="right", color=GROUND, **style)


@matplotlib.rc_context(STYLE)
def mixture(shares: Mapping[str, Mapping[str, float]]) -> str:
    """`{channel: {"target": share, "realised": share}}` -> a wide bar for what was asked, a narrow one for what is."""
    figure, axes = _rows("Shares of the tokens: asked (wide), realised (narrow)", list(shares), 0.5)
    ends = []
    for row, (target, realised) in enumerate((share["target"], share["realised"]) for share in shares.values()):
        axes.barh(row, target, height=0.72, color=PALE_TEAL)
        axes.barh(row, realised, height=0.28, color=TEAL)
        ends.append((max(target, realised), f"{percent(target)} asked, {percent(realised)} realised"))
    _note_ends(axes, ends)
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def channel_losses(
    entries: Sequence[Mapping[str, Any]], held_out: Mapping[str, Sequence[tuple[int, float]]] | None = None
) -> str:
    """`[{"step": n, "channels": {name: loss or None}}]` and `{name: [(step, loss)]}` of held-out evaluations -> a line
    per channel, named at its end with its last value, and rings for the held-out losses."""
    held_out = held_out or {}
    names = sorted({name for entry in entries for name in entry["channels"]} | set(held_out))
    steps = np.array([entry["step"] for entry in entries], float)
    lines = []
    for number, name in enumerate(names):
        losses = np.array([entry["channels"].get(name) for entry in entries], float)
        x, y = _means(steps, losses, max(POINTS // len(names), 2))
        rings = np.array(held_out.get(name, ()), float).reshape(-1, 2)
        rings = rings[np.isfinite(rings[:, 1])]
        some = np.linspace(0, max(len(rings) - 1, 0), min(len(rings), max(RINGS // len(names), 2))).astype(int)
        if len(x) or len(rings):
            end = y[-1] if len(y) else rings[-1, 1]
            colour, dashes = LINES[number % len(LINES)], DASHES[number // len(LINES) % len(DASHES)]
            lines.append(((x, y), rings[some].T, dashes, (end, f"{_cut(name)} {decimal(end, 2)}", colour)))
    ends = [end for *_, end in lines]
    right = 1 - (0.4 + max((_inches(text, weight="bold") for _, text, _ in ends), default=0)) / WIDTH
    shown = " (rings: held out)" if any(rings.size for _, rings, *_ in lines) else ""
    inches = max(3.6, NAMED * len(ends))
    figure, axes = _figure(f"Loss per channel, nats per token{shown}", inches, 0.07, right, bottom=0.55)
    for line, rings, dashes, (*_, colour) in lines:
        marker = "." if len(line[0]) == 1 else ""
        axes.plot(*line, dashes, marker=marker, color=colour, linewidth=1.6, solid_joinstyle="round")
        axes.plot(*rings, "o", color=colour, markerfacecolor=GROUND, markersize=6, markeredgewidth=1.5)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.tick_params(length=0, labelcolor=FAINT)
    if not lines:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no losses yet", ha="center", color=FAINT, transform=axes.transAxes)
        return _svg(figure)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_xlabel("optimizer step")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    _name_ends(axes, ends, NAMED / inches)
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def compression(channels: Mapping[str, Mapping[str, float]]) -> str:
    """`{channel: {"characters_per_token": x, "bytes_per_token": x}}` -> bars of both, channel by channel."""
    figure, both = _rows("Characters and bytes per token", list(channels), 0.4)
    both.set_xlim(0, 1)
    left, bottom, width, height = both.get_position().bounds
    for place, key, colour in ((0.0, "characters_per_token", TEAL), (0.53, "bytes_per_token", SLATE)):
        position = (left + place * width, bottom, 0.47 * width, height)
        axes = figure.add_axes(position, sharey=both, frameon=False, xticks=[])
        axes.tick_params(left=False, labelleft=False)
        for row, found in enumerate(channels.values()):
            axes.barh(row, found[key], height=0.62, color=colour)
        _note_ends(axes, [(found[key], f"{decimal(found[key], 2)} {key.split('_')[0]}") for found in channels.values()])
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def tokenizers(found: Sequence[Mapping[str, Any]]) -> str:
    """Results of `tasks.tokenization.sweep` -> bytes per token of each channel, tokenizer by tokenizer."""
    labels = [f"{each['kind']} {each['size']:,}" for each in found]
    channels = list(dict.fromkeys(name for each in found for name in each["channels"]))
    figure, axes = _rows("Bytes per token of text that was not learned from", labels, 0.3 * len(channels) + 0.15)
    ends, height = [], 0.8 / max(1, len(channels))
    longest = max((rates["bytes"] for each in found for rates in each["channels"].values()), default=1.0)
    for row, each in enumerate(found):
        for place, name in enumerate(channels):
            if (rates := each["channels"].get(name)) is None:
                continue
            at = row - 0.4 + (place + 0.5) * height
            axes.barh(at, rates["bytes"], height=0.8 * height, color=(TEAL, SLATE, PALE_TEAL)[place % 3])
            ends.append((rates["bytes"], at, f"{decimal(rates['bytes'], 2)} {name}"))
    for end, at, text in ends:
        axes.annotate(text, (end, at), (8, 0), textcoords="offset points", va="center_baseline")
    axes.set_xlim(0, longest * 1.3)
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def thresholds(rows: Sequence[Mapping[str, Any]], chosen: float) -> str:
    """Rows of `flows.commands.budget.table_of` -> a line per channel: which share of the documents that the highest
    threshold leaves each of them leaves; broken, the share of the pairs right at a threshold that are found; `chosen`
    marked."""
    x = np.array([row["threshold"] for row in rows], float)
    counts = {name: [row["channels"].get(name, (0, 0))[0] for row in rows] for name in rows[-1]["channels"]}
    left = [(name, 100 * np.array(counts[name], float) / counts[name][-1]) for name in counts if counts[name][-1]]
    found = 100 * np.array([row["recall"] for row in rows], float)
    lines = [("pairs found", found, FAINT, "--")]
    lines += [
        (_cut(name), y, LINES[number % len(LINES)], DASHES[number // len(LINES) % len(DASHES)])
        for number, (name, y) in enumerate(left)
    ]
    ends = [(y[0], f"{name} {percent(y[0] / 100)}", colour) for name, y, colour, _ in lines]
    right = 1 - (0.4 + max(_inches(text, weight="bold") for _, text, _ in ends)) / WIDTH
    inches = max(3.6, NAMED * len(ends))
    title = "Documents that a threshold of similarity leaves, per cent"
    figure, axes = _figure(title, inches, 0.07, right, bottom=0.55)
    for _, y, colour, dashes in lines:
        axes.plot(x, y, dashes, color=colour, linewidth=1.6, marker=".")
    axes.axvline(chosen, color=GRID, linewidth=1.6, zorder=0)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.tick_params(length=0, labelcolor=FAINT)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_xlabel(f"Jaccard similarity from which one of two goes ({chosen:g} is the spec's)")
    axes.invert_xaxis()
    _name_ends(axes, ends, NAMED / inches)
    return _svg(figure)


def data_uri(svg: str) -> str:
    """The picture as an address that a Markdown page shows without fetching anything."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _figure(title: str, inches: float, left: float, right: float, bottom: float = 0.25) -> tuple[Figure, Axes]:
    """A card with a title, and axes so many inches high between the shares left and right of its width."""
    height = bottom + inches + 0.7
    figure = Figure((WIDTH, height), facecolor="none")
    figure.add_artist(
        FancyBboxPatch(
            (0.02, 0.02),
            WIDTH - 0.04,
            height - 0.04,
            boxstyle="round,pad=0,rounding_size=0.12",
            transform=figure.dpi_scale_trans,
            facecolor=GROUND,
            edgecolor=GRID,
            zorder=-1,
        )
    )
    figure.text(0.25 / WIDTH, 1 - 0.36 / height, title, fontsize=13, weight="bold", va="center")
    return figure, figure.add_axes((left, bottom / height, right - left, inches / height), facecolor="none")


def _rows(title: str, labels: Sequence[str], inches: float) -> tuple[Figure, Axes]:
    """A card with a row of so many inches for each label."""
    labels = [_cut(label) for label in labels]
    left = (0.4 + max(map(_inches, labels), default=0)) / WIDTH
    figure, axes = _figure(title, inches * max(len(labels), 1), left, 1 - 0.3 / WIDTH)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure, axes


def _note(axes: Axes, text: str, place: tuple[float, float], points: float, **style: Any) -> None:
    axes.annotate(text, place, (points, 0), textcoords="offset points", va="center_baseline", **style)


def _note_ends(axes: Axes, ends: Sequence[tuple[float, str]]) -> None:
    """(end of a row's bar, text behind it) of every row, with as much room as the texts need."""
    width, longest = _width(axes), 1e-9
    for row, (end, text) in enumerate(ends):
        _note(axes, text, (end, row), 8)
        longest = max(longest, end * width / (width - _inches(text) - 0.15))
    axes.set_xlim(0, longest)


def _width(axes: Axes) -> float:
    """Inches."""
    return axes.get_position().width * WIDTH


@cache
def _advance(character: str, weight: str) -> float:
    """How far one character leads, in units of the font's size; one that the font lacks, as Chinese ones, is square."""
    font = get_font(findfont(FontProperties(family=FAMILY, weight=weight)))
    if not font.get_char_index(ord(character)):
        return 1.0
    font.set_size(SIZE, 72)
    return font.load_char(ord(character)).linearHoriAdvance / 65536 / SIZE


def _inches(text: str, weight: str = "normal") -> float:
    """How long a text is."""
    return sum(_advance(character, weight) for character in text) * SIZE / 72


def _cut(label: str) -> str:
    """The label, or its beginning and its end where it is too long: what tells names apart may stand in either."""
    kept = len(label)
    short = label
    while _inches(short) > LONGEST:
        kept -= 1
        short = f"{label[: kept - kept // 2]}…{label[len(label) - kept // 2 :]}"
    return short


def _means(x: np.ndarray, y: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """The known values; where they are more than `points`, their means over as many equal stretches of x."""
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    if len(x) <= points:
        return x, y
    stretch = np.floor((x - x.min()) / max(np.ptp(x), 1) * points).clip(max=points - 1).astype(int)
    counts = np.bincount(stretch)
    filled = counts > 0
    return np.bincount(stretch, x)[filled] / counts[filled], np.bincount(stretch, y)[filled] / counts[filled]


def _name_ends(axes: Axes, ends: Iterable[tuple[float, str, str]], gap: float) -> None:
    """(value, text, colour) beside the ends of lines, pushed a share `gap` of the height apart where they would
    overlap: upwards, and down again as far as they would leave the axes."""
    low, high = axes.get_ylim()
    ends = sorted(ends)
    places = np.array([value for value, *_ in ends])
    order = np.arange(len(places)) * gap * (high - low)
    places = np.maximum.accumulate(places - order) + order
    places = np.minimum.accumulate(np.minimum(places, high)[::-1] + order)[::-1] - order[::-1]
    for place, (_, text, colour) in zip(places, ends, strict=True):
        style = {"xycoords": ("axes fraction", "data"), "annotation_clip": False, "color": colour, "weight": "bold"}
        _note(axes, text, (1, place), 8, **style)
    axes.set_ylim(low, high)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's font draws it
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue().replace(f"'{FAMILY}'", FONTS)
