"""A worker's Prometheus metrics: counters that outlive its processes, collected and served.

To add a metric: a counter in `counters` and its name and meaning in `families`.
"""
