"""What a worker fails at that is no fault of the shard, and whose failure it is."""
