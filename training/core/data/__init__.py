"""From files and hub datasets to rows for a trainer, with every row accounted for."""
