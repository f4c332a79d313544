"""The base of every settings class, and the quantities people write: `1GiB`, `1.6M`, `20%`.

Settings are frozen pydantic models that refuse unknown keys, so a spec that loads is a spec whose every line had an
effect. A field's docstring is its documentation, in the exported JSON schema too (`data_specs.schema`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from data_specs import expressions

_FACTORS = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("KMGT", 1)},
    **{f"{unit}iB": 1024**power for power, unit in enumerate("KMGT", 1)},
    **{f"{unit}B": 1000**power for power, unit in enumerate("KMGT", 1)},
}


_QUANTITY = re.compile(r"\s*((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+(?:_[0-9]+)*)(?:\.[0-9]+)?)\s*([KMGT]?(?:iB|B)?)\s*")
"""Digits, a comma before each three of them where there are some: elsewhere `1,6M` means 1.6M."""


class Settings(BaseModel):
    """Frozen settings; unknown keys are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def parse_count(value: Any) -> Any:
    """`1.6M` -> 1600000, `1GiB` -> 1073741824, 1e6 -> 1000000. Raises ValueError on other text."""
    return _parsed(value, _FACTORS)


def parse_tokens(value: Any) -> Any:
    """The same, and `3.2B` is as many billions."""
    return _parsed(value, _FACTORS | {"B": 1000**3})


def _parsed(value: Any, factors: Mapping[str, int]) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    match = _QUANTITY.fullmatch(value)
    if not match or match[2] not in factors:
        billions = "B, " if "B" in factors else ""
        units = f"(K, M, G, {billions}T, KiB, MiB, GiB, TiB), such as 1.6M or 1,600,000"
        raise ValueError(f"{value!r} is not a number with an optional unit {units}")
    number = Fraction(re.sub("[,_]", "", match[1])) * factors[match[2]]
    if number.denominator != 1:
        raise ValueError(f"{value!r} is not a whole number")
    return int(number)


def parse_share(value: Any) -> Any:
    """`20%` -> 0.2; numbers pass through. Raises ValueError on anything else."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", value)
    if not match:
        raise ValueError(f"{value!r} is neither a number nor a percentage such as 20%")
    return float(match[1]) / 100


def parse_steps(value: Any) -> Any:
    """`20 steps` -> 20; whole numbers pass through. Raises ValueError on anything else."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9][0-9_]*)\s*(?:steps?)?\s*", value)
    if not match:
        raise ValueError(f"{value!r} is not a number of steps such as `20 steps`")
    return int(match[1])


def checked(text: str) -> str:
    """The text itself, when it is one expression that can be true. Raises ExpressionError, a ValueError, when it is
    not."""
    expressions.parse(text)
    expressions.check_nulls(text)
    return text


_WHOLE = Annotated[int, Field(ge=0, lt=2**62)] | str
_PART = Annotated[float, Field(ge=0, le=1)] | str

Count = Annotated[int, Field(ge=0, lt=2**62), BeforeValidator(parse_tokens, json_schema_input_type=_WHOLE)]
"""A whole number, with an optional K, M, G (or B), T."""
Bytes = Annotated[int, Field(ge=0, lt=2**62), BeforeValidator(parse_count, json_schema_input_type=_WHOLE)]
"""A number of bytes, with an optional KiB, MiB, GiB, TiB."""
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(parse_share, json_schema_input_type=_PART)]
"""A share between 0 and 1, or a percentage."""
Steps = Annotated[int, Field(ge=0, lt=2**62), BeforeValidator(parse_steps, json_schema_input_type=_WHOLE)]
"""A number of optimizer steps, with an optional word `steps`."""
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,99}$")]
"""A name that becomes part of a column's: lower-case letters, digits and underscores, as a SQL identifier; at most 100,
since names of files hold it, and without capitals, as not all file systems tell them apart."""
Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,99}$")]
"""A name that is a value, not a column's: the same, and hyphens."""
Expression = Annotated[str, AfterValidator(checked), Field(json_schema_extra={"format": "sql"})]
"""One scalar SQL expression over columns, as written; see `data_specs.expressions`."""
Code = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
"""A language as the stage `language` writes it: ISO 639-1, else 639-3."""


def is_unset(value: object) -> bool:
    """For `exclude_if`: a setting that is null by default is left out of digests, which stay those of versions that did
    not have it."""
    return value is None


def is_empty(value: object) -> bool:
    """The same of a setting that is 0, false or empty by default."""
    return not value


def _well_formed_template(template: str | None) -> str | None:
    if template is None:
        return None
    from jinja2 import TemplateSyntaxError, meta  # here, as most specs have no template
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment()
    environment.globals.clear()  # `range` and `dict` may be fields
    try:
        fields = meta.find_undeclared_variables(environment.parse(template))
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno} of the template: {error.message}") from None
    if not fields:
        raise ValueError("the template has no field of a record; one stands in two braces, {{ title }}")
    return template


def _known_encoding(encoding: str) -> str:
    try:
        b"\xff-".decode(encoding, "backslashreplace")
    except LookupError as error:
        raise ValueError(str(error)) from None
    except UnicodeError:
        raise ValueError(f"{encoding} is no encoding of files") from None
    return encoding


Encoding = Annotated[str, AfterValidator(_known_encoding)]
"""Python's name of an encoding of characters."""
TemplateText = Annotated[str | None, AfterValidator(_well_formed_template)]
"""A template in Jinja2's language."""
