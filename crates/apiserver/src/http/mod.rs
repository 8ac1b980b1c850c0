//! The wire: connections, bodies, negotiation, answers.

pub(crate) mod body;
pub(crate) mod negotiate;
pub(crate) mod query;
pub(crate) mod respond;
pub(crate) mod server;
pub(crate) mod target;
