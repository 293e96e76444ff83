"""Batches, devices and the loop that overlaps loading, computing and copying.

Invariant: batches are planned from lengths alone, and a vector depends on its sequence and the plan, never
on timing. It knows neither queue nor store.
"""
