"""What a stage must get besides its upstreams, before it starts.

    stage_options ──> resources ──> ready_queue ──> admission
                        pools, load, tokens, jobserver
    path_waits, retries              stages that wait for others, or try again
    durations ──> simulation         how long a run takes

Imports the engine only.  Other rooms import resources, pools, load, path_waits,
retries, durations and simulation.
"""
