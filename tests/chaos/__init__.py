"""The chaos runner: many jobs, real workers, a real server, and faults drawn from a seed.

`runner` tells the story; `stage` owns the processes, `faults` what happens to them, `jobs` the producers,
`journal` what the workers' logs say, `oracle` the verdict, `report` the table.
"""
