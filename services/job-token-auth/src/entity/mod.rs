//! The tables that are read row by row, as sea-orm entities.
