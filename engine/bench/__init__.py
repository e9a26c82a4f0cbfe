"""How fast the engine is, and what it costs: workloads, the processes that run them, and the report.

`engine.bench.runner` is the way in. Rules: warm up before counting, count a task when it has ended, repeat
and give the median with its spread, say the CPU of every side, and run rivals in turn in the same run.
"""
