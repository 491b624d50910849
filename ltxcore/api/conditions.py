"""Conditions: keys that several of them have. Provisional until 1.0."""

from ltxcore.condition_keys import level_key, strength_key

__all__ = ["level_key", "strength_key"]
