//! The store against a plain model in memory: random batches, the same rows.
