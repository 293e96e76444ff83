"""What the parent of a Celery worker does beside consuming: its device, the heartbeat, the reconciler that
brings lost work back, the watch over its child.

Invariant: the parent never touches CUDA, and its death costs nothing but time. `python -m queue_app.worker`
is Celery's own worker command without the others.
"""
