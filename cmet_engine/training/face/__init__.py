"""Training of the small models between landmarks and coefficients: mean face, basis and solver."""
