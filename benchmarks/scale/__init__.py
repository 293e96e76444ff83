"""How far one server goes: many shards, and many workers that ask it."""
