"""One module a subcommand: `configure(parser)` and `run(args) -> int`. Imported only when its command is chosen."""
