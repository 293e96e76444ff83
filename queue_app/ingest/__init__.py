"""From what a user named to a job in its directory: request, records, checks, shards.

Invariant: every record of the input has an ordinal, and is in a shard, in twins.arrow, or refused before
the job is made. To add an option, see `request.EmbedRequest`.
"""
