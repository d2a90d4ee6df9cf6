//! Secrets of every kind that somebody found.

pub(crate) mod identify;
