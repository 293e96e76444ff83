"""The parts of the check, a process each: `run(check)` yields what it found."""
