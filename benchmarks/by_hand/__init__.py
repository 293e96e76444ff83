"""The whole command beside what one would write by hand."""
