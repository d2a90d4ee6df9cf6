//! Tests of the store as its users see it.

mod contract;
mod crash;
mod database;
mod file;
mod full_disk;
mod model;
mod network;
mod rows;
