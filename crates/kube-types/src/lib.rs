//! API machinery without I/O: what every kind of object obeys, whoever serves it.
//!
//! The life of a write, as the API server walks it:
//!
//! ```text
//! bytes --decode--> Value --defaults--> --strategy--> --validate--> --apply (managedFields)--> stored
//!          |                    (patch::* and apply::server_side_apply start from the live Value)
//!          +-- schema: one table of facts about every type, generated from the OpenAPI document
//! ```
//!
//! Objects are [`serde_json::Value`]s all the way. Every kind is a [`registry::Resource`]: a schema plus a
//! strategy. Nothing here reads a clock, a file or a socket; `now` is an argument.

pub mod apply;
pub mod convert;
pub mod decode;
pub mod defaults;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod path;
pub mod print;
pub mod quantity;
pub mod registry;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod time;
pub mod validate;
