"""Answers that a model gives token by token: what it is fed back, how tokens are chosen, chats.

numpy alone, and jinja2 for chat templates: it runs on a board, and knows no task.
"""
