"""What commands do and print that are no runs: questions to a corpus, exports, takedowns. Their options are read in
flows/cli/.

What Prefect runs and shows (learning a classifier or tokenizers, the page of duplicates) is in flows/ itself.
"""
