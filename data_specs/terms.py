"""What columns, stages and sources are called elsewhere, so that who looks for them by that name finds them."""

from __future__ import annotations

ELSEWHERE = {
    **dict.fromkeys(("exact_duplicates", "exact_dedup"), "exact"),
    **dict.fromkeys(("lsh", "lsh_buckets", "lsh_groups", "minhash", "minhash_lsh", "candidate_groups"), "candidates"),
    **dict.fromkeys(("near_duplicate", "near_duplicates", "near_duplicate_pairs", "near_dedup"), "alike"),
    **dict.fromkeys(("connected_components", "duplicate_clusters"), "clusters"),
    **dict.fromkeys(("dedup", "dedupe", "deduplication", "deduplicate"), "duplicates"),
    **dict.fromkeys(("wikipedia", "wiki"), "mediawiki"),
    **dict.fromkeys(("epub", "ebook", "ebooks"), "books"),
    **dict.fromkeys(("git", "github"), "repository"),
    **dict.fromkeys(("cluster_id", "component"), "cluster"),
}
"""The name in papers and other libraries -> the name here."""
