"""A fuzzer for all that reads bytes of a store."""
