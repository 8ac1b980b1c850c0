// Made by `cargo xtask codegen kafka`; not to be edited.

#![allow(clippy::field_reassign_with_default, clippy::single_match)]
pub mod api;
pub mod error;
pub mod messages;
pub mod metadata;
pub mod records;
pub mod table;
