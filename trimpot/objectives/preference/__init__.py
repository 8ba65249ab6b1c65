"""Objectives that fit the policy to preference pairs directly."""
