"""The warehouse: packs what was ordered."""
