"""Random companies: with `--exact` a vector has the same bits alone and beside anything, on the processor."""
