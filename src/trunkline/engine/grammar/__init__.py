"""Constrained output: grammars checked in a process of their own, masks filled in the core.

The front asks `compiler.GrammarCompiler` for the llguidance source of a request's grammar and
sends it to the core in `AddGroup.grammar`; the core's `masker.Masker` follows each row with it.
Nothing here is imported before the first request that has a grammar.
"""
