//! Key by key, what the broker answers: each error code and edge has its request here.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

#[path = "../common/mod.rs"]
mod common;

mod admin;
mod configs;
mod fetching;
mod network;
mod producing;
mod telemetry;
