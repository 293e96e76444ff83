"""A model of the lease and fence protocol, small enough to visit every state it can reach.

It follows queue_app/coordination/manifest.lua, queue_app/coordination/messages.py,
queue_app/worker/leases.py, checkpoint/store.py, gpu_tasks/shard/overlap/, gpu_tasks/shard/attempt.py,
gpu_tasks/shard/shard_run.py and
queue_app/job/done_records.py call by call: what is one atomic step there (a Lua call, an LMDB transaction, a
rename, a link) is one step here, and everything may happen between two steps. A batch has one record.
`announce` alone is taken as few steps: its look at the done files, each shard that it reopens, and all its
calls to the server. So is an export: what it reads, and what it writes if that counts still.

    setup         what is searched: which guards stand, which faults may happen
    manifest      the server's part: the operations of manifest.lua
    world         everything at one moment: server, disks, the workers' memories
    worker        what a worker does next with its shard
    surroundings  what else may happen: broker, reconciler, producer, user, and every fault
    promises      what must hold at every step
    search        all of it, breadth first

Each knows only those above it.
"""
