"""Pictures: valid SVG of bounded size, the same bytes always, whose bars and lines are as long as what they count."""

from __future__ import annotations

import base64
import math
import os
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from flows import pictures

FUNNEL = {
    "in": 5000,
    "kept": 1900,
    "dropped": {"no_text": 200, "foreign": 1500, "short": 300, "duplicate": 1000},
    "quarantined": {"language": 100},
}
COMPRESSION = {
    "zh": {"characters_per_token": 1.32, "bytes_per_token": 3.5},
    "en": {"characters_per_token": 3.9, "bytes_per_token": 3.93},
}
SVG = "{http://www.w3.org/2000/svg}"


def losses(steps: int, channels: int) -> tuple[list[dict], dict[str, list[tuple[int, float]]]]:
    rng = random.Random(5)
    names = [f"channel_{number}" for number in range(channels)]
    entries = [
        {"step": step, "channels": {n: 3 + 6 * math.exp(-4 * step / steps) + rng.gauss(0, 0.1) for n in names}}
        for step in range(steps)
    ]
    return entries, {name: [(step, 4.0) for step in range(0, steps, max(steps // 1000, 1))] for name in names}


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]


def width(text: str, size: float, weight: str = "normal") -> float:
    """Of a text as DejaVu Sans draws it, wider than the fonts of most readers; Chinese characters are squares."""
    latin = "".join(c for c in text if ord(c) < 0x2E80)
    shape = TextPath((0, 0), latin, size, prop=FontProperties(family="DejaVu Sans", weight=weight)) if latin else None
    return (shape.get_extents().x1 if shape else 0.0) + (len(text) - len(latin)) * size


def extents(svg: str) -> dict[str, tuple[float, float]]:
    """Text -> from where to where it reaches, in units of the picture."""
    found = {}
    for element in ET.fromstring(svg).iter(f"{SVG}text"):
        style = dict(part.split(": ") for part in element.get("style", "").split("; "))
        text = "".join(element.itertext())
        long = width(text, float(style["font-size"].removesuffix("px")), style.get("font-weight", "normal"))
        start = float(element.get("x", "")) - {"start": 0, "middle": 0.5, "end": 1}[style["text-anchor"]] * long
        found[text] = start, start + long
    return found


def bars(svg: str, colour: str) -> list[tuple[float, float]]:
    """(start, end) of each filled rectangle of a colour, in units of the picture, from top to bottom."""
    found = []
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        if f"fill: {colour}" in path.get("style", ""):
            xs = [float(x) for x in re.findall(r"[ML] (\S+) ", path.get("d", ""))]
            found.append((min(xs), max(xs)))
    return found


def points_of_the_first_line(svg: str) -> np.ndarray:
    """Its places, [points, (x, y)], y downwards."""
    style = f"stroke: {pictures.LINES[0]}; stroke-width"
    [line] = [path for path in ET.fromstring(svg).iter(f"{SVG}path") if style in path.get("style", "")]
    return np.array(re.findall(r"[ML] (\S+) (\S+)", line.get("d", "")), float)


def test_the_same_numbers_give_the_same_bytes_in_every_process() -> None:
    program = (
        "import sys; from flows import pictures as p; from tests.flows import test_pictures as t;"
        "sys.stdout.write(p.funnel(t.FUNNEL) + p.compression(t.COMPRESSION) + p.channel_losses(*t.losses(50, 3)))"
    )
    found = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC+{seed}"}
        ran = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        found.append(ran.stdout.decode())
    here = pictures.funnel(FUNNEL) + pictures.compression(COMPRESSION) + pictures.channel_losses(*losses(50, 3))
    assert found == [here, here]


def test_a_funnels_bars_lead_from_all_records_to_those_kept() -> None:
    svg = pictures.funnel(FUNNEL)
    [(start, end)], [kept] = bars(svg, pictures.SLATE), bars(svg, pictures.TEAL)
    unit = (end - start) / FUNNEL["in"]
    dropped, [quarantined] = bars(svg, pictures.SAND), bars(svg, pictures.BRICK)
    lengths = [(right - left) / unit for left, right in dropped]
    assert lengths == pytest.approx([1500, 1000, 300, 200], abs=1)
    for above, below in pairwise([(end, end), *dropped, quarantined, (kept[1], kept[1])]):
        assert below[1] == pytest.approx(above[0], abs=0.01)
    assert (kept[1] - start) / unit == pytest.approx(1900, abs=1)
    assert {"1,500 (30.0 %)", "100 (2.0 %)", "1,900 (38.0 %)", "language (quarantined)", "5,000"} <= set(texts(svg))


NAMES = {
    "one": ["all"],
    "twelve": [f"channel_{number}" for number in range(12)],
    "thirty": [f"source_language_{number:02d}" for number in range(30)],
    "long": ["encyclopaedia_of_alchemy_first_edition", "encyclopaedia_of_alchemy_second_edition", "w" * 40, "M" * 24],
    "chinese": ["网页", "百科全书", "编程语言的源代码以及非常长的频道名称", "日本語のウェブ"],
}


@pytest.mark.slow
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_every_text_of_a_picture_lies_on_its_card_and_tells_names_apart(names: list[str]) -> None:
    rng = random.Random(3)
    entries = [{"step": step, "channels": {name: rng.uniform(2, 9) for name in names}} for step in range(9)]
    shares = {name: {"target": rng.random(), "realised": rng.random()} for name in names}
    tokens = {name: {"characters_per_token": rng.uniform(1, 9), "bytes_per_token": rng.uniform(1, 9)} for name in names}
    total = 10**10
    dropped = {name: total // (len(names) + 2) for name in names[: pictures.REASONS - 1]}
    found = {"in": total, "kept": total // (len(names) + 2), "dropped": dropped, "quarantined": {names[0]: 7}}
    drawn = [pictures.channel_losses(entries, {names[0]: [(4, 5.0)]}), pictures.mixture(shares)]
    for svg in [*drawn, pictures.compression(tokens), pictures.funnel(found)]:
        places = extents(svg)
        assert {text: place for text, place in places.items() if place[0] < 5 or place[1] > 571} == {}
        assert len(places) >= len(names[: pictures.REASONS - 1])
    ends = {text.rpartition(" ")[0] for text in texts(drawn[0]) if re.search(r" \d\.\d\d$", text)}
    assert len(ends) == len(names)


def test_a_label_of_the_readmes_flow_lies_in_its_box() -> None:
    svg = ET.parse(Path(__file__).parents[2] / "docs" / "flow.svg").getroot()
    boxes = [tuple(float(box.get(key, 0)) for key in ("x", "y", "width", "height")) for box in svg.iter(f"{SVG}rect")]
    labels = list(svg.iter(f"{SVG}text"))
    for label in labels:
        x, y, text = float(label.get("x", "")), float(label.get("y", "")), label.text or ""
        size, weight = (11, "normal") if label.get("class") == "small" else (13, "bold")
        around = [box for box in boxes if box[0] <= x <= box[0] + box[2] and box[1] < y < box[1] + box[3]]
        left, _, wide, _ = min(around, key=lambda box: box[2])
        room = left + wide - x - 6
        assert width(text, size, weight if label.get("class") == "head" else "normal") < room, text
    assert len(labels) > 15


def test_a_funnel_of_many_reasons_loses_none_of_them() -> None:
    dropped = {f"rule_{n}": n * 10 for n in range(33)}
    svg = pictures.funnel({"in": 10_000, "kept": 4755, "dropped": dropped, "quarantined": {}})
    counts = [re.fullmatch(r"([\d,]+) \(.*%\)", text) for text in texts(svg)]
    numbers = [int(count[1].replace(",", "")) for count in counts if count]
    assert len(numbers) == pictures.REASONS + 1
    assert sum(numbers[:-1]) == sum(dropped.values())


def test_mixture_and_compression_state_every_number() -> None:
    svg = pictures.mixture({"zh": {"target": 0.37, "realised": 0.368}, "code": {"target": 0.22, "realised": 0.11}})
    wide, narrow = bars(svg, pictures.PALE_TEAL), bars(svg, pictures.TEAL)
    ratios = [(n[1] - n[0]) / (w[1] - w[0]) for w, n in zip(wide, narrow, strict=True)]
    assert ratios == pytest.approx([0.368 / 0.37, 0.5], rel=1e-3)
    assert {"37.0 % asked, 36.8 % realised", "22.0 % asked, 11.0 % realised", "zh", "code"} <= set(texts(svg))
    assert {"1.32 characters", "3.93 bytes", "zh", "en"} <= set(texts(pictures.compression(COMPRESSION)))


def test_a_line_of_losses_is_an_affine_picture_of_the_values() -> None:
    entries, _ = losses(60, 1)
    svg = pictures.channel_losses(entries)
    points = points_of_the_first_line(svg)
    steps = np.array([entry["step"] for entry in entries], float)
    values = np.array([entry["channels"]["channel_0"] for entry in entries])
    scale = np.polyfit(points[[0, -1], 0], steps[[0, -1]], 1)
    expected = np.interp(np.polyval(scale, points[:, 0]), steps, values)
    assert np.corrcoef(points[:, 1], expected)[0, 1] < -0.9999
    assert len(points) > 50


def test_unknown_losses_leave_gaps_and_names_do_not_overlap() -> None:
    entries, held_out = losses(40, 12)
    for entry in entries[::3]:
        entry["channels"]["channel_1"] = None
    svg = pictures.channel_losses(entries, held_out)
    heights = sorted(
        float(re.search(r"[ ,](-?[\d.]+)\)", element.get("transform", ""))[1])
        for element in ET.fromstring(svg).iter(f"{SVG}text")
        if "".join(element.itertext()).startswith("channel_")
    )
    assert len(heights) == 12
    assert min(below - above for above, below in pairwise(heights)) > 10


def test_thresholds_are_drawn_as_the_share_of_what_the_highest_leaves() -> None:
    rows = [
        {"threshold": at, "recall": 1.0, "channels": {"law": [left, 0], "empty": [0, 0]}}
        for at, left in ((0.5, 50), (0.8, 150), (0.95, 200))
    ]
    svg = pictures.thresholds(rows, 0.8)
    assert "law 25.0 %" in texts(svg)
    assert not any("empty" in text for text in texts(svg))
    low, middle, high = points_of_the_first_line(svg)[:, 1]
    assert (middle - low) / (high - low) == pytest.approx((75 - 25) / (100 - 25))


def test_what_a_threshold_leaves_of_a_channel_is_not_drawn_as_all_or_none_of_it() -> None:
    left = {"most": (9_999, 10_000), "few": (1, 10_000), "all": (7, 7), "none": (0, 7)}
    rows = [
        {"threshold": at, "recall": 1.0, "channels": {name: [each[place], 0] for name, each in left.items()}}
        for place, at in enumerate((0.5, 0.95))
    ]
    assert {"most >99.9 %", "few <0.1 %", "all 100.0 %", "none 0.0 %"} <= {*texts(pictures.thresholds(rows, 0.95))}


def test_without_a_loss_a_picture_says_so_and_one_loss_is_a_point() -> None:
    for entries in ([], [{"step": 1, "channels": {"zh": None}}]):
        said = texts(pictures.channel_losses(entries))
        assert sorted(said) == ["Loss per channel, nats per token", "no losses yet"]
    svg = pictures.channel_losses([{"step": 3, "channels": {"zh": 2.0}}])
    assert {"3", "zh 2.00"} <= set(texts(svg))
    assert f"fill: {pictures.LINES[0]}" in svg


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a & b", "$x^{2$", "中文频道", "x" * 500])
def test_any_name_is_shown_as_text(name: str) -> None:
    drawn = [
        pictures.funnel({"in": 3, "kept": 2, "dropped": {name: 1}, "quarantined": {}}),
        pictures.mixture({name: {"target": 1.0, "realised": 1.0}}),
        pictures.compression({name: COMPRESSION["zh"]}),
        pictures.channel_losses([{"step": 1, "channels": {name: 2.0}}], {name: [(1, 2.0)]}),
        pictures.thresholds([{"threshold": 0.8, "recall": 0.9, "channels": {name: [1, 9]}}], 0.8),
    ]
    for svg in drawn:
        assert any(text.startswith(name[:10]) for text in texts(svg))
        assert not list(ET.fromstring(svg).iter(f"{SVG}script"))


def test_pictures_of_nothing_and_of_very_much_are_small() -> None:
    many = {f"a_rule_with_a_rather_long_name_{n}": n * 1000 for n in range(1, 60)}
    drawn = [
        pictures.funnel({"in": 0, "kept": 0, "dropped": {}, "quarantined": {}}),
        pictures.mixture({}),
        pictures.compression({}),
        pictures.channel_losses([], {}),
        pictures.channel_losses([{"step": 1, "channels": {"zh": None}}]),
        pictures.funnel({"in": 10**9, "kept": 10**8, "dropped": many, "quarantined": many}),
        pictures.channel_losses(*losses(20_000, 17)),
        pictures.thresholds([{"threshold": 0.8, "recall": 0.9, "channels": {}}], 0.8),
    ]
    for svg in drawn:
        ET.fromstring(svg)
        assert len(svg) < 60_000


def test_a_data_uri_holds_the_picture() -> None:
    kind, content = pictures.data_uri(pictures.funnel(FUNNEL)).split(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(content).decode() == pictures.funnel(FUNNEL)
