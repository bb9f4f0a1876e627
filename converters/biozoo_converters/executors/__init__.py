"""What runs in confined child processes for the converters."""
