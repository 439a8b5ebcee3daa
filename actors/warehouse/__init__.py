"""The warehouse service: packs orders."""
