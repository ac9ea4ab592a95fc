"""The numbers of the plain step of DRAW and GLAS, in less time."""
