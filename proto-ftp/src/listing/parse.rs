//! LIST as servers write it, read by a table of dialects.
