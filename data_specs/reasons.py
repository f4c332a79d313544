"""The reasons of Sluice's own for which a record is no document, or a document is not kept; rules have their own."""

READING = frozenset(
    """status not_page not_html not_text empty too_large too_deep too_costly cpu_limit memory_limit parser_error
    no_text same_payload takedown""".split()
)
"""Reasons of reading: such a record never was a document, or is none any more."""
COPIES = frozenset({"duplicate", "held_out_copy"})
"""Reasons of documents that are alike to another: one that stays, or one that is held out."""
EMPTIED_BY_CUT = "emptied_by_cut"
"""Reason of a document that the verdict kept, and of whose text a cut behind it left nothing."""
OWN_REASONS = READING | COPIES | {"kept", "emptied", EMPTIED_BY_CUT, "no_channel", "held_out", "quarantined"}
"""What the funnel counts beside the rules."""
