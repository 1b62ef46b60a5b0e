//! What docs/json.md shows is what the program says.
