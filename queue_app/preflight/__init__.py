"""Before a job: `holdfast plan` tells what it would be, `holdfast doctor` what this host lacks.

Invariant: nothing is made or changed. To add a check of the doctor: a function from settings to findings in
one of the `check_*` modules, and its row in `doctor`.
"""
