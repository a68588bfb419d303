"""A trained pipeline on plates of one's own: packs, calls of mechanisms, and how far to believe them."""
