"""Results for people and for other programs: JSON, one HTML page, Markdown, the terminal."""
