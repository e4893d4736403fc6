"""What the cells of a matrix found together: tables and plots, one page, Markdown, JSON."""
