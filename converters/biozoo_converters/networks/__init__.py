"""Networks before they are packages: built from an author's code, a file or a package, and run."""
