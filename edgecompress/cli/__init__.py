"""The command line: options and what is printed; the work is that of `edgecompress.api`."""
