"""Whether what a worker computes of a job can be trusted, and what computes a record again in float32.

A device is held against the processor or against others (`canary_check`), int8 against float32 on the job's
own records (`certify`); what fewer bits do not hold is computed by `float32_runner`.
"""
