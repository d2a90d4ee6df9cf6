//! Tests of the store as its users see it.

mod contract;
mod database;
mod model;
mod rows;
