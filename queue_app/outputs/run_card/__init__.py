"""The run card beside an output, made from the job directory alone.

To add a line: a fact in `card` (or `faults_and_speed`, if it is counted), its words in `markdown` and its key
in `card_json`. A published model is a row of `known_models`, what it is cited by one of `publications`.
"""
