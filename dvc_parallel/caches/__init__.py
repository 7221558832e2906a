"""What DVC computes again for each stage, kept for a run.

    bookkeeping ── params, hashes, gitignore, path_facts, run_cache, stage_loading,
                   damaged

Each module but the first knows nothing of the others.  A key is kept only after its
value is.  Imports the engine only.  Other rooms import bookkeeping, stage_loading,
path_facts, hashes and damaged.
"""
