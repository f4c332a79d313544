"""The errors that a user can mend, and the codes that commands end with."""

from __future__ import annotations

from data_specs.load import SpecError
from data_specs.sql_parser import ExpressionError
from flows.embedded import ServerError
from tasks.engine import ray_session
from tasks.engine.gates import GateError
from tasks.engine.rebase import RebaseError
from tasks.engine.runner import StageError
from tasks.planning.mixture import MixtureError
from tasks.sources import LedgerError, SourceError
from tasks.storage.store import StoreError
from training.checkpoint import CheckpointError
from training.launch import TrainingError
from training.rows import PlanError

USER_ERRORS = (
    SpecError,
    ExpressionError,
    SourceError,
    LedgerError,
    StoreError,
    StageError,
    GateError,
    RebaseError,
    MixtureError,
    ray_session.ClusterError,
    ServerError,
    TrainingError,
    CheckpointError,
    PlanError,
)
"""Errors that tell the user what to mend; all others are bugs and keep their traceback."""


def exit_code(error: BaseException) -> int:
    """2 for a bad spec, 3 for a gate, 1 for any other failure."""
    return (
        3
        if isinstance(error, GateError)
        else 2
        if isinstance(error, SpecError | ExpressionError | SourceError | MixtureError)
        else 1
    )
