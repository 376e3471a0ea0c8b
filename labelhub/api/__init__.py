"""The API: what the pages do, for programs. It ends in the same functions as they do.

`base` has what every route shares, `urls` lists them, and the other modules are one
noun each. docs/api.md says what is promised.
"""
