//! Kafka's protocol: messages, records of internal topics, record batches. Bytes in, structs out, no I/O.
//!
//! ```text
//! frame::RequestHead::read(frame) -> (head, reader)      messages::FetchRequest::read(&mut reader, head.version)
//! frame::response(correlation_id, version, &message) -> chunks
//! internal::{encode_key, decode_value, ...}              records of __consumer_offsets and its siblings
//! metadata::{encode, Framed}                             records of __cluster_metadata
//! record::{Batch, records, Builder}                      record batches, zero copy
//! ```
//!
//! What is in `generated/` is made by `cargo xtask codegen kafka` from the definitions in Kafka's jars.
//! A message's own struct is `messages::FetchRequest`, the structs inside are in `messages::fetch_request`.

pub mod api;
pub mod codec;
pub mod error;
pub mod frame;
mod generated;
pub mod internal;
pub mod metadata;
pub mod record;

pub use api::ApiKey;
pub use codec::{DecodeError, EncodeError, Encoder, Message, Reader, Wire};
pub use error::ErrorCode;
pub use generated::table::MESSAGES;
pub use generated::{messages, records};
pub use uuid::Uuid;
