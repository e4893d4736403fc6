"""What runs on the board beside the agent: a small process that owns the cache folder there.

Its source is sent over the connection (`boot`) and run by the board's own Python (3.9 or later,
standard library only), so nothing is installed. It does what SFTP cannot (compare digests, link,
sweep) and ends with the connection: it removes its own job folders then, whatever happened. It
sleeps in `select` between two requests, so it takes nothing from a timing.

Requests and answers are JSON, one a line; an empty line is a heartbeat. Layout of the cache::

    .edgecompress            the folder was made by us, so that it may be removed again
    files/<sha256>/<name>    what was carried over, by content; <name>.part is not whole yet
    models/<digest>/…        hard links to them, side by side as a graph needs its external data
    jobs/<session>/<number>/ one job each; a session's folder goes with its RPC server
    venv -> venv-<key>       what `edgecompress targets prepare` made
"""
