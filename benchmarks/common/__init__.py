"""What several benchmarks share: inputs, models, tables, and facts about the machine."""
