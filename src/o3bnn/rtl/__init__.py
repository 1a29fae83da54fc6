"""The accelerator as generated hardware (planned)."""
