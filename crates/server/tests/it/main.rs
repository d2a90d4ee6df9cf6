//! The binary as people and programs use it.

mod commands;
mod devices;
mod documents;
mod elsewhere;
mod home;
mod refusals;
mod serving;
