"""What DVC computes again for each stage, kept for a run.

    bookkeeping ── params, hashes, gitignore, path_facts, run_cache, stage_loading,
                   damaged

Each is a module that knows nothing of the others. A key is kept only after its value
is. Imports the engine only.
"""
