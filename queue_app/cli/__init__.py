"""The command line: parsing and printing only.

Invariant: everything heavy is imported inside the commands, `holdfast --help` is there at once. To add a
command: a function in one of the `*_commands` modules, registered in `main`; docs/command_line.md is made
from it.
"""
