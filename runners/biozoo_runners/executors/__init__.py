"""What runs in a confined child process: one class per kind of foreign code (see `..isolated`)."""
