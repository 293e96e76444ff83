"""Child processes of commands that may not import torch themselves: JSON in, JSON out."""
