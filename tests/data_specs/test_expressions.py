"""Expressions: what passes is one harmless scalar, and means the same after it was checked."""

from __future__ import annotations

import math
from functools import cache

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_specs.expressions import FUNCTIONS, bind, check_nulls, normalised, parse
from data_specs.sql_parser import ExpressionError
from tasks.engine.sql import evaluate

HOSTILE = """
true) from t; create table x as select 1; select (true
true); drop table t; select (true
true) from t where (true
true) union all select (true
true) order by (1
true) limit (1
true) group by (1
true), (false
true) as x, (false
true) as x --
1) or (1
1] or [1
a) --
1 --
1 /*
1 */ or /* 1
a -- b
 or c --
'
"
$$
*
t.*
columns(*)
columns('a.*')
* exclude (a)
a, b
a,
a as b
a b
a;
;
(select 1)
(select count(*) from t)
exists (select 1)
a in (select 1)
a = any (select 1)
a = any([1, 2])
a > all([1, 2])
sum(a)
count(*)
max(a) filter (where b > 1)
string_agg(distinct text)
first(a order by b)
row_number() over ()
sum(a) over (order by b)
lag(a) over w
random() < 0.5
setseed(0.5)
uuid()
gen_random_uuid()
now() > date
current_timestamp()
today()
get_current_time()
nextval('s')
getenv('HOME')
current_setting('threads')
set_config('threads', '1')
getvariable('x')
version()
current_schema()
current_database()
pg_typeof(a)
txid_current()
read_text('/etc/passwd')
read_csv('/etc/passwd')
glob('/etc/*')
parquet_metadata('x')
query('select 1')
query_table('t')
load_aws_credentials()
pragma_version()
checkpoint()
sleep(1)
unnest([1, 2])
generate_series(1, 3)
range(1, 1000000000)
repeat('a', 1000000000)
lpad('a', 1000000000, 'b')
list_transform([1], x -> x)
list_transform([1], lambda x: x)
[x for x in [1, 2] if x > 1]
x -> x + 1
$1
?
$name
#1
a.b
t.a
main.t.a
a.length()
main.lower(text)
system.main.lower(text)
lower(text := 'a')
row(a, b)
(a, b)
struct_pack(a := 1)
{'a': 1}
map {'a': 1}
a collate nocase
a at time zone 'utc'
a::timestamptz
a::json
a::t
cast(a as enum('x', 'y'))
cast(a as struct(x int))
a::varchar[]
interval 1 day
timestamp '2020-01-01'
default
grouping(a)
current_date
current_user
rowid
select
select 1
from t
create table x (a int)
copy t to '/tmp/x'
attach '/tmp/x'
install httpfs
set threads = 1
pragma database_list
explain select 1
values (1)
with x as (select 1) select 1
a := 1
a = b = c
not
and
()
(
)
x'00ff'
b'101'
percentile(20)
percentile(a)
percentile(a, 0)
percentile(a, 100)
percentile(a, 2.55)
percentile(a, 99.95)
percentile(a, b)
percentile(a + 1, 20)
percentile('a', 20)
""".strip().replace("a -- b\n or c --", "a -- b")
COLUMNS = ("a", "b", "c", "text", "language", "quality")


@pytest.mark.parametrize(
    "text", [*HOSTILE.split("\n"), "", " ", "\n", "'\x00'", "a\x07", "a\u2028-- b", "not " * 5000 + "a"]
)
def test_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text, COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("langauge = 'zh'", "column `langauge` is written by no stage; did you mean `language`?"),
        ('language = "zh"', "column `zh` is written by no stage; as a text it is written 'zh'"),
        ("language = zh", "column `zh` is written by no stage; as a text it is written 'zh'"),
        ("lenght(text) > 3", "function `lenght` is not allowed; did you mean `length`?"),
        ("getenv('X') = 'y'", "function `getenv` is not allowed"),
        ("a in (select 1)", "a subquery is not allowed"),
        ("count(*) over () > 1", "a window function is not allowed"),
        ("cast(a as integr) > 1", "a cast to integr is not allowed; did you mean `integer`?"),
        ("main.lower(text) = 'a'", "`main.lower` is not allowed; name a function alone"),
        ("t.a > 1", "`t.a` is not a column; name a column alone"),
        ("a, b", "`a, b` is not one expression"),
        ("both > 1", 'near "both"; a column of this name, which is a word of SQL, is written "both", in double quotes'),
        ("a >", '`a >` is not one expression: syntax error at or near ")"'),
        ("true) from t; create table x as select 1; select (true", "is not one expression: it is several statements"),
        ("percentile(20)", "percentile takes a column and a number between 0 and 100, to a tenth, as in percentile("),
        ("a" * 20_000, "has 20,000 characters, more than 10,000"),
        ("(" * 300 + "a" + ")" * 300, "is not one expression: Max expression depth limit of 100 exceeded"),
    ],
)
def test_a_refusal_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text, COLUMNS)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", sorted(name for name in FUNCTIONS if name[0].isalpha() and name != "percentile"))
def test_every_allowed_function_is_a_consistent_scalar_of_duckdb(name: str) -> None:
    known = duckdb.execute(
        "SELECT function_type, stability FROM duckdb_functions() WHERE function_name = ?", [name]
    ).fetchall()
    # `if` is written by the parser as a CASE, others are macros over consistent scalars
    assert all(kind in ("scalar", "macro") and stability in ("CONSISTENT", None) for kind, stability in known)
    assert known or name == "if"


SCRAPS = """
a b c text language quality 1 0.5 'x' '' ' " ( ) [ ] , ; -- /* */ = < > + - * / % || . -> :: $$ $1 ? #1 and or not in is
null true false between case when then else end like int date select from t where union all order by limit as x t.a
lower( length( sum( random() now() percentile(quality, over () exists
"""
FRAGMENTS = [*SCRAPS.split(), "\n"]
ATOM = st.sampled_from(
    ["a", "b", "c", "quality", "1", "0.5", "-3", "2e1", "null", "length(text)", "abs(a)", "(a)", "b % 2"]
)
TRUTH = st.recursive(
    st.one_of(
        st.tuples(ATOM, st.sampled_from(["<", "<=", "=", "<>", "is distinct from"]), ATOM).map(" ".join),
        st.sampled_from(
            ["true", "false", "null", "a is null", "language in ('zh', 'en')", "text like '%o%'", "text ~ '^x'"]
        ),
        st.tuples(ATOM, ATOM, ATOM).map(lambda t: f"{t[0]} between {t[1]} and {t[2]}"),
        st.tuples(ATOM, ATOM).map(lambda t: f"coalesce({t[0]} / {t[1]}, 0) > 1"),
    ),
    lambda inner: st.one_of(
        inner.map(lambda t: f"not ({t})"),
        st.tuples(inner, st.sampled_from([" and ", " OR "]), inner).map(lambda t: f"({t[0]}){t[1]}({t[2]})"),
        st.tuples(inner, inner, inner).map(lambda t: f"case when {t[0]} then {t[1]} else {t[2]} end"),
    ),
    max_leaves=8,
)
TABLE = pa.table(
    {
        "a": pa.array([1, 2, None, 0], pa.int64()),
        "b": pa.array([3, None, 1, 0], pa.int64()),
        "c": pa.array([0.25, -1.0, None, 3.0], pa.float64()),
        "text": pa.array(["foo", None, "x;", ""]),
        "language": pa.array(["zh", "en", None, "de"]),
        "quality": pa.array([0.1, 0.5, None, 0.9], pa.float32()),
    }
)


@cache
def unguarded() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"ieee_floating_point_ops": False, "error_on_division_by_zero": False})


def direct(text: str) -> tuple[list[tuple], list]:
    """What an unguarded DuckDB makes of a text in the place of a column, and the tables it has afterwards."""
    with unguarded().cursor() as cursor:
        cursor.register("t", TABLE)
        rows = cursor.execute(f"SELECT 7 AS before, ({text}\n) AS value, 8 AS after FROM t").fetchall()
        return rows, cursor.execute("SELECT table_name FROM duckdb_tables()").fetchall()


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=9).map(" ".join), st.text(max_size=20)))
def test_what_passes_is_a_scalar_to_an_unguarded_duckdb_too(text: str) -> None:
    check_scalar(text)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(TRUTH, st.lists(st.tuples(st.integers(0, 60), st.sampled_from(FRAGMENTS)), max_size=3))
def test_a_spoilt_expression_is_refused_or_still_a_scalar(text: str, inserted: list[tuple[int, str]]) -> None:
    for place, fragment in inserted:
        text = f"{text[:place]} {fragment} {text[place:]}"
    check_scalar(text)


def check_scalar(text: str) -> None:
    try:
        parsed = parse(text, COLUMNS)
    except ExpressionError:
        return
    if parsed.percentiles:
        return
    try:
        rows, tables = direct(text)
    except duckdb.Error:
        return  # such as a comparison of a text with a number
    assert [(row[0], len(row), row[2]) for row in rows] == [(7, 3, 8)] * TABLE.num_rows
    assert not tables
    assert repr(rows) == repr(direct(parsed.text)[0])


@settings(max_examples=150, deadline=None)
@given(TRUTH)
def test_evaluation_agrees_with_an_unguarded_duckdb(text: str) -> None:
    if normalised(text) == "NULL":
        return
    rows, _ = direct(text)
    assert evaluate({"rule": text}, TABLE)["rule"].to_pylist() == [row[1] for row in rows]
    assert normalised(normalised(text)) == normalised(text)


def test_columns_and_percentiles_are_named() -> None:
    parsed = parse("a < percentile(quality, 20) or \"b\" > percentile(c, 99.5) and lower(text) = 'language'")
    assert parsed.columns == {"a", "b", "c", "quality", "text"}
    assert parsed.percentiles == {("quality", 20), ("c", 99.5)}


def test_spacing_case_comments_and_needless_parentheses_do_not_change_an_expression() -> None:
    texts = ["a < 1 AND b in ('x','y')", "a<1 and  b IN ('x', 'y')", "((a < 1)\n and /* c */ (b in ('x', 'y')))"]
    assert len({normalised(text) for text in texts}) == 1
    others = [
        "a < 2 and b in ('x','y')",
        "a < 1 or b in ('x','y')",
        "a < 1 and b in ('x','Y')",
        "a <= 1 and b in ('x','y')",
    ]
    assert len({normalised(text) for text in [*texts, *others]}) == 5


def test_an_expression_in_chinese_is_read() -> None:
    table = pa.table({"text": ["版权所有", "正文"]})
    assert evaluate({"r": "text like '%版权%' and length(text) = 4"}, table)["r"].to_pylist() == [True, False]


def test_bound_percentiles_are_the_pinned_values_to_the_last_bit() -> None:
    rng = np.random.default_rng(5)
    quality = rng.random(4000, dtype=np.float32)
    language = rng.choice(np.array(["zh", "en", "it's"]), 4000)
    pinned = {name: float(np.percentile(quality[language == name], 20)) for name in ("zh", "it's")}
    pinned["zh"] = float(quality[language == "zh"][7])  # equal to a value: not below it
    text = bind("quality < percentile(quality, 20)", {("quality", 20.0): pinned})
    table = pa.table({"quality": quality, "language": language})
    wanted = [
        bool(float(q) < pinned[name]) if name in pinned else None for q, name in zip(quality, language, strict=True)
    ]
    assert evaluate({"r": text}, table)["r"].to_pylist() == wanted
    assert parse(text).columns == {"quality", "language"}
    assert not parse(text).percentiles


@pytest.mark.parametrize(
    "value", [0.1, 1 / 3, 1e-300, 5e-324, -2.5, 1.7976931348623157e308, 12345678901234567890.0, 0.0]
)
def test_a_threshold_for_all_keeps_every_bit(value: float) -> None:
    text = bind("a > percentile(a, 50) or b = percentile(a, 50)", {("a", 50): value})
    table = pa.table({"a": [math.nextafter(value, math.inf), value], "b": [value, math.nextafter(value, -math.inf)]})
    assert evaluate({"r": text}, table)["r"].to_pylist() == [True, False]


@pytest.mark.parametrize(
    "pinned", [{}, {("quality", 21): 0.5}, {("quality", 20): math.nan}, {("quality", 20): {"zh": math.inf}}]
)
def test_a_percentile_without_a_finite_threshold_is_an_error(pinned: dict) -> None:
    with pytest.raises(ExpressionError, match="threshold"):
        bind("quality < percentile(quality, 20)", pinned)


def test_an_unbound_percentile_is_not_evaluated() -> None:
    with pytest.raises(ExpressionError, match="low: percentile is not bound"):
        evaluate({"low": "quality < percentile(quality, 20)"}, TABLE)


def test_a_decimal_literal_is_compared_with_float32_in_float32() -> None:
    tenths = pa.array([0.1, 0.2, 0.3, 0.65, 0.7, 0.8], pa.float32())
    table = pa.table({"q": tenths})
    for number in ("0.1", "0.2", "0.3", "0.65", "0.7", "0.8"):
        result = evaluate({"below": f"q < {number}", "above": f"q > {number}", "same": f"q = {number}"}, table)
        assert [sum(result[name].to_pylist()) for name in ("below", "above", "same")] == [
            sum(q < np.float32(number) for q in tenths.to_numpy()),
            sum(q > np.float32(number) for q in tenths.to_numpy()),
            1,
        ]


def test_null_is_neither_true_nor_false() -> None:
    table = pa.table({"q": pa.array([0.5, None], pa.float32()), "x": pa.array([None, True], pa.bool_())})
    result = evaluate({"q": "q > 0.3", "not": "not (q > 0.3)", "or": "q > 0.3 or x", "and": "q > 0.3 and x"}, table)
    assert result.to_pydict() == {"q": [True, None], "not": [False, None], "or": [True, True], "and": [None, None]}


@pytest.mark.parametrize("text", ["a / b", "a % b", "a // b", "c / b", "b / b", "c % b", "f / b", "f / 0", "mod(a, b)"])
def test_division_by_zero_is_null_and_never_not_a_number(text: str) -> None:
    table = pa.table({"a": [0, 4], "b": [0, 0], "c": [0.0, 4.0], "f": pa.array([0, 4], pa.float32())})
    assert evaluate({"r": f"{text} > 0.3"}, table)["r"].to_pylist() == [None, None]
    assert evaluate({"r": text}, table, {"r": pa.float64()})["r"].to_pylist() == [None, None]


def test_whole_numbers_do_not_overflow_in_their_columns_width() -> None:
    table = pa.table({"a": pa.array([1, 2**32 - 1], pa.uint32()), "b": pa.array([3, 200], pa.uint8())})
    result = evaluate({"d": "a - b", "p": "a * b", "n": "-a"}, table, dict.fromkeys("dpn", pa.int64()))
    assert result["d"].to_pylist() == [-2, 2**32 - 201]
    assert result["p"].to_pylist() == [3, 200 * (2**32 - 1)]
    assert result["n"].to_pylist() == [-1, 1 - 2**32]


def test_rows_keep_their_order_over_many_chunks() -> None:
    n = 300_000
    numbers = np.random.default_rng(1).permutation(n)
    table = pa.table({"n": pa.chunked_array([numbers[i : i + 777] for i in range(0, n, 777)])})
    result = evaluate({"odd": "n % 2 = 1", "n": "n"}, table, {"odd": pa.bool_(), "n": pa.int64()})
    assert (result["n"].to_numpy() == numbers).all()
    assert (result["odd"].to_numpy() == (numbers % 2 == 1)).all()


@pytest.mark.parametrize("rows", [0, 3])
def test_a_constant_and_an_empty_table_have_their_rows(rows: int) -> None:
    result = evaluate({"yes": "true", "no": "1 > 2"}, pa.table({"a": pa.array(range(rows), pa.int64())}))
    assert result.schema == pa.schema([("yes", pa.bool_()), ("no", pa.bool_())])
    assert result.to_pydict() == {"yes": [True] * rows, "no": [False] * rows}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "bad: is int64, not true or false"),
        ("missing > 1", "bad: column `missing` is written by no stage"),
        ("cast(text as integer) > 1", "bad: `\\(CAST.* fails: Conversion Error"),
        ("9223372036854775807 * a > b", "bad: .* fails: Out of Range Error"),
        ("language > a", "bad: .* fails:"),
    ],
)
def test_an_evaluation_that_fails_names_the_expression(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        evaluate({"good": "a > 1", "bad": text}, TABLE)


def test_a_result_that_does_not_fit_its_type_is_an_error() -> None:
    with pytest.raises(ExpressionError, match="r: is int64, not uint8"):
        evaluate({"r": "a * 1000"}, TABLE, {"r": pa.uint8()})


def test_lists_can_be_counted_and_searched() -> None:
    table = pa.table({"alike": pa.array([[1, 2], [], None])})
    result = evaluate({"some": "len(alike) > 0", "two": "list_contains(alike, 2)", "first": "alike[1] = 1"}, table)
    assert result["some"].to_pylist() == [True, False, None]
    assert result["two"].to_pylist() == [True, False, None]
    assert result["first"].to_pylist() == [True, None, None]


@pytest.mark.parametrize(
    "text",
    ["a = null", "not (a < null)", "a between null and 3", "a in (null)", "a not in (1, null)", "not (a in (1, null))"],
)
def test_what_compares_with_null_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="is never true"):
        check_nulls(text)


@pytest.mark.parametrize(
    "text", ["a in (1, null)", "a is distinct from null", "a not in (1, 2)", "coalesce(a, null) = 1"]
)
def test_what_may_be_true_beside_a_null_is_not_refused(text: str) -> None:
    check_nulls(text)
