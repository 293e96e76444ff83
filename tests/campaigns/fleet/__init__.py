"""The fleet campaign: a real server and real workers on hosts that are namespaces of this machine.

Each host has its own network, process table, mounts, host name, boot id and scratch. Compute is replaced by a
sleep for each token, so that the figures tell of the schedule, and not of the cores of this machine.

`namespaces` takes the rights and makes the network, `host` and `server` are what stands in it, `fleet` brings
them up and submits jobs, `log_events` reads what the workers logged. `bad_hosts`, `zombies`, `sharing`,
`scaling` and `outages` are the scenarios, `scenarios` lists them; `random_faults` and `chaos` break hosts at
random. `figures` is the table.
"""
