"""Holdfast beside other systems while workers are killed and records are bad."""
