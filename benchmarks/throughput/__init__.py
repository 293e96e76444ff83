"""How fast Holdfast computes: beside other systems, the machine's roof, and its own bare loop."""
