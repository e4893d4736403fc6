"""Boards over SSH: the agent runs there, everything else here.

`target` is what measures. One thread of this process holds all connections (`loop`), one per board
is kept open and made again when it was lost (`connection`, `hostkeys`). A small process on the
board (`rpc_server`, asked by `rpc_client`) owns the only folder that is written to there; files
are carried by content (`board`, `transfer`), jobs run in folders of their own (`launch`), and
nothing but that folder outlives a connection. `check` says what a board is and lacks, `prepare`
gives it what it needs.
"""
