"""What a notebook or a script calls: a function for each command, by the same names.

The command line parses options, calls these and prints what they give. Results are frozen values
that print as tables in a terminal and as HTML in a notebook.
"""
