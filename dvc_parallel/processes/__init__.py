"""Nothing that a run has started outlives it.

    supervised_runner ── watchdog    kills what is left when DVC itself is killed
       │                 orphans     what an earlier run has left
       ├── time_limit ── stopping    commands that may only take so long
       └── lease                     commands for somebody who may get lost

Imports the engine only.
"""
