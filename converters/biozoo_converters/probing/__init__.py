"""What running a network tells of it: sizes, axes, types, context."""
