"""How soon a shard goes on after its whole worker was killed."""
