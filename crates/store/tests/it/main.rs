//! Tests of the store as its users see it.
