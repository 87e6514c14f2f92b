"""What every parameter of an architecture is called."""

PREFIX = "arch/"
