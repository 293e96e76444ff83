"""What is looked at on the stand-in, a module each: `check(standin)` yields findings."""
