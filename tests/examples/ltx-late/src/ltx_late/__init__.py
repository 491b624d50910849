"""Sounds whose end matters."""
