"""The run card beside an output, made from the job directory alone.

To add a line: a fact in `card` (or `faults_and_speed`, if it is counted), its words in `markdown`.
"""
