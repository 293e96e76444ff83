"""The chaos runner: many jobs, real workers, a real server, and faults drawn from a seed.

`runner` tells the story; `stage` owns the processes, `machine` the disk and clocks that they share, the
`*_faults` modules what happens to them, `inputs` and `jobs` what is computed, `killpoints` what strikes
inside a worker; `journal` reads the workers' logs, `rework` what they noted as computed and committed;
`oracle` gives the verdict, `report` the table.
"""
