"""What is changed inside trafilatura 2.3.1 and htmldate 1.11.0: speed, and a date that does not hang on the day.

`apply` changes them for the whole process, where pages are extracted alone. A test fails where either has another
version or other insides than these changes were made for.
"""

from __future__ import annotations

import sys
from datetime import datetime
from functools import partial

import dateutil.parser
import htmldate.extractors
import trafilatura.xpaths
from lxml.etree import ElementDefaultClassLookup
from lxml.html import HtmlComment, HtmlElement, HtmlEntity, HtmlProcessingInstruction
from trafilatura.utils import HTML_PARSER

from tasks.extraction.trafilatura_rules import Rule, quicker

VERSIONS = {"trafilatura": "2.3.1", "htmldate": "1.11.0"}


def apply() -> None:
    """Change the libraries.

    Half of an extraction goes into rules, of which most find nothing (`tasks.extraction.trafilatura_rules`), and into
    asking Python for the class of every element. A test holds its text to that of trafilatura left as it is.
    dateutil completes "May 2014" with today's day; the first of the month is as good a guess and always the same one.
    """
    for rules in vars(trafilatura.xpaths).values():
        if isinstance(rules, list):
            rules[:] = map(Rule, rules)
    baseline = sys.modules["trafilatura.baseline"]  # the package's attribute of this name is a function
    setattr(baseline, "BASIC_CLEAN_XPATH", quicker(baseline.BASIC_CLEAN_XPATH))  # noqa: B010
    HTML_PARSER.set_element_class_lookup(
        ElementDefaultClassLookup(
            element=HtmlElement, comment=HtmlComment, pi=HtmlProcessingInstruction, entity=HtmlEntity
        )
    )
    htmldate.extractors.dateutil_parse = partial(dateutil.parser.parse, default=datetime(1970, 1, 1))
