"""Papers from arXiv's sources, in archives that tarfile writes."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from data_specs.extract import Extract
from data_specs.sources import ArxivSource
from tasks.sources import Reader, latex, reader
from tasks.sources.templates import TooLongError
from tests.tasks.sources.mutations import flipped
from tests.tasks.sources.test_arc import read_all

MAIN = r"""\documentclass{article} % a class
\usepackage{own}
\newcommand{\R}{\mathbb{R}}
\newcommand\norm[2][1]{\lVert #2 \rVert_{#1}}
\def\pair#1#2{\langle #1, #2 \rangle}
\DeclareMathOperator*{\argmax}{arg\,max}
\title[Short]{On \emph{Rivers}\thanks{paid by {them}}\\ and more}
\begin{document}
\maketitle
% alone
Of $x \in \R$, 5\% of \norm{x} and \norm[2]{\R}. % here
\input{sections/one}
\begin{verbatim}
100 % kept \R
\end{verbatim}
\iffalse not this \fi
\argmax \pair ab \shared x
\begin{comment}
nor this
\end{comment}
\include{two}\bibliographystyle{plain}
\bibliography{refs}
\begin{thebibliography}{9}\bibitem{a} A.\end{thebibliography}
\end{document}
behind
"""
ONE = "First $\\R$ section. \\input two\n"
TWO = "\\newcommand{\\late}{so late}Second, \\late.\n"
TEXT = r"""\maketitle
Of $x \in \mathbb{R}$, 5\% of \lVert x \rVert_{1} and \lVert \mathbb{R}\rVert_{2}.
First $\mathbb{R}$ section. Second, so late.


\begin{verbatim}
100 % kept \R
\end{verbatim}

\operatorname*{arg\,max}\langle a, b \rangle \beta x

Second, so late."""
FILES = {
    "sections/one.tex": ONE,
    "main.tex": MAIN,
    "two.tex": TWO,
    "own.sty": r"\newcommand{\shared}{\beta}",
    "refs.bib": "@a",
}


def packed(files: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


PAPER = gzip.compress(packed({name: text.encode() for name, text in FILES.items()}), mtime=0)
PAPERS = {
    "2301/2301.00001.gz": PAPER,
    "2301/2301.00002.gz": gzip.compress(b"\\documentstyle{article}\\begin{document}Alone.\\end{document}", mtime=0),
    "2301/2301.00003.pdf": b"%PDF-1.4",
    "2301/hep-th9901001.gz": gzip.compress(b"Plain \\TeX\\ as of old.\n\\bye", mtime=0),
    "2301/2301.00004.gz": gzip.compress(packed({"a.png": b"\x89PNG", "readme": b"withdrawn"}), mtime=0),
    "2301/2301.00005.gz": PAPER[:-20],
    "2301/2301.00006.gz": PAPER[:20] + bytes(20) + PAPER[40:],
}


def source(path: Path, **settings: Any) -> Reader:
    return reader("papers", ArxivSource(kind="arxiv", paths=str(path), **settings), Extract())


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_papers_become_documents_and_what_is_no_latex_is_counted(tmp_path: Path, form: int) -> None:
    long = "2301/" + "d" * 90 + "/" + "e" * 80 + "/2301.00009.gz"
    (tmp_path / "arXiv_src_2301_001.tar").write_bytes(packed(PAPERS | {long: PAPERS["2301/2301.00002.gz"]}, form))
    found = source(tmp_path / "*")
    rows, counts = read_all(found)
    assert counts == {"in": 8, "no_source": 2, "truncated": 1, "unreadable": 1}
    assert [row["url"] for row in rows] == [
        f"https://arxiv.org/abs/{each}" for each in ("2301.00001", "2301.00002", "hep-th/9901001", "2301.00009")
    ]
    assert [(row["title"], row["kind"]) for row in rows[:2]] == [("On Rivers and more", "latex"), (None, "latex")]
    lines = [line.rstrip() for line in rows[0]["text"].splitlines() if line.strip()]
    assert lines == [line for line in TEXT.splitlines() if line]
    assert [row["text"] for row in rows[1:3]] == ["Alone.", "Plain \\TeX\\ as of old.\n\\bye"]
    assert all(hashlib.sha256(found.reread(row)).hexdigest() == row["payload"] for row in rows)


def test_a_paper_by_itself_is_read_and_limits_hold(tmp_path: Path) -> None:
    (tmp_path / "2301.00001.tar.gz").write_bytes(PAPER)
    (tmp_path / "2301.00002.gz").write_bytes(gzip.compress(b"\\documentclass{a}" + b"x" * 50_000))
    (tmp_path / "2301.00003.gz").write_bytes(gzip.compress(bytes(2**20)))
    rows, counts = read_all(source(tmp_path / "*", longest=20_000, unpacked=100_000))
    assert [row["url"] for row in rows] == ["https://arxiv.org/abs/2301.00001", "https://arxiv.org/abs/2301.00002"]
    assert counts == {"in": 3, "too_large": 1}
    assert read_all(source(tmp_path / "*", largest=50)) == ([], {"in": 3, "too_large": 3})


def test_an_archive_that_breaks_off_keeps_what_is_before(tmp_path: Path) -> None:
    whole = packed(PAPERS)
    second = whole.index(b"2301/2301.00002.gz")
    for size, kept in ((300, 1), (550, 1), (900, 2)):  # in a header, in a paper, and behind one
        (tmp_path / "a.tar").write_bytes(whole[: second + size])
        rows, counts = read_all(source(tmp_path / "*"))
        assert len(rows) == kept
        assert counts == {"in": kept + 1, "truncated": 1}


def test_an_archive_that_breaks_off_between_two_papers_is_told_and_one_behind_another_is_read(tmp_path: Path) -> None:
    whole = packed(PAPERS)
    second = whole.index(b"2301/2301.00002.gz")
    for data, kept, counts in (
        (whole[:second], 1, {"in": 2, "truncated": 1}),
        (whole.rstrip(b"\0") + bytes(-len(whole.rstrip(b"\0")) % 512), 3, {"in": 8, "no_source": 2, "truncated": 2}),
        (whole + packed({"2302/2302.00001.gz": PAPER}), 4, {"in": 8, "no_source": 2, "truncated": 1}),
        (whole + b"gravel" * 500, 3, {"in": 8, "no_source": 2, "truncated": 1}),
    ):
        (tmp_path / "a.tar").write_bytes(data)
        rows, found = read_all(source(tmp_path / "*"))
        assert len(rows) == kept
        assert {name: found[name] for name in counts} == counts
        assert found.get("unreadable") == (2 if data.endswith(b"gravel") else 1 if kept > 1 else None)


@pytest.mark.parametrize(
    "text",
    [
        r"\def\a{\b\b}\def\b{\c\c}\def\c{\d\d}\def\d{\e\e}\def\e{\a\a}" + r"\a" * 20_000,
        r"\newcommand{\a}[1]{#1#1\a{#1}}" + r"\a{x}" * 20_000,
        r"\def\a{" * 30_000,
        r"\newcommand{\a}[9]{#1}" + r"\a{" * 30_000,
        "%" * 100_000 + "\n" * 1000,
        r"\input{main}" * 10_000,
        r"\begin{verbatim}" * 10_000,
        r"\index{" * 50_000,
        r"\def\a{}" + r"x_\a" * 50_000,
        "{" * 100_000,
        r"\usepackage{" + "a," * 50_000,
        r"\title" + "{" * 50_000,
        " \n" * 50_000,
    ],
)
def test_no_paper_takes_more_than_time_of_its_length(text: str) -> None:
    begun = time.process_time()
    paper = latex.paper({"main.tex": "\\documentclass{a}\\begin{document}gold " + text})
    assert time.process_time() - begun < 4
    assert paper is not None
    assert len(paper.text) < 10**7


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("see \\url{http://a.org/%20b} and more % gone", "see \\url{http://a.org/%20b} and more"),
        ("see \\href{http://a.org/%20b}{it}, 5\\,\\% % gone", "see \\href{http://a.org/%20b}{it}, 5\\,\\%"),
        ("the sign \\verb|%| and \\verb*+100%+ more", "the sign \\verb|%| and \\verb*+100%+ more"),
        ("a\\\\% gone\nb \\\\verb|% gone", "a\\\\\nb \\\\verb|"),
        ("a\n% \\url{http://a.org/%20b}\nb", "a\nb"),
        ("a\n%\\begin{verbatim}\n% old\n%\\end{verbatim}\nb", "a\nb"),
        ("\\begin{verbatim}\n% kept\n\\end{verbatim}\nb", "\\begin{verbatim}\n% kept\n\\end{verbatim}\nb"),
        ("a % \\begin{verbatim}\nb % gone", "a \nb"),
    ],
)
def test_a_comment_is_what_latex_takes_for_one(source: str, text: str) -> None:
    paper = latex.paper({"main.tex": f"\\documentclass{{a}}\\begin{{document}}\n{source}\n\\end{{document}}"})
    assert paper is not None
    assert paper.text == text


SUBFILE = r"\documentclass[../main]{subfiles}\begin{document}%s\end{document}"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"a \subfile{s/one} b \input{s/two.tex} c", "a One b Two c"),
        (r"a \import{s/}{one} b \subimport*{s}{two} c", "a One b Two c"),
        (r"a \input{gone} b", "a  b"),
        ("a\n\\begin{verbatim}\n\\begin{document}\n\\end{document}\n\\end{verbatim}\nb",
         "a\n\\begin{verbatim}\n\\begin{document}\n\\end{document}\n\\end{verbatim}\nb"),
        (r"a \verb|\end{document}| b \verb+\R+ $\R$", r"a \verb|\end{document}| b \verb+\R+ $\mathbb{R}$"),
        ("a\n\\begin{lstlisting}\n\\newcommand{\\x}{y} \\R\n\\end{lstlisting}\n\\R",
         "a\n\\begin{lstlisting}\n\\newcommand{\\x}{y} \\R\n\\end{lstlisting}\n\\mathbb{R}"),
        ("a \\\\verb \\R", "a \\\\verb \\mathbb{R}"),
        (r"a \iffalse b \figref{c} \fill d \fi e", "a  e"),
        (r"a \iffalse b \else c \fi d", "a  c  d"),
        (r"a \iffalse b \ifx c d \else e \fi f \else g \iffalse h \fi i \fi j", "a  g  i  j"),
        (r"a \iffalse b \iftoggle{c}{d}{e} \iff \ifthenelse{f}{g}{h} \fi i", "a  i"),
        (r"\ifx a b \else c \fi \iffalse d \fi e", r"\ifx a b \else c \fi  e"),
        (r"a \iffalse b", r"a \iffalse b"),
        (r"a \iffalsehood b \fi", r"a \iffalsehood b \fi"),
        (r"a \verb|\iffalse| b \fi c", r"a \verb|\iffalse| b \fi c"),
    ],
)  # fmt: skip
def test_a_paper_is_what_latex_would_set_of_its_files(source: str, text: str) -> None:
    main = (
        f"\\documentclass{{a}}\\newcommand{{\\R}}{{\\mathbb{{R}}}}\\begin{{document}}\n{source}\n\\end{{document}}\nold"
    )
    for folder in ("", "paper/"):
        files = {"main.tex": main, "s/one.tex": SUBFILE % "One", "s/two.tex": "Two"}
        paper = latex.paper({f"{folder}{name}": text for name, text in files.items()})
        assert paper is not None
        assert paper.text == text


CLASS, DOCUMENT = "\\documentclass{a}", "\\begin{document}%s\\end{document}"


@pytest.mark.parametrize(
    "files",
    [
        {"preamble.tex": CLASS + "\\newcommand{\\x}{y}", "algebra.tex": "\\input{preamble}" + DOCUMENT % "Gold."},
        {"thesis.tex": CLASS + "\\input{body}", "body.tex": DOCUMENT % "\\input{gold}", "gold.tex": "Gold.",
         "figure.tex": CLASS + DOCUMENT % "A figure alone."},
        {"a.tex": CLASS + DOCUMENT % "\\input{gold}", "gold.tex": "Gold.", "review.tex": CLASS + DOCUMENT % "No."},
        {"old.tex": "Plain \\TeX, of one file, and longer.", "a.tex": CLASS + DOCUMENT % "Gold."},
    ],
)  # fmt: skip
def test_a_paper_begins_with_the_file_that_has_class_and_document_with_what_it_names(files: dict[str, str]) -> None:
    files = {name: text.replace("Gold.", "Gold. " + "It is heavy. " * 20) for name, text in files.items()}
    paper = latex.paper(files)
    assert paper is not None
    assert paper.text == ("Gold. " + "It is heavy. " * 20).strip()


@pytest.mark.parametrize(
    ("defined", "used", "text"),
    [
        (r"\newcommand{\part}[1]{\input{s/#1}}", r"a \part{one} b \part{gone} c", "a One. b  c"),
        (r"\newcommand\part[1]{\ifx\x\y\input{../#1}\else\input{#1}\fi}", r"\part{s/one}",
         r"\ifx\x\y\else One.\fi"),
        (r"\makeatletter\newcommand{\part}[1]{\@@input #1 }\makeatother", r"a \part{s/one} b", "a One.  b"),
        ("", "a\\input{s/two}b \\noindent\\input s/one", "aTwo.\nb \\noindent One."),
        ("", "a \\verb|\\input{s/one}| b\n\\begin{verbatim}\n\\input{s/one}\n\\end{verbatim}",
         "a \\verb|\\input{s/one}| b\n\\begin{verbatim}\n\\input{s/one}\n\\end{verbatim}"),
        ("", "a\n\\begin{verbatim}\n\\endinput\n\\end{verbatim}\nb\n\\endinput\nc",
         "a\n\\begin{verbatim}\n\\endinput\n\\end{verbatim}\nb"),
    ],
)  # fmt: skip
def test_files_are_put_in_by_the_authors_own_macros_and_end_where_they_say(defined: str, used: str, text: str) -> None:
    files = {"s/one.tex": "One.", "s/two.tex": "Two.\n\\endinput\nLeft over."}
    paper = latex.paper({"main.tex": f"{CLASS}{defined}{DOCUMENT % used}", **files})
    assert paper is not None
    assert paper.text == text


@pytest.mark.parametrize(
    ("defined", "used", "text"),
    [
        (r"\newcommand{\ie}{\emph{i.e.}\@\xspace}", r"gold, \ie heavy, \ie, \ie{} heavy (\ie)",
         r"gold, \emph{i.e.} heavy, \emph{i.e.}, \emph{i.e.}{} heavy (\emph{i.e.})"),
        (r"\newcommand{\au}{Au\xspace}\newcommand{\aus}{\au\xspace}", "\\aus and\n\\aus\nis $\\aus$",
         "Au and\nAu\nis $Au$"),
        (r"\newcommand{\at}[1]{#1\index{#1}}",
         r"\at{Gold}\index[n]{Au!{x\}}} is \index {a}heavy \verb|\index{a}| \indexes{a}",
         r"Gold is heavy \verb|\index{a}| \indexes{a}"),
        (r"\newcommand{\mail}{a@b.org}\newcommand{\t}[1]{\begin{tabular}{@{}l@{}}#1\end{tabular}}", r"\mail, \t{x}",
         r"a@b.org, \begin{tabular}{@{}l@{}}x\end{tabular}"),
        (r"\makeatletter\newcommand{\x}{\@ifnextchar(\a\b}\makeatother", r"\x", r"\x"),
        (r"\newcommand{\v}[1]{\boldmath$\displaystyle#1$}\def\w#1{\bf#1}", r"\v{z} \v{\pi} \v1 \w{\it z}",
         r"\boldmath$\displaystyle z$ \boldmath$\displaystyle\pi$ \boldmath$\displaystyle1$ \bf\it z"),
        (r"\def\x{x}\def\i{\bf}\newcommand{\y}{y+1}", r"{\larger\x} $\x\x$ {\i\x} {\i\i\x} \textbf{\x}\x",
         r"{\larger x} $xx$ {\bf x} {\bf\bf x} \textbf{x}x"),
        (r"\def\e{}\newcommand{\c}[1]{\texttt{\protect\e #1}}", r"\c{x} \bf\e y", r"\texttt{\protect x} \bf y"),
        (r"\newcommand{\c}[1]{<#1>}\newenvironment{own}{\renewcommand{\c}[1]{[##1]}}{}\newcommand{\h}[1]{\##1}",
         r"\c{x} \h{1}", r"<x> \#1"),
        (r"\def\x{x}\def\r{\mathbb{R}}\def\y{y+1}\def\g{{ab}}", r"$z^\y_\x^{\y}_ \y^\r^\g\_\y$",
         r"$z^{y+1}_x^{y+1}_ {y+1}^{\mathbb{R}}^{{ab}}\_y+1$"),
    ],
)  # fmt: skip
def test_macros_become_what_latex_would_set(defined: str, used: str, text: str) -> None:
    paper = latex.paper({"main.tex": f"{CLASS}{defined}{DOCUMENT % used}"})
    assert paper is not None
    assert paper.text == text


@pytest.mark.parametrize(
    ("source", "title"),
    [
        (r"O-\textit{minimality}\xspace and \textcolor{red}{more} \textbf{of}~it", "O-minimality and more of it"),
        (r"\Large\bfseries Gold \vspace{2mm}\\[1ex] and \texttt{lead}", "Gold and lead"),
        (r"$x^{2}$ of \alpha{} and {\LaTeX}", r"$x^{2}$ of \alpha and \LaTeX"),
    ],
)
def test_a_title_has_no_commands_that_make_no_text(source: str, title: str) -> None:
    paper = latex.paper({"main.tex": f"{CLASS}\\title{{{source}}}{DOCUMENT % 'Gold.'}"})
    assert paper is not None
    assert paper.title == title


def test_a_large_book_has_all_its_chapters() -> None:
    chapters = {f"{number}.tex": f"{number} " + "gold " * 900_000 for number in range(3)}
    paper = latex.paper({"main.tex": CLASS + DOCUMENT % r"\input{0} \input{1} \input{2} end", **chapters})
    assert paper is not None
    assert [paper.text.count(word) for word in ("gold", "2 gold", "end")] == [2_700_000, 1, 1]


def test_the_file_that_begins_a_paper_is_found_in_time_of_its_length() -> None:
    files = {f"{number}.tex": CLASS + "\\input{all}" + DOCUMENT % "x" for number in range(2000)}
    begun = time.process_time()
    assert latex.paper({**files, "all.tex": "gold " * 200_000}) is not None
    assert time.process_time() - begun < 4


def test_a_damaged_archive_is_read_or_counted_whatever_was_done_to_it(tmp_path: Path) -> None:
    rng, whole = random.Random(2), packed(PAPERS)
    for number in range(200):
        (tmp_path / f"{number}.tar").write_bytes(flipped(rng, whole))
    rows, counts = read_all(source(tmp_path / "*"))
    assert len(rows) > 50
    assert counts["in"] >= 200


def test_files_that_name_each_other_and_conditions_in_conditions_take_time_of_the_paper() -> None:
    form = "\\documentclass{article}\n\\begin{document}\n%s\\end{document}"
    circle = {f"{n}.tex": form % f"\\input{{{(n + 1) % 300}}}\\input{{{(n + 2) % 300}}}" for n in range(300)}
    own = "".join(f"\\newcommand{{\\q{'x' * (n // 26)}{chr(97 + n % 26)}}}[1]{{\\input{{#1}}}}" for n in range(1500))
    begun = time.process_time()
    with pytest.raises(TooLongError):
        latex.paper(circle)
    latex.paper({"a.tex": form % ("\\iftrue " * 2**17 + "\\iffalse x\\fi ")})
    latex.paper({"a.tex": own + form % ("\\qa{x} " * 2**13)})
    assert time.process_time() - begun < 8


def test_macros_that_put_files_in_take_memory_of_the_paper() -> None:
    own = "\\newcommand{\\q}[1]{\\input{#1}" + "x" * 19_000 + "}"
    tracemalloc.start()
    try:
        with pytest.raises(TooLongError):
            latex.paper({"main.tex": CLASS + own + DOCUMENT % (r"\q{a} " * 4_000)})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**27


def test_a_paper_that_names_files_again_and_again_is_too_large_where_they_would_be_left_out(tmp_path: Path) -> None:
    again, part = r"\input{part} ", "gold " * 200_000
    for calls in (8, 40):
        files = {"main.tex": (CLASS + DOCUMENT % (again * calls + "end")).encode(), "part.tex": part.encode()}
        (tmp_path / f"{calls}.gz").write_bytes(gzip.compress(packed(files)))
    rows, counts = read_all(source(tmp_path / "*.gz"))
    assert counts == {"in": 2, "too_large": 1}
    assert [row["text"].count("gold") for row in rows] == [8 * 200_000]


@pytest.mark.parametrize("depth", [15, 16])
def test_files_within_files_are_read_as_deep_as_tex_opens_them(depth: int) -> None:
    files = {f"{n}.tex": f"part {n} \\input{{{n + 1}}}" for n in range(1, depth)}
    paper = latex.paper({"main.tex": CLASS + DOCUMENT % r"\input{1}", **files})
    assert paper is not None
    assert paper.text.count("part") == 14


def test_a_paper_of_thousands_of_short_files_is_whole() -> None:
    files = {f"{n}.tex": f"part {n}\n" for n in range(12_000)}
    main = "".join(f"\\input{{{n}}}" for n in range(12_000))
    files["main.tex"] = "\\documentclass{article}\\begin{document}" + main + "\\end{document}"
    found = latex.paper(files)
    assert found is not None
    assert found.text.count("part") == 12_000
